"""Hedges: a second request beside a late first, and what becomes of the one that loses."""

import asyncio

import pytest

from edgecache.config import Hedging, Price
from edgecache.errors import UpstreamError
from tests.router.conftest import asked, attempts, outcomes, until, whole

CHEAP, DEAR = {"price": Price(input=1.0, output=1.0)}, {"price": Price(input=2.0, output=2.0)}
HEDGING = {"levels": {"hedge": True, "first_token_timeout": 5.0}}


async def two(make_broker, slow, quick, **router):
    """A broker that asks `slow` first, and thinks that both answer within 20 ms."""
    broker = make_broker({"slow": (slow.url, CHEAP), "quick": (quick.url, DEAR)}, **{**HEDGING, **router})
    await broker.known_to_be(overhead=0.005, spread=0.002)
    return broker


@pytest.mark.parametrize("stream", [False, True])
async def test_a_late_first_token_is_hedged_and_the_loser_is_cancelled_at_once(start_core, make_broker, stream) -> None:
    slow, quick = await start_core(time_to_first_token=30.0), await start_core()
    broker = await two(make_broker, slow, quick)
    call = asked(stream=stream)
    answer = await broker.dispatcher.dispatch(call)
    assert answer.upstream == "quick"
    assert answer.headers["x-edgecache-route"].endswith("attempts=2;hedged")
    assert outcomes(call)[0] == ("slow", "hedge_lost")
    loser = attempts(call)[0]
    assert loser.prompt_tokens > 0
    assert loser.estimated
    assert loser.cost > 0
    assert [attempt.hedge for attempt in attempts(call)] == [False, True]
    assert broker.pool.board.inflight[broker.pool.board.row["slow"]] == 0
    await until(lambda: slow.seen.disconnected == 1)
    assert b"choices" in await whole(answer)
    assert outcomes(call) == [("slow", "hedge_lost"), ("quick", "ok")]
    assert broker.count("hedges_total", result="won") == 1
    assert broker.idle
    assert not len(broker.tasks)
    assert not broker.health.is_out("slow")


async def test_a_loser_teaches_that_it_is_slow(start_core, make_broker) -> None:
    slow, quick = await start_core(time_to_first_token=30.0), await start_core()
    broker = await two(make_broker, slow, quick)
    offers = await broker.pool.offers("edge-test")
    before = float(offers.overhead[0])
    for _ in range(3):
        await broker.served(asked(stream=True))
    assert float(offers.overhead[0]) > before


async def test_the_first_may_still_win(start_core, make_broker) -> None:
    slow, slower = await start_core(time_to_first_token=0.25), await start_core(time_to_first_token=30.0)
    broker = await two(make_broker, slow, slower)
    call = asked(stream=True)
    assert (await broker.served(call))[0] == "slow"
    assert outcomes(call) == [("slow", "ok"), ("quick", "hedge_lost")]
    assert broker.count("hedges_total", result="lost") == 1
    assert broker.idle
    await until(lambda: slower.seen.disconnected == 1)


async def test_of_two_answers_at_once_exactly_one_is_handed_on(start_core, make_broker) -> None:
    for _ in range(5):
        one, other = await start_core(time_to_first_token=0.06), await start_core(time_to_first_token=0.03)
        broker = await two(make_broker, one, other)
        call = asked(stream=True)
        name, body = await broker.served(call)
        assert body.count(b"[DONE]") == 1
        assert sorted(outcome for _, outcome in outcomes(call)) in (["hedge_lost", "ok"], ["ok"])
        assert (name, "ok") in outcomes(call)
        assert broker.idle


async def test_a_first_that_fails_while_the_hedge_runs_does_not_matter(start_core, make_broker, serve) -> None:
    async def script(_reader, writer, _number) -> None:
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")

    quick = await start_core(time_to_first_token=0.3)
    broker = make_broker({"slow": (await serve(script), CHEAP), "quick": (quick.url, DEAR)}, **HEDGING)
    await broker.known_to_be(overhead=0.005, spread=0.002)
    call = asked(stream=True)
    assert (await broker.served(call))[0] == "quick"
    assert outcomes(call) == [("slow", "failed"), ("quick", "ok")]


async def test_where_both_fail_a_third_is_asked(start_core, make_broker, serve) -> None:
    async def script(_reader, writer, _number) -> None:
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")

    url, good = await serve(script), await start_core()
    upstreams = {"a": (url, CHEAP), "b": (url, CHEAP), "c": (good.url, {"price": Price(input=9.0, output=9.0)})}
    broker = make_broker(upstreams, levels={"hedge": True, "ttft": 5.0})
    await broker.known_to_be(overhead=0.005, spread=0.002)
    offers = await broker.pool.offers("edge-test")
    offers.overhead[offers.row["c"]] = 0.2  # so that the hedge goes to the other of the two
    call = asked(stream=True)
    assert (await broker.served(call))[0] == "c"
    assert sorted(outcomes(call)) == [("a", "failed"), ("b", "failed"), ("c", "ok")]
    assert broker.idle


async def test_a_failure_before_it_is_late_needs_no_hedge(start_core, make_broker) -> None:
    bad = await start_core(failure_injection_rate=1.0, failure_types=("server_error",))
    good = await start_core()
    broker = await two(make_broker, bad, good)
    await broker.known_to_be(overhead=2.0)
    call = asked(stream=True)
    assert (await broker.served(call))[0] == "quick"
    assert outcomes(call) == [("slow", "failed"), ("quick", "ok")]
    assert [attempt.hedge for attempt in attempts(call)] == [False, False]
    assert broker.count("hedges_total", result="won") == 0


async def test_hedges_have_a_budget(start_core, make_broker) -> None:
    slow, quick = await start_core(time_to_first_token=0.1), await start_core()
    broker = await two(make_broker, slow, quick, hedging=Hedging(ratio=0.001))
    names = []
    for _ in range(4):
        await broker.known_to_be(overhead=0.005, spread=0.002)
        names.append((await broker.served(asked(stream=True)))[0])
    assert names == ["quick", "slow", "slow", "slow"]
    assert broker.count("hedges_total", result="denied") == 3
    await broker.known_to_be(overhead=0.005, spread=0.002)
    task = broker.begin(asked(stream=True))
    await until(lambda: broker.count("hedges_total", result="denied") == 4)
    assert broker.pool.board.inflight.tolist() == [1, 0]  # no place is held for the one that was not sent
    await (await task).aclose()
    assert broker.idle


@pytest.mark.parametrize("rules", [{"levels": {"hedge": False}}, {"hedging": Hedging(ratio=0.0)}])
async def test_who_does_not_hedge_waits(start_core, make_broker, rules) -> None:
    slow, quick = await start_core(time_to_first_token=0.1), await start_core()
    broker = await two(make_broker, slow, quick, **rules)
    call = asked(stream=True)
    assert (await broker.served(call))[0] == "slow"
    assert outcomes(call) == [("slow", "ok")]
    assert quick.seen.requests == 0


async def test_a_long_answer_that_comes_whole_is_not_late_while_it_is_written(start_core, make_broker) -> None:
    writing, other = await start_core(inter_token_latency=0.01), await start_core()
    broker = await two(make_broker, writing, other)
    await broker.known_to_be(overhead=0.005, spread=0.002, decode=0.01)
    call = asked()
    assert (await broker.served(call))[0] == "slow"
    assert other.seen.requests == 0


async def test_who_leaves_during_a_race_leaves_nothing_behind(start_core, make_broker) -> None:
    one, other = await start_core(time_to_first_token=30.0), await start_core(time_to_first_token=30.0)
    broker = await two(make_broker, one, other)
    call = asked(stream=True)
    task = broker.begin(call)
    await until(lambda: one.seen.requests == other.seen.requests == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcomes(call) == [("slow", "cancelled"), ("quick", "cancelled")]
    assert broker.idle
    await until(lambda: one.seen.disconnected == other.seen.disconnected == 1)


async def test_a_race_ends_at_the_first_token_timeout(start_core, make_broker) -> None:
    one, other = await start_core(time_to_first_token=30.0), await start_core(time_to_first_token=30.0)
    broker = await two(make_broker, one, other, levels={"hedge": True, "first_token_timeout": 0.2})
    call = asked(stream=True)
    with pytest.raises(UpstreamError):
        await broker.dispatcher.dispatch(call)
    assert [outcome for _, outcome in outcomes(call)] == ["timeout", "timeout"]
    assert broker.idle
