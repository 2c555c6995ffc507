"""The hit decision with real parts around it: a scorer with made-up weights, a real verifier thread, real evidence."""

import random
from collections.abc import AsyncIterator, Sequence

import msgspec
import numpy as np
import pytest

from edgecache.cache import features
from edgecache.cache.evidence import Label
from edgecache.cache.policy import Decision
from edgecache.cache.scorer import Scorer
from edgecache.clock import SystemClock
from edgecache.config import Embed, HitPolicy
from edgecache.embed.base import Matrix, Pair, TokenIds
from edgecache.embed.verifier import Verifier
from edgecache.errors import EmbedError
from edgecache.pipeline.decider import Decider
from edgecache.pipeline.guard import CacheSide
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheKey, Endpoint, Entry
from tests.conftest import Pop

QUESTION = "How do I boil an egg?"
SAME = "how do i boil an egg"
CLOSE = "What is the way to boil eggs?"
FAR = "How do I boil a lobster?"
LONG = "egg " * 300


class Words:
    """An engine as quick as its rule: a pair that shares the word `egg` has a logit of 9, any other of -9."""

    name = "words"
    dimension = 1
    window = 64
    broken = False

    def tokenise(self, texts: Sequence[Pair]) -> list[TokenIds]:
        return [[int("egg" in pair.one and "egg" in pair.other)] + [2] * (len(pair.other.split())) for pair in texts]

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        if self.broken:
            raise EmbedError("broken")
        return np.array([[9.0 if ids[0] else -9.0] for ids in batch], np.float32)


def scorer() -> Scorer:
    """A scorer that goes by the logit alone."""
    names = features.NAMES
    logit = [1.0 if name == "logit" else 0.0 for name in names]
    zeros, ones = [0.0] * len(names), [1.0] * len(names)
    file = {
        "format": 1,
        "names": names,
        "mean": zeros,
        "scale": ones,
        "low": [-100.0] * len(names),
        "high": [100.0] * len(names),
        "members": [{"hidden": [[weight] for weight in logit], "bias": [0.0], "out": [-1.0], "shift": 0.0}],
        "slope": 9.0,
        "offset": 0.0,
        "clear": 0.3,
        "identical": 0.0005,
    }
    return Scorer.decode(msgspec.json.encode(file))


KEY = CacheKey("default", "", "m", b"s" * 16, b"asked" * 6 + b"__", QUESTION)


def entry(number: int, text: str) -> Entry:
    digest = bytes([number]) * 32
    return Entry("default", "", "m", KEY.scope, digest, text, Endpoint.CHAT, b"{}", 0.0, 1e12, id=number)


@pytest.fixture
async def engine() -> Words:
    return Words()


@pytest.fixture
async def decider(pop: Pop, engine: Words) -> AsyncIterator[Decider]:
    verifier = Verifier(engine, Embed(deadline=5.0), pop.daemon.metrics, SystemClock())
    verifier.start()
    side = CacheSide(clock=SystemClock(), metrics=pop.daemon.metrics)
    yield Decider(pop.daemon.parts.learner, side, verifier=verifier, scorer=scorer(), rng=random.Random(1))
    verifier.close()


def decision(floor: float = 0.4, **policy: object) -> Decision:
    return Decision(True, True, True, False, None, None, 60.0, floor, HitPolicy(**policy))


async def ruled(decider: Decider, *candidates: tuple[int, str, float], asked: Decision | None = None):
    seen = [(entry(number, text), similarity) for number, text, similarity in candidates]
    return await decider.decide(KEY, seen, asked or decision(policy="threshold", threshold=0.9), Trace(SystemClock()))


async def test_the_verifier_decides_among_candidates_in_other_words(decider: Decider) -> None:
    found = await ruled(decider, (1, FAR, 0.95), (2, CLOSE, 0.8))
    assert found.verdict.accepted is not None
    assert found.verdict.accepted.entry_id == 2
    assert [(each.candidate.entry_id, each.logit) for each in found.verdict.judgements] == [(2, 9.0), (1, -9.0)]
    assert found.best is found.verdict.judgements[0]
    assert 0.99 < found.score < 1.0


async def test_the_time_it_waits_for_the_verifier_is_a_stage_of_its_own(decider: Decider) -> None:
    trace = Trace(SystemClock())
    await decider.decide(KEY, [(entry(1, CLOSE), 0.8)], decision(), trace)
    assert set(trace.stages) == {"score"}


@pytest.mark.parametrize("way", ["broken", "closed"])
async def test_without_the_verifiers_word_only_the_same_words_hit(
    pop: Pop, decider: Decider, engine: Words, way
) -> None:
    if way == "broken":
        engine.broken = True
    else:
        decider._verifier.close()
    assert (await ruled(decider, (1, CLOSE, 0.9))).verdict.accepted is None
    found = await ruled(decider, (1, CLOSE, 0.9), (2, SAME, 0.99))
    assert (found.verdict.rule, found.verdict.accepted.entry_id) == ("identical", 2)
    failed = pop.daemon.metrics.registry.get_sample_value("edgecache_cache_side_errors_total", {"step": "score"})
    assert failed == 2


async def test_one_pair_that_is_too_long_does_not_cost_the_others_their_score(decider: Decider) -> None:
    found = await ruled(decider, (1, LONG, 0.9), (2, CLOSE, 0.8))
    logits = {each.candidate.entry_id: each.logit for each in found.verdict.judgements}
    assert logits == {1: None, 2: 9.0}
    assert found.verdict.accepted.entry_id == 2


async def test_a_fixed_cosine_asks_no_verifier(decider: Decider) -> None:
    found = await ruled(decider, (1, FAR, 0.96), asked=decision(policy="similarity", similarity=0.95))
    assert (found.verdict.rule, found.verdict.judgements[0].logit, found.score) == ("similarity", None, None)
    assert found.best.candidate.entry_id == 1


async def test_a_bad_pair_is_out_and_the_next_candidate_has_its_chance(pop: Pop, decider: Decider) -> None:
    learner = pop.daemon.parts.learner
    await learner.learn(KEY, entry(1, CLOSE), Label(0.8, 0.01, right=False, hit=True))
    alone = await ruled(decider, (1, CLOSE, 0.8))
    assert (alone.verdict.accepted, alone.verdict.rule, alone.best) == (None, "bad-pair", None)
    assert alone.refused == {1: "bad-pair"}
    assert len(alone.verdict.judgements) == 1
    both = await ruled(decider, (1, CLOSE, 0.8), (2, "Which way do you boil an egg?", 0.7))
    assert both.verdict.accepted.entry_id == 2


async def test_a_confirmed_pair_passes_a_limit_that_refuses_it_but_not_the_floor(pop: Pop, decider: Decider) -> None:
    strict = decision(policy="threshold", threshold=1.0)
    assert (await ruled(decider, (1, CLOSE, 0.8), asked=strict)).verdict.rule == "risk"
    await pop.daemon.parts.learner.learn(KEY, entry(1, CLOSE), Label(0.8, 0.5, right=True, hit=True))
    assert (await ruled(decider, (1, CLOSE, 0.8), asked=strict)).verdict.rule == "confirmed"
    raised = decision(floor=0.85, policy="threshold")
    assert (await ruled(decider, (1, CLOSE, 0.8), asked=raised)).verdict.accepted is None


async def test_nobodys_word_is_enough_for_a_pair_that_the_verifier_rejects(pop: Pop, decider: Decider) -> None:
    await pop.daemon.parts.learner.learn(KEY, entry(1, FAR), Label(0.8, 0.5, right=True, hit=True))
    assert (await ruled(decider, (1, FAR, 0.8))).verdict.accepted is None


async def test_nothing_near_is_said_so(decider: Decider) -> None:
    found = await ruled(decider)
    assert (found.verdict.rule, found.best) == ("none-near", None)
    below = await ruled(decider, (1, CLOSE, 0.3))
    assert (below.verdict.rule, below.best) == ("floor", None)


async def test_a_pop_without_verifier_serves_the_same_words_only(pop: Pop) -> None:
    side = CacheSide(clock=SystemClock(), metrics=pop.daemon.metrics)
    bare = Decider(pop.daemon.parts.learner, side, verifier=None, scorer=None, rng=random.Random(1))
    assert (await ruled(bare, (1, CLOSE, 0.99), asked=decision())).verdict.accepted is None
    assert (await ruled(bare, (1, SAME, 0.99), asked=decision())).verdict.rule == "identical"
