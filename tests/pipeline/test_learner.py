import asyncio
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from edgecache import config
from edgecache.cache import budget
from edgecache.cache.evidence import Label
from edgecache.clock import ManualClock
from edgecache.pipeline import learner as module
from edgecache.pipeline.learner import Learner
from edgecache.store.entries import EntryStore
from edgecache.store.epochs import Kind, Selector
from edgecache.store.rows import Mark, Word
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import CacheKey, Candidate, Endpoint, Entry, Judgement, Verdict

SCOPE = bytes(16)
WRONG = Label(0.9, 0.01, right=False, hit=True)
RIGHT = Label(0.9, 0.01, right=True, hit=True)


def digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=32).digest()


def key(text: str = "asked", tenant: str = "acme", model: str = "m") -> CacheKey:
    return CacheKey(tenant, "", model, SCOPE, digest(text), text)


def entry(text: str = "stored", entry_id: int = 1) -> Entry:
    return Entry("acme", "", "m", SCOPE, digest(text), text, Endpoint.CHAT, b"{}", 0.0, 1e10, id=entry_id)


def hit(risk: float = 0.02) -> Verdict:
    candidate = Candidate(1, 0.9, "stored")
    return Verdict(candidate, "budget", "", (Judgement(candidate, 0.01),), risk=risk, limit=0.1)


class Restartable:
    """A learner on a store that can be closed and opened again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.open()

    def open(self) -> Learner:
        settings = config.Store(sync=False, initial_map_bytes=1024**2, max_bytes=64 * 1024**2)
        self.store = EntryStore(self._folder, settings, clock=self.clock, metrics=self.metrics)
        self.learner = Learner(self.store, clock=self.clock, metrics=self.metrics, config=config.Config())
        return self.learner

    def again(self) -> Learner:
        self.store.close()
        return self.open()

    def counted(self, source: str, result: str) -> float | None:
        return self.metrics.registry.get_sample_value("edgecache_labels_total", {"source": source, "result": result})


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Restartable]:
    made = Restartable(tmp_path)
    yield made
    made.store.close()


async def test_without_evidence_nothing_is_refused_or_confirmed(it: Restartable) -> None:
    learner = it.learner
    assert learner.refused(entry(), key()) is None
    assert not learner.confirmed(entry(), key())
    assert learner.tracks([entry()]) == {}
    assert not learner.banned(key())


async def test_a_hit_that_was_wrong_ends_that_pair_and_no_other_also_after_a_restart(it: Restartable) -> None:
    await it.learner.learn(key(), entry(), WRONG)
    for restarted in (False, True):
        learner = it.again() if restarted else it.learner
        assert learner.refused(entry(), key()) == "bad-pair"
        assert learner.refused(entry(), key("stored")) is None
        assert learner.refused(entry(), key("another")) is None
        assert learner.tracks([entry(), entry("else", 2)])[1].wrong == 1
        assert learner.segment(key()).wrong == 1
    assert it.counted("shadow", "wrong") == 1


async def test_a_hit_that_was_right_confirms_its_pair(it: Restartable) -> None:
    await it.learner.learn(key(), entry(), RIGHT)
    assert it.again().confirmed(entry(), key())
    assert not it.learner.confirmed(entry(), key("another"))


@pytest.mark.parametrize("right", [True, False])
async def test_what_a_miss_teaches_moves_the_risk_and_decides_on_no_pair(it: Restartable, *, right: bool) -> None:
    await it.learner.learn(key(), entry(), Label(0.9, 0.01, right=right, hit=False))
    assert it.learner.refused(entry(), key()) is None
    assert not it.learner.confirmed(entry(), key())
    assert it.learner.segment(key()).labels == 1
    assert it.counted("miss", "right" if right else "wrong") == 1


async def test_a_comparison_does_not_overrule_a_person(it: Restartable) -> None:
    spoken = Word("acme", entry().digest, key().digest, True, "feedback", 1.0)
    await it.store.evidence.write(word=spoken)
    await it.learner.learn(key(), entry(), WRONG)
    assert it.learner.confirmed(entry(), key())


async def test_a_pinned_entry_loses_nothing_by_comparisons_but_the_segment_learns(it: Restartable) -> None:
    await it.store.evidence.set_mark(Mark("acme", entry().digest, "pin", 1, 1.0))
    await it.learner.learn(key(), entry(), WRONG)
    assert it.learner.refused(entry(), key()) is None
    assert it.learner.tracks([entry()]) == {}
    assert it.learner.segment(key()).wrong == 1
    await it.learner.learn(key(), entry(), RIGHT)
    assert it.learner.confirmed(entry(), key())


async def test_a_banned_entry_serves_nobody_and_its_question_is_not_stored(it: Restartable) -> None:
    await it.learner.learn(key(), entry(), RIGHT)
    await it.store.evidence.set_mark(Mark("acme", entry().digest, "ban", 1, 1.0))
    assert it.learner.refused(entry(), key()) == "banned"
    assert it.learner.refused(entry(), key("stored")) == "banned"
    assert not it.learner.confirmed(entry(), key())
    assert it.learner.banned(key("stored"))
    assert not it.learner.banned(key("asked"))


async def test_a_semantic_hit_is_counted_and_remembered_with_the_prior_risk(it: Restartable) -> None:
    it.learner.served("r1", key(), entry(), hit(risk=0.02))
    it.learner.answered("r2", key("stored"), entry())
    segment = it.learner.segment(key())
    assert (segment.hits, segment.expected) == (1, 0.02)
    serve = it.store.evidence.serve("acme", "r1")
    assert serve is not None
    assert (serve.risk, serve.similarity, serve.own) == (0.01, 0.9, False)
    own = it.store.evidence.serve("acme", "r2")
    assert own is not None
    assert own.own


async def test_a_hit_that_a_word_decided_is_remembered_with_the_risk_it_has(it: Restartable) -> None:
    it.learner.served("r1", key(), entry(), Verdict(Candidate(1, 0.9, "stored"), "confirmed", "", risk=0.3))
    serve = it.store.evidence.serve("acme", "r1")
    assert serve is not None
    assert serve.risk == 0.3


async def test_requests_are_forgotten_after_the_window(it: Restartable) -> None:
    it.learner.served("r1", key(), entry(), hit())
    await it.learner.flush()
    assert it.again().segment(key()).hits == 1
    assert it.store.evidence.serve("acme", "r1") is not None
    it.clock.advance(config.Config().cache.learning.feedback_window + 1)
    await it.learner.flush()
    assert it.store.evidence.serve("acme", "r1") is None


async def test_counts_of_a_segment_are_stored_with_the_next_flush(it: Restartable) -> None:
    for _ in range(5):
        budget.requested(it.learner.segment(key()), 0.1)
    await it.learner.flush()
    assert it.again().segment(key()).requests == 5
    assert it.learner.segment(key(tenant="else")).requests == 0


async def test_labels_on_one_entry_at_the_same_time_all_count(it: Restartable) -> None:
    await asyncio.gather(*(it.learner.learn(key(f"q{n}"), entry(), RIGHT) for n in range(50)))
    assert it.learner.tracks([entry()])[1].right == 50
    assert it.again().tracks([entry()])[1].right == 50
    assert it.learner.segment(key()).right == 50


async def test_the_segment_asked_for_least_recently_makes_room(it: Restartable) -> None:
    learner = it.learner
    budget.requested(learner.segment(key(model="first")), None)
    budget.requested(learner.segment(key(model="second")), None)
    await learner.flush()
    learner.segment(key(model="first"))
    await learner.flush()
    for number in range(module.MAX_SEGMENTS - 1):
        learner.segment(key(model=f"m{number}"))
    await learner.flush()
    learner = it.again()
    assert len(learner.report()["segments"]) == 100
    assert learner.segment(key(model="first")).requests == 1
    assert learner.segment(key(model="second")).requests == 0


@pytest.mark.parametrize(
    ("selector", "left"), [(Selector(Kind.ALL), 0), (Selector(Kind.TENANT, "acme"), 1), (Selector(Kind.MODEL, "m"), 2)]
)
async def test_a_purge_forgets_segments_and_they_do_not_come_back(
    it: Restartable, selector: Selector, left: int
) -> None:
    for tenant in ("acme", "else"):
        budget.requested(it.learner.segment(key(tenant=tenant)), None)
    await it.learner.flush()
    await it.store.purge(selector)
    await it.learner.flush()
    for restarted in (False, True):
        learner = it.again() if restarted else it.learner
        assert len(learner.report()["segments"]) == left


async def test_evidence_that_this_version_cannot_read_counts_as_none(it: Restartable) -> None:
    await it.learner.learn(key(), entry(), WRONG)
    await it.store.evidence.write(track=("acme", entry().digest, b"\xc1"))
    assert it.learner.tracks([entry()]) == {}
    await it.learner.learn(key("b"), entry(), RIGHT)
    assert it.learner.tracks([entry()])[1].right == 1


async def test_the_report_has_the_rate_with_its_interval_busiest_segment_first(it: Restartable) -> None:
    for model, requests in (("m", 10), ("n", 20)):
        for _ in range(requests):
            budget.requested(it.learner.segment(key(model=model)), 0.01)
            it.learner.served("r", key(model=model), entry(), hit())
    await it.learner.learn(key(), entry(), WRONG)
    report = it.learner.report()
    assert [part["model"] for part in report["segments"]] == ["n", "m"]
    assert report["total"]["requests"] == 30
    assert report["total"]["low"] < report["total"]["rate"] < report["total"]["high"]
    assert report["segments"][1] | {"labels": 1, "wrong": 1, "drifted": False} == report["segments"][1]


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


async def test_in_the_background_everything_is_stored_and_shown(it: Restartable) -> None:
    tasks = Tasks()
    tasks.spawn(it.learner.run(0.01), name="learner")
    budget.requested(it.learner.segment(key()), 0.01)
    it.learner.served("r1", key(), entry(), hit())
    await eventually(lambda: bool(it.store.evidence.segments()))
    await eventually(
        lambda: (it.metrics.registry.get_sample_value("edgecache_wrong_hit_rate", {"bound": "estimate"}) or 0.0) > 0.0
    )
    await tasks.close()
    it.again()
    assert it.store.evidence.serve("acme", "r1") is not None
