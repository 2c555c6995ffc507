import asyncio
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest

from edgecache import config
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import ManualClock
from edgecache.embed.batcher import Batcher
from edgecache.embed.hashing import HashingEmbedder
from edgecache.errors import NotFound, StoreError
from edgecache.pipeline.feedback import Feedback
from edgecache.pipeline.guard import CacheSide
from edgecache.pipeline.learner import Learner
from edgecache.pipeline.sightings import Sightings
from edgecache.store.entries import EntryStore
from edgecache.store.vectors import VectorIndex
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import CacheKey, Candidate, Endpoint, Entry, Judgement, Verdict

SCOPE = bytes(16)


def digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=32).digest()


def key(text: str = "asked", tenant: str = "acme") -> CacheKey:
    return CacheKey(tenant, "", "m", SCOPE, digest(text), text)


class People:
    """Requests and verdicts on a store that can be closed and opened again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.open()

    def open(self) -> None:
        settings = config.Store(sync=False, initial_map_bytes=1024**2, max_bytes=64 * 1024**2)
        self.store = EntryStore(self._folder, settings, clock=self.clock, metrics=self.metrics)
        self.learner = Learner(self.store, clock=self.clock, metrics=self.metrics, config=config.Config())
        self.feedback = Feedback(
            self.store, self.learner, self._sightings(settings), clock=self.clock, metrics=self.metrics
        )

    def _sightings(self, settings: config.Store) -> Sightings:
        """For entries that are held back; here are none, so neither index nor embedder is started."""
        embedder = HashingEmbedder()
        self.index = VectorIndex(settings, dimension=embedder.dimension, rng=Random(0))
        tier = SemanticTier(self.store, self.index, embedder=embedder.fingerprint, path=self._folder / "index")
        batcher = Batcher(embedder, config.Embed(model="hashing"), self.metrics, self.clock)
        return Sightings(
            tier, batcher, CacheSide(clock=self.clock, metrics=self.metrics), Tasks(), metrics=self.metrics
        )

    def close(self) -> None:
        self.index.close()
        self.store.close()

    async def again(self) -> None:
        await self.learner.flush()
        self.close()
        self.open()

    async def stored(self, text: str = "stored", tenant: str = "acme") -> Entry:
        entry = Entry(tenant, "", "m", SCOPE, digest(text), text, Endpoint.CHAT, b"{}", 0.0, 1e10)
        found = self.store.get(await self.store.put(entry, None))
        assert found is not None
        return found

    def hit(self, entry: Entry, request_id: str = "r", asked: str = "asked") -> None:
        candidate = Candidate(entry.id, 0.9, entry.text or "")
        verdict = Verdict(candidate, "budget", "", (Judgement(candidate, 0.01),), risk=0.02, limit=0.1)
        self.learner.served(request_id, key(asked), entry, verdict)

    def counted(self, verdict: str) -> float:
        return self.metrics.registry.get_sample_value("edgecache_feedback_total", {"verdict": verdict}) or 0.0


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    made = People(tmp_path)
    yield made
    made.close()


async def test_bad_on_a_hit_ends_the_pair_for_good_and_the_entry_goes_on(people: People) -> None:
    entry = await people.stored()
    people.hit(entry)
    before = people.learner.segment(key()).offset
    done = await people.feedback.on_request("acme", "r", good=False, note="no")
    assert (done.effect, done.verdict, done.entry, done.request_id) == ("pair-evicted", "bad", entry.id, "r")
    assert people.learner.segment(key()).offset > before
    assert people.learner.segment(key()).wrong == 0  # nobody chose this hit by chance: it moves risks, no estimate
    for restarted in (False, True):
        if restarted:
            await people.again()
        assert people.learner.refused(entry, key()) == "bad-pair"
        assert people.learner.refused(entry, key("other")) is None
        assert people.learner.tracks([entry])[entry.id].wrong == 1
        assert people.store.get(entry.id) is not None
    assert people.feedback.report()["bad"][0] | {"note": "no", "stored": "stored"} == people.feedback.report()["bad"][0]


async def test_good_on_a_hit_confirms_the_pair(people: People) -> None:
    entry = await people.stored()
    people.hit(entry)
    assert (await people.feedback.on_request("acme", "r", good=True)).effect == "pair-confirmed"
    await people.again()
    assert people.learner.confirmed(entry, key())
    assert people.learner.tracks([entry])[entry.id].right == 1


@pytest.mark.parametrize("good", [True, False])
async def test_the_same_verdict_twice_counts_once_also_at_the_same_time_and_after_a_restart(
    people: People, *, good: bool
) -> None:
    entry = await people.stored()
    people.hit(entry)
    done = await asyncio.gather(*(people.feedback.on_request("acme", "r", good=good) for _ in range(5)))
    await people.again()
    done.append(await people.feedback.on_request("acme", "r", good=good))
    assert all(each == done[0] for each in done)
    track = people.learner.tracks([entry])[entry.id]
    assert track.right + track.wrong == 1
    assert people.learner.segment(key()).labels == 1
    assert people.counted("good" if good else "bad") == 1


@pytest.mark.parametrize("minds", [[True, False], [False, True], [False, True, False]])
async def test_a_changed_mind_replaces_what_was_said(people: People, minds: list[bool]) -> None:
    entry = await people.stored()
    people.hit(entry)
    people.hit(entry, "once", "another wording")
    for good in minds:
        await people.feedback.on_request("acme", "r", good=good)
        await people.again()
    assert people.learner.confirmed(entry, key()) is minds[-1]
    assert (people.learner.refused(entry, key()) is None) is minds[-1]
    track, segment = people.learner.tracks([entry])[entry.id], people.learner.segment(key())
    assert (track.right, track.wrong) == (int(minds[-1]), int(not minds[-1]))
    assert segment.labels == 1
    assert (segment.offset < 0) is minds[-1]


async def test_bad_on_the_answer_to_ones_own_question_removes_it(people: People) -> None:
    entry = await people.stored()
    people.learner.answered("r", key("stored"), entry)
    assert (await people.feedback.on_request("acme", "r", good=True)).effect == "answer-confirmed"
    assert people.store.get(entry.id) is not None
    for _ in range(2):
        assert (await people.feedback.on_request("acme", "r", good=False)).effect == "answer-purged"
        assert people.store.get(entry.id) is None
    assert people.counted("bad") == 1
    fresh = await people.stored()
    assert people.learner.refused(fresh, key("stored")) is None  # the next answer to it may be right
    assert len(people.feedback.report()["bad"]) == 1


async def test_bad_on_an_entry_removes_it_with_what_was_learned_of_it(people: People) -> None:
    entry = await people.stored()
    people.hit(entry)
    await people.feedback.on_request("acme", "r", good=True)
    assert (await people.feedback.on_entry("acme", entry.id, good=True)).effect == "answer-confirmed"
    assert (await people.feedback.on_entry("acme", entry.id, good=False)).effect == "answer-purged"
    assert people.store.find(entry.digest) is None
    assert people.learner.tracks([entry]) == {}
    assert not people.learner.confirmed(entry, key())
    with pytest.raises(NotFound):
        await people.feedback.on_entry("acme", entry.id, good=False)


async def test_a_tenant_reaches_its_own_only_and_an_operator_every_entry(people: People) -> None:
    entry = await people.stored()
    people.hit(entry)
    with pytest.raises(NotFound):
        await people.feedback.on_request("else", "r", good=False)
    with pytest.raises(NotFound):
        await people.feedback.on_entry("else", entry.id, good=False)
    assert people.store.get(entry.id) is not None
    assert people.learner.refused(entry, key()) is None
    await people.feedback.on_entry(None, entry.id, good=False, origin="operator")
    assert people.store.get(entry.id) is None


async def test_a_request_is_known_for_a_while_only(people: People) -> None:
    people.hit(await people.stored())
    people.clock.advance(config.Config().cache.learning.feedback_window + 1)
    with pytest.raises(NotFound):
        await people.feedback.on_request("acme", "r", good=False)


async def test_one_client_does_not_take_back_what_another_called_bad(people: People) -> None:
    entry = await people.stored()
    people.hit(entry, "one")
    people.hit(entry, "two")
    assert (await people.feedback.on_request("acme", "one", good=False)).effect == "pair-evicted"
    assert (await people.feedback.on_request("acme", "two", good=True)).effect == "noted"
    assert people.learner.refused(entry, key()) == "bad-pair"
    assert (await people.feedback.on_request("acme", "one", good=True)).effect == "pair-confirmed"


async def test_a_pair_stays_bad_when_the_entry_itself_is_called_bad_and_stored_anew(people: People) -> None:
    entry = await people.stored()
    people.hit(entry, "one")
    await people.feedback.on_request("acme", "one", good=False)
    await people.feedback.on_entry("acme", entry.id, good=False)
    assert people.learner.refused(await people.stored(), key()) == "bad-pair"


async def test_an_operator_is_not_overruled(people: People) -> None:
    entry = await people.stored()
    people.hit(entry, "one")
    people.hit(entry, "two")
    await people.feedback.on_request("acme", "one", good=True, origin="operator")
    assert (await people.feedback.on_request("acme", "two", good=False)).effect == "noted"
    assert people.learner.confirmed(entry, key())
    assert people.learner.tracks([entry])[entry.id].wrong == 1
    await people.feedback.on_entry("acme", entry.id, good=True, origin="operator")
    assert (await people.feedback.on_entry("acme", entry.id, good=False)).effect == "noted"
    assert people.store.get(entry.id) is not None


async def test_what_could_not_be_stored_is_not_acknowledged_and_can_be_said_again(people: People) -> None:
    entry = await people.stored()
    people.hit(entry)
    await people.learner.flush()
    people.close()
    with pytest.raises(StoreError):
        await people.feedback.on_request("acme", "r", good=False)
    people.open()
    assert people.learner.refused(entry, key()) is None
    assert (await people.feedback.on_request("acme", "r", good=False)).effect == "pair-evicted"
    assert people.learner.segment(key()).labels == 1


async def test_pins_and_bans_follow_the_question_and_can_be_released_by_any_of_its_ids(people: People) -> None:
    entry = await people.stored()
    assert await people.feedback.mark(entry.id, "pin") == {"entry": entry.id, "mark": "pin", "question": "stored"}
    await people.feedback.mark(entry.id, "ban")
    await people.again()
    assert people.learner.refused(entry, key("stored")) == "banned"
    assert [mark["mark"] for mark in people.feedback.report()["marks"]] == ["ban"]
    fresh = await people.stored()
    assert people.learner.refused(fresh, key("stored")) == "banned"
    await people.feedback.mark(entry.id, None)
    assert people.learner.refused(fresh, key("stored")) is None
    await people.feedback.mark(fresh.id, "ban")
    await people.feedback.mark(fresh.id, None)
    assert people.feedback.report()["marks"] == []
    await people.feedback.mark(fresh.id, None)
    for mark in ("pin", "ban", None):
        with pytest.raises(NotFound):
            await people.feedback.mark(9999, mark)
