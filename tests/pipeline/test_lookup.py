"""Lookups on real tiers; the order they are made in is `test_serve`'s."""

import pytest

from edgecache.cache import key as keys
from edgecache.cache import policy
from edgecache.clock import SystemClock
from edgecache.config import Cache, Semantic
from edgecache.errors import TextTooLong
from edgecache.pipeline.lookup import Found
from edgecache.telemetry.trace import Trace
from edgecache.types import Call
from tests.conftest import Pop, call, read

SETTINGS = Cache(semantic=Semantic(threshold=0.6))
QUESTION = "How do I change the oil of my old red car"


def key_of(pop: Pop, asked: Call):
    fingerprint = pop.daemon.embedder.embedder.fingerprint
    return keys.build(asked, embedder=fingerprint, end_user=False, question=keys.question(asked))


async def near(pop: Pop, asked: Call) -> Found:
    key = key_of(pop, asked)
    vector = await pop.daemon.lookup.embed(key.text)
    return await pop.daemon.lookup.semantic(
        asked, key, vector, policy.decide(asked, SETTINGS), SETTINGS, Trace(SystemClock())
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


async def test_a_near_question_is_found_with_the_word_of_every_guard(filled: Pop) -> None:
    found = await near(filled, call("how do i change the oil of my old red car?"))
    assert found.ok
    assert found.similarity > 0.9
    assert found.verdict is not None
    assert len(found.neighbours) == 1


async def test_a_refused_candidate_names_the_rule_and_stays_visible(filled: Pop) -> None:
    found = await near(filled, call("How do I not change the oil of my old red car"))
    assert not found.ok
    assert found.entry is None
    assert found.verdict is not None
    assert found.reason == found.verdict.rule
    assert len(found.neighbours) == 1


async def test_what_policy_rules_out_is_not_a_candidate(filled: Pop) -> None:
    found = await near(filled, call("how do i change the oil of my old red car?", min_fresh=10**6))
    assert not found.ok


async def test_a_text_beyond_the_window_raises_rather_than_match_on_its_beginning(pop: Pop) -> None:
    with pytest.raises(TextTooLong):
        await pop.daemon.lookup.embed("word " * 5000)
