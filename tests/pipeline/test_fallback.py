"""Stale answers and remembered refusals, through the whole pipeline."""

import json

import pytest

from edgecache.clock import ManualClock
from edgecache.config import Cache
from edgecache.types import CacheStatus, Mode
from tests.conftest import Pop, read

QUESTION = "How long is the coast of Norway?"
BODY = {"messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def pop(start_pop, core, clock: ManualClock) -> Pop:
    made = await start_pop(
        core.url,
        clock=clock,
        cache=Cache(ttl=60.0, ttl_jitter=0.0, stale_while_revalidate=30.0, stale_if_error=300.0, negative_ttl=5.0),
    )
    await read(await made.ask(QUESTION))
    await made.settled()
    return made


async def renewed(pop: Pop) -> None:
    for task in [task for task in pop.daemon.tasks if task.get_name() == "renew"]:
        await task


async def test_an_answer_just_expired_is_served_at_once_and_renewed_behind(pop: Pop, clock: ManualClock) -> None:
    clock.advance(70.0)
    stale = await pop.ask(QUESTION)
    assert (stale.cache.status, stale.cache.detail) == (CacheStatus.STALE, "stale-while-revalidate")
    await renewed(pop)
    fresh = await pop.ask(QUESTION)
    assert (fresh.cache.status, fresh.cache.age) == (CacheStatus.HIT, 0)


async def test_many_requests_for_a_stale_answer_renew_it_once(pop: Pop, clock: ManualClock, core) -> None:
    clock.advance(70.0)
    before = core.seen.requests
    for _ in range(5):
        assert (await pop.ask(QUESTION)).cache.status == CacheStatus.STALE
    await renewed(pop)
    assert core.seen.requests == before + 1


@pytest.mark.parametrize(
    "controls", [{"no_cache": True}, {"mode": Mode.REFRESH}, {"min_fresh": 1.0}, {"max_age": 1.0}], ids=str
)
async def test_a_caller_who_wants_a_new_answer_waits_for_it(pop: Pop, clock: ManualClock, controls) -> None:
    clock.advance(70.0)
    assert (await pop.ask(QUESTION, **controls)).cache.status in {CacheStatus.MISS, CacheStatus.REFRESH}


async def test_past_its_grace_an_answer_is_fetched_anew(pop: Pop, clock: ManualClock) -> None:
    clock.advance(60.0 + 31.0)
    reply = await pop.ask(QUESTION)
    assert (reply.cache.status, reply.cache.fwd) == (CacheStatus.MISS, "stale")


async def test_an_upstream_that_answers_with_a_server_error_counts_as_down(pop: Pop, clock, core) -> None:
    clock.advance(60.0 + 31.0)
    core.configure(failure_injection_rate=1.0, failure_types=("server_error",))
    reply = await pop.ask(QUESTION)
    if reply.status != 200:  # TensorRT-LLM says 400 to its own failures
        assert reply.status == 400
    else:
        assert reply.cache.detail == "stale-if-error"


async def test_a_refused_request_is_refused_again_without_asking(pop: Pop, core, clock: ManualClock) -> None:
    wrong = BODY | {"no_such_field": True}
    first = await pop.ask(wrong)
    asked = core.seen.requests
    second = await pop.ask(wrong)
    assert first.status == second.status == 400
    assert (second.cache.detail, second.body) == ("negative", first.body)
    assert core.seen.requests == asked
    clock.advance(6.0)
    assert (await pop.ask(wrong)).cache.detail != "negative"


async def test_a_refusal_holds_for_that_tenant_and_those_bytes_only(pop: Pop) -> None:
    wrong = BODY | {"no_such_field": True}
    await pop.ask(wrong)
    assert (await pop.ask(wrong, tenant="other")).cache.detail != "negative"
    assert (await pop.ask(BODY)).cache.status == CacheStatus.HIT


async def test_being_turned_away_for_load_is_not_remembered(pop: Pop, core, clock: ManualClock) -> None:
    core.configure(failure_injection_rate=1.0, failure_types=("rate_limit",))
    assert (await pop.ask("Another question?")).status == 429
    core.configure(failure_injection_rate=0.0)
    clock.advance(1.1)  # past its Retry-After: until then the upstream is left alone
    reply = await pop.ask("Another question?")
    assert (reply.status, json.loads(reply.body)["object"]) == (200, "chat.completion")


@pytest.mark.parametrize("controls", [{"no_cache": True}, {"max_age": 0.0}], ids=str)
async def test_a_remembered_refusal_does_not_answer_who_wants_a_new_answer(pop: Pop, controls) -> None:
    wrong = BODY | {"no_such_field": True}
    await pop.ask(wrong)
    assert (await pop.ask(wrong, **controls)).cache.detail != "negative"
