"""Lookups on real tiers; the order they are made in is `test_serve`'s."""

import pytest

from edgecache.cache import key as keys
from edgecache.cache import policy
from edgecache.clock import SystemClock
from edgecache.config import Cache, Semantic
from edgecache.errors import TextTooLong
from edgecache.pipeline.lookup import Found
from edgecache.telemetry.trace import Trace
from edgecache.types import Call, Mode
from tests.conftest import Pop, call, read

SETTINGS = Cache(semantic=Semantic(floor=0.5))
QUESTION = "How do I change the oil of my old red car"


def key_of(pop: Pop, asked: Call):
    fingerprint = pop.daemon.embedder.embedder.fingerprint
    return keys.build(asked, embedder=fingerprint, end_user=False, question=keys.question(asked))


async def near(pop: Pop, asked: Call, settings: Cache = SETTINGS) -> Found:
    key = key_of(pop, asked)
    vector = await pop.daemon.lookup.embed(key.text)
    return await pop.daemon.lookup.semantic(
        asked, key, vector, policy.decide(asked, settings), settings, Trace(SystemClock())
    )


@pytest.fixture
async def filled(pop: Pop) -> Pop:
    await read(await pop.ask(QUESTION))
    await pop.settled()
    return pop


def test_nothing_is_found_in_an_empty_store(pop: Pop) -> None:
    found = pop.daemon.lookup.exact(call(QUESTION), key_of(pop, call(QUESTION)))
    assert (found.entry, found.ok, found.reason) == (None, False, "absent")


async def test_an_exact_match_is_found_with_its_freshness(filled: Pop) -> None:
    asked = call(QUESTION)
    assert filled.daemon.lookup.exact(asked, key_of(filled, asked)).ok
    impatient = call(QUESTION, min_fresh=10**6)
    found = filled.daemon.lookup.exact(impatient, key_of(filled, impatient))
    assert found.entry is not None
    assert not found.ok


async def test_a_near_question_is_found_with_the_ruling_on_it(filled: Pop) -> None:
    found = await near(filled, call("how do i change the oil of my old red car?"))
    assert found.ok
    assert found.similarity > 0.9
    assert found.ruling is not None
    assert found.ruling.best is not None
    assert found.ruling.best.identical
    assert len(found.neighbours) == 1


async def test_in_shadow_mode_the_entry_is_found_and_not_served(filled: Pop) -> None:
    shadow = Cache(semantic=Semantic(floor=0.5, mode="shadow"))
    found = await near(filled, call("how do i change the oil of my old red car?"), shadow)
    assert (found.ok, found.would, found.reason) == (False, True, "shadow")
    assert found.entry is not None


async def test_every_request_that_is_looked_up_is_counted_once(filled: Pop) -> None:
    learner = filled.daemon.parts.learner
    key = key_of(filled, call(QUESTION))
    before = learner.segment(key).requests
    for asked, controls in (
        (QUESTION, {}),  # exact
        (QUESTION.lower(), {}),  # another wording
        ("Why is the sea salt", {}),  # a miss
        ("Why is the sea salt?", {"mode": Mode.EXACT}),  # a miss of the exact tier
        (QUESTION, {"no_cache": True}),  # not looked up
        (QUESTION, {"mode": Mode.BYPASS}),
    ):
        await read(await filled.ask(asked, **controls))
        await filled.settled()
    segment = learner.segment(key)
    assert (segment.requests - before, segment.hits) == (4, 1)


async def test_a_banned_entry_serves_nobody_not_even_its_own_question(filled: Pop) -> None:
    asked = call(QUESTION)
    key = key_of(filled, asked)
    entry = filled.daemon.lookup.exact(asked, key).entry
    assert entry is not None
    await filled.daemon.parts.feedback.mark(entry.id, "ban")
    found = filled.daemon.lookup.exact(asked, key)
    assert (found.entry, found.reason) == (None, "banned")


async def test_a_refused_candidate_names_the_rule_and_stays_visible(filled: Pop) -> None:
    found = await near(filled, call("How do I not change the oil of my old red car"))
    assert not found.ok
    assert found.entry is None
    assert found.ruling is not None
    assert found.reason == found.ruling.verdict.rule
    assert len(found.neighbours) == 1


async def test_what_policy_rules_out_is_not_a_candidate(filled: Pop) -> None:
    found = await near(filled, call("how do i change the oil of my old red car?", min_fresh=10**6))
    assert not found.ok


async def test_a_text_beyond_the_window_raises_rather_than_match_on_its_beginning(pop: Pop) -> None:
    with pytest.raises(TextTooLong):
        await pop.daemon.lookup.embed("word " * 5000)
