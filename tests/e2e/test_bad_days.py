"""Upstreams and clients at their worst, through the real API of a POP.

After each test `Scene.check` has looked that nothing hangs on, that every request and attempt is booked with tokens and
price as the clusters count them, and that no prompt has crossed a border: `abroad` would be the best choice in all.
"""

import asyncio
import os
import signal
from collections import Counter
from random import Random
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edgecache.clock import ManualClock
from edgecache.config import Auth, AuthTenant, Cache, Ejection, Hedging
from edgecache.config.tree import FakeMetrics
from edgecache.types import Tier
from tests.e2e.processes import core_process
from tests.e2e.scene import CHAT, HOME, PATIENCE, Got, Scene, check_broken, check_complete, pieces, until
from tests.e2e.together import Together

pytestmark = pytest.mark.slow
SHORT = 0.3
"""s that somebody waits for an upstream before the next is tried."""
BRIEF = {"idle_timeout": SHORT, "first_byte_timeout": SHORT}
IMPATIENT = {"first_token_timeout": SHORT, "inter_token_timeout": SHORT}
FEW = {"max_tokens": 8}
"""So short an answer is predicted to be there in time, whatever the deadline."""
OFTEN = Hedging(retries=1.0, burst=100)
SLOWLY = {"time_to_first_token": 0.01, "inter_token_latency": 0.01}


def failing(kind: str, position: int | None = None, **more: Any) -> dict[str, Any]:
    return {"failure_injection_rate": 1.0, "failure_types": (kind,), "failure_position": position, **more}


def heal(core: Any) -> None:
    core.configure(failure_injection_rate=0.0)


async def check_not_kept(scene: Scene, got: Got, by: str, **more: Any) -> None:
    """The same question again gets a whole answer, and that from an upstream."""
    again = await scene.again(got, **more)
    assert (again.cache, again.by) == ("MISS", by)
    check_complete(again)


# ---------------------------------------------------------------------------------------------- it hangs
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["hang", "silent"])
async def test_who_hangs_before_its_head_or_its_first_token_is_passed_over(scene, kind, stream) -> None:
    bad = await scene.core("bad", upstream=BRIEF, **failing(kind))
    await scene.core("good", price=9.0)
    await scene.open(level=IMPATIENT)
    got = await scene.ask(stream=stream)
    check_complete(got)
    assert got.by == "good"
    assert SHORT <= got.seconds < SHORT + 2
    assert await scene.outcomes() == ("ok", [("bad", "timeout"), ("good", "ok")])
    await until(lambda: bad.seen.disconnected == 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["hang", "silent"])
async def test_where_all_hang_the_client_hears_of_it_by_its_deadline(scene, kind, stream) -> None:
    bad = [await scene.core(name, **failing(kind)) for name in ("one", "other")]
    await scene.open()
    got = await scene.ask(stream=stream, deadline=1.0, **FEW)
    assert (got.status, got.error, got.whole) == (504, "upstream_timeout", True)
    assert 0.9 < got.seconds < 3
    outcome, attempts = await scene.outcomes()
    assert (outcome, attempts) == ("failed", [(attempts[0][0], "timeout")])
    for core in bad:
        heal(core)
    check_complete(again := await scene.again(got))
    assert again.cache == "MISS"


@pytest.mark.parametrize("dialect", ["vllm", "trtllm", "dynamo"])
@pytest.mark.parametrize("kind", ["stall", "cut", "error_event"])
async def test_a_stream_that_breaks_is_an_error_to_the_client_and_no_answer_to_anybody(scene, kind, dialect) -> None:
    """Dynamo follows the error event with `[DONE]`."""
    bad = await scene.core("bad", dialect=dialect, **SLOWLY, **failing(kind, 3))
    await scene.core("good", price=9.0)
    await scene.open(level=IMPATIENT)
    got = await scene.ask(stream=True)
    check_broken(got)
    assert got.seconds < SHORT + 2
    assert len(pieces(got.events)) == 3
    assert (await scene.outcomes())[1] == [("bad", "cut")]
    (record,) = await scene.records()
    (attempt,) = record["attempts"]
    assert record["outcome"] == "stream_cut"
    assert (attempt["completion_tokens"], attempt["estimated"]) == (bad.seen.generated_tokens.total(), True)
    assert attempt["completion_tokens"] == 3
    bad.configure(failure_types=("server_error",))
    await check_not_kept(scene, got, "good", stream=True)


async def test_a_stream_that_ends_politely_in_the_middle_is_no_answer_either(scene) -> None:
    half = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"In short,"},"finish_reason":null}]}\n\n'

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=half, content_type="text/event-stream")

    app = web.Application()
    app.router.add_post(CHAT, answer)
    async with TestServer(app) as server:
        scene.add("bad", str(server.make_url("")).rstrip("/"))
        good = await scene.core("good", price=9.0)
        await scene.open(ejection=Ejection(most=0.0), probe_interval=3600.0)
        got = await scene.ask(stream=True)
        check_broken(got)
        assert (got.by, pieces(got.events)) == ("bad", ["In short,"])
        assert await scene.outcomes() == ("stream_cut", [("bad", "cut")])
        again = await scene.again(got, stream=True)
        assert again.cache == "MISS"
        assert good.seen.requests == 0  # as far as anybody knows, the next one may be whole
        await scene.check()  # while the server is still there


async def test_half_a_whole_answer_goes_to_nobody(scene) -> None:
    await scene.core("bad", **failing("cut"))
    await scene.core("good", price=9.0)
    await scene.open()
    check_complete(got := await scene.ask())
    assert got.by == "good"
    assert await scene.outcomes() == ("ok", [("bad", "cut"), ("good", "ok")])


async def test_an_answer_that_trickles_is_cut_at_its_deadline(scene) -> None:
    core = await scene.core("slow", inter_token_latency=0.2)
    await scene.open()
    got = await scene.ask(stream=True, deadline=1.0, max_tokens=20)
    check_broken(got)
    assert 0.9 < got.seconds < 3
    assert await scene.outcomes() == ("stream_cut", [("slow", "timeout")])
    core.configure(inter_token_latency=0.0)
    await check_not_kept(scene, got, "slow", stream=True)


@pytest.mark.parametrize("kind", ["stall", "cut", "error_event"])
async def test_where_the_tenant_allows_it_another_goes_on_and_the_answer_is_marked_and_not_kept(scene, kind) -> None:
    bad = await scene.core("bad", **SLOWLY, **failing(kind, 3))
    good = await scene.core("good", price=9.0)
    tenant = AuthTenant(id="reader", keys=("secret",), continuation=True, residency=(HOME,))
    await scene.open(level=IMPATIENT, sections={"auth": Auth(mode="keys", tenant=(tenant,))})
    got = await scene.ask(stream=True, key="secret")
    check_complete(got)
    assert b": edgecache continued on good\n\n" in got.body
    assert got.by == "bad"
    assert await scene.outcomes() == ("ok", [("bad", "cut"), ("good", "ok")])
    (record,) = await scene.records()
    assert record["completion_tokens"] == 3 + good.seen.generated_tokens.total() == len(pieces(got.events))
    bad.configure(failure_types=("server_error",))
    await check_not_kept(scene, got, "good", stream=True, key="secret")


# ---------------------------------------------------------------------------------------------- it answers nonsense
@pytest.mark.parametrize("dialect", ["vllm", "trtllm", "dynamo"])
async def test_an_error_event_in_place_of_an_answer_is_seen_by_nobody(scene, dialect) -> None:
    await scene.core("bad", dialect=dialect, **failing("error_event", 0))
    await scene.core("good", price=9.0)
    await scene.open()
    check_complete(got := await scene.ask(stream=True))
    assert got.by == "good"
    assert await scene.outcomes() == ("ok", [("bad", "cut"), ("good", "ok")])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["null_body", "error_event", "empty_404", "server_error"])
async def test_where_nobody_has_anything_to_say_the_client_gets_an_error_that_is_not_kept(scene, kind, stream) -> None:
    """An empty 404 is what Dynamo says without workers: nothing is wrong with the request."""
    bad = await scene.core("bad", dialect="dynamo", **failing(kind, 0))
    await scene.open(probe_interval=3600.0)
    got = await scene.ask(stream=stream)
    assert got.status in {500, 502, 503}
    assert got.whole
    assert got.error
    assert (await scene.outcomes())[0] == "failed"
    heal(bad)
    await check_not_kept(scene, got, "bad", stream=stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_null_is_no_answer(scene, stream) -> None:
    await scene.core("bad", **failing("null_body"))
    await scene.core("good", price=9.0)
    await scene.open()
    check_complete(got := await scene.ask(stream=stream))
    assert got.by == "good"
    assert await scene.outcomes() == ("ok", [("bad", "failed"), ("good", "ok")])
    check_complete(again := await scene.again(got, stream=stream))
    assert (again.cache, again.text) == ("HIT", got.text)


# ---------------------------------------------------------------------------------------------- it is not itself
async def test_who_flaps_is_left_out_again_and_again_and_no_client_sees_it(scene) -> None:
    flapping = await scene.core("flapping", failure_types=("server_error",))
    await scene.core("good", price=9.0)
    await scene.open(
        ejection=Ejection(failures=2, base=0.05, longest=0.4, ramp=0.05), probe_interval=0.05, hedging=OFTEN
    )
    for _ in range(4):
        async with asyncio.timeout(PATIENCE):
            while (got := await scene.ask()).by != "flapping":
                check_complete(got)
        flapping.configure(failure_injection_rate=1.0)
        for got in [await scene.ask(stream=number % 2 == 0) for number in range(6)]:
            check_complete(got)
            assert got.by == "good"
        heal(flapping)
    why = ("failures", "again", "error_rate")
    assert sum(scene.count("upstream_ejections_total", cluster="flapping", reason=reason) for reason in why) >= 4


async def test_who_says_that_it_is_idle_and_is_not_is_found_out(scene) -> None:
    pace = {"time_to_first_token": 0.05, "inter_token_latency": 0.002, "upstream": {"load": "prometheus"}}
    lies = FakeMetrics(running_requests=0, waiting_requests=0)
    liar = await scene.core("liar", **pace, max_num_seqs=1, fake_metrics=lies)
    honest = await scene.core("honest", **pace, max_num_seqs=32)
    await scene.open(probe_interval=0.05)
    await until(lambda: scene.count("upstream_probes_total", cluster="liar", kind="load", result="ok") > 1)
    for _ in range(3):
        for got in await asyncio.gather(*(scene.ask(stream=True, **FEW) for _ in range(10))):
            check_complete(got)
    before = liar.seen.requests
    await asyncio.gather(*(scene.ask(stream=True, **FEW) for _ in range(10)))
    assert liar.seen.requests - before <= 3
    assert honest.seen.requests > liar.seen.requests


async def test_who_says_that_it_is_crowded_and_is_not_is_spared_but_serves_where_nobody_else_can(scene) -> None:
    lies = FakeMetrics(running_requests=500, waiting_requests=5000, kv_cache_usage=1.0)
    liar = await scene.core("liar", upstream={"load": "prometheus"}, fake_metrics=lies)
    honest = await scene.core("honest", upstream={"load": "prometheus"})
    await scene.open(probe_interval=0.05)
    await until(lambda: scene.count("upstream_queued", cluster="liar") == 5000)
    answers = [await scene.ask(**FEW) for _ in range(10)]
    assert Counter(got.by for got in answers)["honest"] >= 9  # one may be a trial
    honest.configure(**failing("server_error"))
    check_complete(got := await scene.ask(**FEW))
    assert got.by == "liar"
    assert liar.seen.refused == 0


async def test_who_becomes_ten_times_slower_loses_its_requests_and_nobody_waits_for_long(scene) -> None:
    pace = {"time_to_first_token": 0.03, "inter_token_latency": 0.002}
    cores = {name: await scene.core(name, **pace) for name in ("a", "b", "c", "d")}
    await scene.open(probe_interval=0.2)

    async def client(answers: list[Got], count: int) -> None:
        answers.extend([await scene.ask(stream=True, **FEW) for _ in range(count)])

    async def load(count: int) -> list[Got]:
        answers: list[Got] = []
        await asyncio.gather(*(client(answers, count) for _ in range(4)))
        return answers

    healthy = await load(10)
    favourite = Counter(got.by for got in healthy).most_common(1)[0][0]
    cores[favourite].configure(time_factor=10.0)
    await load(2)
    answers = await load(12)
    for got in (*healthy, *answers):
        check_complete(got)
    assert Counter(got.by for got in answers)[favourite] <= 3  # trials; a quarter would be 12
    late = sorted(got.seconds for got in answers)[int(0.9 * len(answers))]
    assert late < 0.3  # what one of the slow one's answers takes at least


async def test_a_minute_of_429_is_a_minute_of_peace_and_no_failure(scene) -> None:
    clock = ManualClock()
    busy = await scene.core("busy", **failing("rate_limit", retry_after=60))
    await scene.core("good", price=9.0)
    await scene.open(clock=clock, probe_interval=3600.0)
    for _ in range(6):
        check_complete(got := await scene.ask())
        assert got.by == "good"
        clock.advance(9.0)
    assert busy.seen.requests == 1
    assert scene.count("upstream_out", cluster="busy") == 0
    assert scene.count("upstream_attempts_total", cluster="busy", tier="core", outcome="overloaded") == 1
    heal(busy)
    clock.advance(7.0)
    check_complete(got := await scene.ask())
    assert got.by == "busy"


@pytest.mark.parametrize("kind", ["rate_limit", "overloaded"])
async def test_where_all_ask_to_be_left_alone_the_client_is_told_when_to_come_back(scene, kind) -> None:
    cores = [await scene.core(name, **failing(kind, retry_after=40)) for name in ("one", "other")]
    await scene.open()
    first = await scene.ask(deadline=1.0, **FEW)
    assert first.status == {"rate_limit": 429, "overloaded": 503}[kind]
    assert first.seconds < 2
    for _ in range(3):
        got = await scene.ask(deadline=1.0, **FEW)
        assert (got.status, got.error) == (503, "predicted_miss")
        assert 30 <= int(got.headers["retry-after"]) <= 40
        assert got.seconds < 0.5  # at once, not at its deadline
    assert [core.seen.requests for core in cores] == [1, 1]


# ---------------------------------------------------------------------------------------------- it is gone
@pytest.mark.parametrize("stream", [False, True])
async def test_a_name_that_cannot_be_resolved_costs_a_few_tries_and_no_request(scene, stream) -> None:
    scene.add("lost", "http://nowhere.invalid")
    await scene.core("good", price=9.0)
    await scene.open(probe_interval=3600.0)
    for _ in range(8):
        check_complete(got := await scene.ask(stream=stream))
        assert got.by == "good"
        assert got.seconds < 2
    await scene.idle()
    tries = [len(record["attempts"]) - 1 for record in await scene.records()]
    assert sum(tries) <= Ejection().failures  # fewer, where the first look at it was quicker
    assert scene.count("upstream_out", cluster="lost") == 1


async def test_where_no_name_can_be_resolved_the_client_gets_an_error_at_once(scene) -> None:
    for name in ("one", "other"):
        scene.add(name, f"http://{name}.nowhere.invalid")
    await scene.open()
    for _ in range(3):
        got = await scene.ask()
        assert got.status in {502, 503}
        assert got.error
        assert got.seconds < 2


async def test_a_tier_that_is_killed_is_an_error_only_to_streams_that_had_begun(scene) -> None:
    pace = ("--time-to-first-token", "0.05", "--inter-token-latency", "0.05", "--dialect", "vllm")
    async with core_process(*pace) as one, core_process(*pace) as other:
        for name, process in (("core-1", one), ("core-2", other)):
            scene.add(name, process.url)
        backup = await scene.core("region", price=9.0, upstream={"tier": Tier.REGIONAL})
        await scene.open(hedging=OFTEN)
        streams = [asyncio.ensure_future(scene.ask(stream=True, max_tokens=40)) for _ in range(4)]  # noqa: TID251
        whole = [asyncio.ensure_future(scene.ask(max_tokens=40)) for _ in range(4)]  # noqa: TID251
        board = scene.pop.daemon.pool.board
        await until(lambda: board.inflight.sum() == 8 and not board.unanswered.any())
        assert backup.seen.requests == 0
        for process in (one, other):
            os.kill(process.pid, signal.SIGKILL)
        begun = await asyncio.gather(*streams)
        for got in begun:
            check_broken(got)
        for got in [*await asyncio.gather(*whole), *[await scene.ask(stream=n % 2 == 0) for n in range(6)]]:
            check_complete(got)
            assert got.by == "region"
        for got in begun:
            await check_not_kept(scene, got, "region", stream=True)


async def test_where_all_were_killed_nothing_goes_over_the_border(scene) -> None:
    async with core_process() as one, core_process() as other:
        scene.add("edge", one.url, tier=Tier.EDGE)
        scene.add("core", other.url)
        await scene.open(hedging=OFTEN)
        check_complete(await scene.ask())
        for process in (one, other):
            os.kill(process.pid, signal.SIGKILL)
        for number in range(6):
            got = await scene.ask(stream=number % 2 == 0)
            assert got.status in {502, 503}
            assert got.seconds < 2


# ---------------------------------------------------------------------------------------------- too many at once
async def test_ten_times_too_many_are_shed_by_class_at_once_and_with_a_reason(scene) -> None:
    pace = {"time_to_first_token": 0.02, "inter_token_latency": 0.002, "max_num_seqs": 8, "max_waiting_queue_length": 1}
    cores = [await scene.core(name, **pace, upstream={"max_concurrency": 8}) for name in ("one", "other")]
    level = {"deadline": 2.0, "ttft": 1.0}
    await scene.open(level=level, classes={"realtime": {"queue": 64}, "standard": {"queue": 64}}, max_waiting=90)
    await asyncio.gather(*(scene.ask(**FEW) for _ in range(8)))  # so that it knows how long they take
    classes = ["batch"] * 80 + ["standard"] * 50 + ["realtime"] * 30
    sent = [scene.ask(service=each, stream=number % 2 == 0, **FEW) for number, each in enumerate(classes)]
    answers = list(zip(classes, await asyncio.gather(*sent), strict=True))
    served: Counter[str] = Counter()
    for service, got in answers:
        assert got.seconds < 3.5
        if got.status == 200:
            check_complete(got)
            served[service] += 1
        else:
            assert (got.status, got.whole) == (503, True)
            assert got.error in {"queue_full", "shed", "predicted_miss", "due_time_passed"}
            assert int(got.headers["retry-after"]) >= 1
    shares = {service: served[service] / classes.count(service) for service in ("realtime", "standard", "batch")}
    assert shares["realtime"] == 1.0
    assert shares["realtime"] >= shares["standard"] >= shares["batch"]
    assert shares["batch"] < 1
    assert sum(core.seen.refused for core in cores) == 0  # none was sent where there was no room


async def test_who_waits_gets_its_turn_once_there_is_room(scene) -> None:
    await scene.core("one", upstream={"max_concurrency": 1}, time_to_first_token=0.02)
    await scene.open()
    answers = await asyncio.gather(*(scene.ask(stream=number % 2 == 0, **FEW) for number in range(12)))
    for got in answers:
        check_complete(got)


# ---------------------------------------------------------------------------------------------- a client leaves
async def test_a_client_leaves_while_it_waits_for_its_turn(scene) -> None:
    core = await scene.core("one", upstream={"max_concurrency": 1}, inter_token_latency=0.05)
    await scene.open()
    admission = scene.pop.daemon.broker.admission
    first = asyncio.ensure_future(scene.ask(stream=True, max_tokens=12))  # noqa: TID251
    await until(lambda: scene.inflight("one") == 1)
    _, writer = await scene.come(stream=True)
    await until(lambda: admission.waiting == 1)
    writer.transport.abort()
    await until(lambda: admission.waiting == 0)
    check_complete(await first)
    await scene.idle()
    records = await scene.records()
    assert sorted((record["outcome"], len(record["attempts"])) for record in records) == [("client_gone", 0), ("ok", 1)]
    assert core.seen.requests == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["hang", "silent"])
async def test_a_client_leaves_before_the_head_or_the_first_token(scene, kind, stream) -> None:
    core = await scene.core("one", **failing(kind))
    await scene.open()
    _, writer = await scene.come(stream=stream)
    await until(lambda: core.seen.failures[kind] == 1)
    writer.transport.abort()
    assert await scene.outcomes() == ("client_gone", [("one", "cancelled")])
    await until(lambda: core.seen.disconnected == 1)
    (record,) = await scene.records()
    assert record["attempts"][0]["estimated"]
    assert (record["status"], record["attempts"][0]["completion_tokens"]) == (499, 0)


async def test_a_client_leaves_in_the_midst_of_a_stream(scene) -> None:
    core = await scene.core("one", inter_token_latency=0.02)
    await scene.open()
    question = "What is said to those who do not stay?"
    reader, writer = await scene.come(question=question, stream=True)
    for _ in range(5):
        await reader.readuntil(b'"content"')
    writer.transport.abort()
    assert await scene.outcomes() == ("client_gone", [("one", "cancelled")])
    await until(lambda: core.seen.disconnected == 1)
    (record,) = await scene.records()
    (attempt,) = record["attempts"]
    assert attempt["estimated"]
    assert 3 <= attempt["completion_tokens"] <= core.seen.generated_tokens.total() < 20
    core.configure(inter_token_latency=0.0)
    got = await scene.ask(question, stream=True)
    check_complete(got)
    assert got.cache == "MISS"


@pytest.mark.parametrize("dialect", ["vllm", "trtllm", "dynamo"])
async def test_a_client_leaves_at_the_last_event_which_makes_it_a_whole_answer_for_the_next(scene, dialect) -> None:
    core = await scene.core("one", dialect=dialect, **SLOWLY)
    await scene.open()
    question = "What is said last?"
    reader, writer = await scene.come(question=question, stream=True)
    await reader.readuntil(b"[DONE]")
    writer.transport.abort()
    outcome, attempts = await scene.outcomes()
    assert outcome in {"ok", "client_gone"}
    assert attempts == [("one", "ok")]
    check_complete(got := await scene.ask(question, stream=True))
    assert got.cache == "HIT"
    assert core.seen.requests == 1
    (attempt,) = (await scene.records())[0]["attempts"]
    assert not attempt["estimated"]


async def test_a_client_leaves_and_another_that_asked_the_same_gets_all_of_it(scene) -> None:
    core = await scene.core("one", inter_token_latency=0.02)
    await scene.open()
    question = "What do two ask at once?"
    reader, writer = await scene.come(question=question, stream=True)
    await reader.readuntil(b'"content"')
    second = asyncio.ensure_future(scene.ask(question, stream=True))  # noqa: TID251
    await until(lambda: scene.count("collapsed_requests_total") == 1)
    writer.transport.abort()
    check_complete(await second)
    await scene.idle()
    records = await scene.records()
    assert {record["outcome"] for record in records} == {"ok", "client_gone"}
    assert [attempt["outcome"] for record in records for attempt in record["attempts"]] == ["ok"]
    assert core.seen.requests == 1


async def test_a_client_leaves_while_two_are_asked_and_both_are_let_go(scene) -> None:
    cores = [await scene.core(name, **failing("hang")) for name in ("one", "other")]
    await scene.open(level={"hedge": True, "ttft": 5.0}, hedging=Hedging(ratio=1.0, burst=100))
    _, writer = await scene.come(service="realtime", stream=True)
    await until(lambda: all(core.seen.failures["hang"] == 1 for core in cores))
    writer.transport.abort()
    outcome, attempts = await scene.outcomes()
    assert (outcome, sorted(attempts)) == ("client_gone", [("one", "cancelled"), ("other", "cancelled")])
    await until(lambda: all(core.seen.disconnected == 1 for core in cores))


# ---------------------------------------------------------------------------------------------- two answers at once
@pytest.mark.parametrize("stream", [False, True])
async def test_a_hedge_and_its_original_answer_in_the_same_moment_and_one_of_them_is_the_answer(scene, stream) -> None:
    async with Together(2) as servers:
        for name, url in zip(("one", "other"), servers.urls, strict=True):
            scene.add(name, url)
        await scene.open(level={"hedge": True, "ttft": 5.0}, hedging=Hedging(ratio=1.0, burst=100))
        for _ in range(5):
            got = await scene.ask(service="realtime", stream=stream, max_tokens=2)
            assert (got.status, got.whole) == (200, True)
            assert got.text == servers.said(got.by)
            outcome, attempts = await scene.outcomes()
            assert outcome == "ok"
            assert sorted(attempts) == sorted(
                [(got.by, "ok"), *((name, "hedge_lost") for name in ("one", "other") if name != got.by)]
            )
            again = await scene.again(got, service="realtime", stream=stream)
            assert (again.cache, again.text) == ("HIT", got.text)
        assert scene.count("hedges_total", result="won") + scene.count("hedges_total", result="lost") == 5
        await scene.check()  # while the servers are still there


async def test_where_a_hedge_and_its_original_hang_the_client_hears_of_it_by_its_deadline(scene) -> None:
    cores = [await scene.core(name, **failing("hang")) for name in ("one", "other")]
    await scene.open(level={"hedge": True, "ttft": 5.0}, hedging=Hedging(ratio=1.0, burst=100))
    got = await scene.ask(service="realtime", stream=True, deadline=1.0, **FEW)
    assert (got.status, got.error) == (504, "upstream_timeout")
    assert got.seconds < 3
    assert [core.seen.requests for core in cores] == [1, 1]
    await until(lambda: all(core.seen.disconnected == 1 for core in cores))


# ---------------------------------------------------------------------------------------------- all of it at once
EVERY = (
    "rate_limit", "server_error", "overloaded", "null_body", "hang", "silent", "stall", "cut", "error_event",
)  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_fails_a_client_gets_all_of_an_answer_or_can_tell_that_it_did_not(scene, seed) -> None:
    chance = Random(seed)
    pace = {"time_to_first_token": 0.005, "inter_token_latency": 0.001, "retry_after": 0, "upstream": BRIEF}
    cores = [
        await scene.core(f"core-{number}", **pace, dialect=dialect, failure_injection_rate=0.3, failure_types=EVERY)
        for number, dialect in enumerate(("vllm", "trtllm", "dynamo", "openai"))
    ]
    level = {**IMPATIENT, "hedge": True}
    rules = {"hedging": OFTEN, "ejection": Ejection(failures=50, error_rate=1.0, most=0.0)}
    await scene.open(level=level, sections={"cache": Cache(negative_ttl=0.0)}, **rules)
    broken: list[Got] = []

    async def client(number: int) -> None:
        for turn in range(12):
            more = {"service": chance.choice(["realtime", "interactive", "standard", "batch"]), "deadline": 4.0, **FEW}
            stream = chance.random() < 0.6
            if chance.random() < 0.15:
                reader, writer = await scene.come(stream=stream, **more)
                await asyncio.wait([asyncio.ensure_future(reader.read(200))], timeout=chance.random() / 20)  # noqa: TID251
                writer.transport.abort()
                continue
            got = await scene.ask(f"What is the turn of {number} and {turn}?", stream=stream, **more)
            assert got.seconds < 6
            if got.status == 200 and got.whole:
                check_complete(got)
                continue
            broken.append(got)
            if got.status == 200:
                check_broken(got)
            else:
                assert got.status in {429, 500, 502, 503, 504, 529}, got

    await asyncio.gather(*(client(number) for number in range(12)))
    assert all(core.seen.failures.total() > 5 for core in cores)
    for core in cores:
        heal(core)
    for got in broken:
        check_complete(again := await scene.again(got, stream=True))
        assert again.cache == "MISS"
