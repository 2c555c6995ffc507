"""One attempt: what it holds, and that it lets go of it, whatever ends it."""

import asyncio

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from edgecache.config import Hedging, Price
from edgecache.errors import EdgeCacheError, ResidencyRefused
from edgecache.router.attempt import Running
from edgecache.router.errand import Errand
from edgecache.router.picking import Pick
from edgecache.router.routes import Leg
from edgecache.types import Account, Terms, Tier
from tests.router.conftest import asked, attempts, outcomes, until

CHEAP, DEAR = {"price": Price(input=1.0, output=1.0)}, {"price": Price(input=2.0, output=2.0)}
OUTCOMES = {"ok", "rejected", "overloaded", "failed", "timeout", "cut", "cancelled", "hedge_lost"}


async def picked(broker, call) -> tuple[Errand, Pick]:
    """An errand for `call`, whatever may be said against it, and a place for it."""
    dispatcher = broker.dispatcher
    demand = dispatcher._desk.reader.demand(call)
    errand = Errand(
        call, demand, dispatcher._level(demand), call.account or Account(), (Leg("edge-test", True, False, "asked"),)
    )
    pick = dispatcher._picker.leg(errand, errand.legs[0])
    assert isinstance(pick, Pick)
    return errand, pick


async def test_the_last_look_before_a_prompt_leaves_is_at_the_client_that_sends_it(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"us": (core.url, {"jurisdiction": "us"})})
    call = asked()
    errand, pick = await picked(broker, call)
    errand.call = asked(terms=Terms(residency=frozenset({"de"})))  # as if the choice had been wrong
    run = Running(broker.dispatcher._desk, errand, pick)
    await run.start()
    run.taken()
    assert isinstance(run.failure.error, ResidencyRefused)
    assert core.seen.requests == 0
    broker.violations = 1
    errand.close()
    assert broker.idle
    assert outcomes(call) == [("us", "failed")]
    assert attempts(call)[0].prompt_tokens == 0


async def test_a_deadline_that_has_passed_sends_nothing(start_core, make_broker, clock) -> None:
    core = await start_core()
    broker = make_broker({"a": core.url}, clock=clock)
    call = asked()
    errand, pick = await picked(broker, call)
    clock.advance(10_000)
    run = Running(broker.dispatcher._desk, errand, pick)
    await run.start()
    run.taken()
    assert run.failure.kind == "deadline"
    assert core.seen.requests == 0
    assert attempts(call)[0].prompt_tokens == 0
    errand.close()
    assert broker.idle


async def test_an_attempt_is_booked_once(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": core.url})
    call = asked()
    errand, pick = await picked(broker, call)
    run = Running(broker.dispatcher._desk, errand, pick)
    run.end("hedge_lost")
    run.end("ok")
    await run.aclose()
    assert outcomes(call) == [("a", "hedge_lost")]
    assert call.account.open == 1
    assert broker.count("upstream_attempts_total", cluster="a", tier="core", outcome="hedge_lost") == 1


@pytest.mark.parametrize(
    ("said", "pause"), [(b"Retry-After: 30\r\n", 30.0), (b"", 1.0), (b"Retry-After: soon\r\n", 1.0)]
)
async def test_who_is_overloaded_is_left_alone_for_as_long_as_it_says(make_broker, serve, clock, said, pause) -> None:
    async def script(_reader, writer, _number) -> None:
        writer.write(b"HTTP/1.1 529 Busy\r\nContent-Length: 0\r\n" + said + b"\r\n")

    broker = make_broker({"a": await serve(script)}, clock=clock)
    answer = await broker.dispatcher.dispatch(asked())
    assert answer.status == 529
    assert broker.pool.board.busy[0] == clock.monotonic() + pause


async def test_a_reload_in_the_midst_is_no_trouble(start_core, make_broker) -> None:
    core = await start_core(inter_token_latency=0.01)
    broker = make_broker({"a": core.url, "b": core.url})
    call = asked(stream=True)
    answer = await broker.dispatcher.dispatch(call)
    kept = [client for client in broker.pool.clients if client.name != answer.upstream]
    broker.pool.replace(kept)
    assert len([chunk async for chunk in answer.chunks()]) > 2
    assert outcomes(call) == [(answer.upstream, "ok")]
    assert broker.idle


KINDS = st.sampled_from(
    ["fine", "slow", "hang", "silent", "stall", "cut", "error_event", "server_error", "rate_limit", "null_body"]
)


def settings_of(kind: str) -> dict:
    if kind == "fine":
        return {"inter_token_latency": 0.002}
    if kind == "slow":
        return {"time_to_first_token": 0.05, "inter_token_latency": 0.01}
    return {
        "failure_injection_rate": 1.0,
        "failure_types": (kind,),
        "failure_position": 3,
        "inter_token_latency": 0.002,
    }


async def use(broker, call, patience: float, reads: int) -> None:
    """Ask, read some, and leave after `patience` seconds at the latest, wherever that is."""
    try:
        async with asyncio.timeout(patience):
            answer = await broker.dispatcher.dispatch(call)
            try:
                if not answer.streaming:
                    await answer.read()
                    return
                async for _ in answer.chunks():
                    reads -= 1
                    if not reads:
                        return
            finally:
                await answer.aclose()
    except (TimeoutError, EdgeCacheError):
        return


@limits(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(KINDS, min_size=1, max_size=3),
    requests=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.floats(0.0, 0.12), st.integers(1, 40)), min_size=1, max_size=6
    ),
    hedge=st.booleans(),
    places=st.integers(1, 3),
)
def test_whoever_leaves_whenever_nothing_is_left_behind(run_broker, kinds, requests, hedge, places) -> None:
    calls = [asked(stream=stream, terms=Terms(continuation=willing)) for stream, willing, _, _ in requests]

    async def check(start_core, make_broker) -> None:
        cores = [await start_core(**settings_of(kind)) for kind in kinds]
        upstreams = {f"u{number}": (core.url, {"max_concurrency": places}) for number, core in enumerate(cores)}
        broker = make_broker(
            upstreams,
            levels={"hedge": hedge, "share": 1.0, "first_token_timeout": 0.06, "inter_token_timeout": 0.05},
            hedging=Hedging(ratio=1.0, retries=1.0),
        )
        await broker.known_to_be(overhead=0.002, spread=0.002)
        work = zip(calls, requests, strict=True)
        await asyncio.gather(*(use(broker, call, patience, reads) for call, (_, _, patience, reads) in work))
        await until(lambda: broker.idle and not len(broker.tasks))
        board = broker.pool.board
        assert not board.inflight.any()
        assert not board.unanswered.any()
        assert broker.admission.waiting == 0
        booked = [attempt for call in calls for attempt in attempts(call)]
        assert {attempt.outcome for attempt in booked} <= OUTCOMES
        assert all(attempt.seconds > 0 for attempt in booked)
        assert all(call.account.open == 1 for call in calls)  # what the tests hold themselves
        broker.dispatcher.settle()
        ended = sum(sample.value for metric in broker.metrics.upstream_attempts.collect() for sample in metric.samples
                    if sample.name.endswith("_total"))  # fmt: skip
        assert ended == len(booked)
        assert not broker.dispatcher._picker._traffic._counts
        assert all(client._open == 0 for client in broker.pool.clients)

    run_broker(check)


def says(status: int, body: bytes):
    async def script(_reader, writer, _number) -> None:
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    return script


NEIGHBOUR = {"tier": Tier.PEER, "dialect": "edgecache", "price": Price(input=0.1)}
OWN_IS_SLOW = {"levels": {"ttft": 0.001, "probability": 0.99}}
"""No upstream of this POP's own is in time, so that neighbours are looked at."""


@pytest.mark.parametrize("status", [401, 403, 404, 451])
@pytest.mark.parametrize("body", [b'{"error":{"message":"not here"}}', b""])
async def test_what_a_neighbour_says_of_itself_is_not_what_another_would_say(
    start_core, make_broker, serve, status, body
) -> None:
    core = await start_core()
    near = {"pop": (await serve(says(status, body)), NEIGHBOUR), "own": core.url}
    broker = make_broker(near, **OWN_IS_SLOW)
    for _ in range(8):  # more than failures in a row that put an upstream out
        await broker.known_to_be()
        offers = await broker.pool.offers("edge-test")
        offers.overhead[offers.row["pop"]] = 1e-6
        call = asked()
        assert (await broker.served(call))[0] == "own"
        assert outcomes(call) == [("pop", "rejected"), ("own", "ok")]
        assert attempts(call)[0].prompt_tokens == 0
    assert not broker.health.is_out("pop")
    assert broker.count("retries_total", result="sent", after="status") == 8


async def test_where_there_is_nobody_else_a_neighbours_own_word_is_passed_on(make_broker, serve) -> None:
    broker = make_broker({"pop": (await serve(says(403, b'{"error":{}}')), NEIGHBOUR)})
    answer = await broker.dispatcher.dispatch(asked())
    assert (answer.status, await answer.read()) == (403, b'{"error":{}}')


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_is_wrong_with_the_request_is_not_asked_twice_of_a_neighbour_either(
    start_core, make_broker, serve, status
) -> None:
    core = await start_core()
    broker = make_broker({"pop": (await serve(says(status, b"{}")), NEIGHBOUR), "own": core.url}, **OWN_IS_SLOW)
    await broker.known_to_be()
    offers = await broker.pool.offers("edge-test")
    offers.overhead[offers.row["pop"]] = 1e-6
    answer = await broker.dispatcher.dispatch(asked())
    assert answer.status == status
    assert core.seen.requests == 0
    await answer.aclose()


@pytest.mark.parametrize("status", [401, 403, 404, 451])
async def test_other_upstreams_refusals_are_passed_on(start_core, make_broker, serve, status) -> None:
    core = await start_core()
    broker = make_broker({"a": (await serve(says(status, b"{}")), CHEAP), "b": (core.url, DEAR)})
    answer = await broker.dispatcher.dispatch(asked())
    assert answer.status == status
    assert core.seen.requests == 0
    await answer.aclose()
