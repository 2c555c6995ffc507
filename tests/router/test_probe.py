import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from math import isnan
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import Clock, ManualClock, SystemClock
from edgecache.config import Ejection, Upstream
from edgecache.router.health import Health
from edgecache.router.pool import Pool
from edgecache.router.probe import Prober, RoundTrip
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Tier
from edgecache.upstream.client import UpstreamClient

LISTED = (200, b'{"data": [{"id": "m", "owned_by": "x"}]}')


@dataclass
class Server:
    """Answers paths with a status and a body; a path without one hangs. `asked`: paths, in order."""

    url: str = ""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=lambda: {"/v1/models": LISTED})
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        self.asked.append(path)
        if path not in self.answers:
            await reader.read()
            return
        status, body = self.answers[path]
        writer.write(b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Starts servers, on a port of their own if none is given."""
    async with contextlib.AsyncExitStack() as stack:

        async def started(port: int = 0, **answers: tuple[int, bytes]) -> Server:
            server = Server()
            server.answers |= {f"/{path}": answer for path, answer in answers.items()}
            listening = await asyncio.start_server(server.serve, "127.0.0.1", port)
            stack.callback(listening.close)
            server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            return server

        yield started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Watch:
    pool: Pool
    health: Health
    prober: Prober
    metrics: Metrics
    tasks: Tasks
    clock: Clock

    async def look(self, name: str = "a") -> None:
        await self.prober.look(self.pool.client(name))

    def is_out(self, name: str = "a") -> bool:
        return self.health.is_out(name)

    def counted(self, kind: str, result: str, name: str = "a") -> float:
        return self.metrics.upstream_probes.labels(name, kind, result)._value.get()

    def run(self) -> None:
        self.tasks.spawn(self.prober.run(), name="prober")


@pytest.fixture
async def watch() -> AsyncIterator[Callable[..., Watch]]:
    """Builds a prober of upstreams a, b, c …, each from its settings."""
    made: list[Watch] = []

    def build(
        *upstreams: dict[str, Any], clock: Clock | None = None, interval: float = 0.02, base: float = 0.2
    ) -> Watch:
        clock, metrics, tasks, rng = clock or SystemClock(), Metrics(), Tasks(), Random(3)
        defaults = {"dialect": "vllm", "connect_timeout": 0.15}
        settings = [Upstream(**{"name": chr(97 + at), **defaults, **each}) for at, each in enumerate(upstreams)]
        pool = Pool([UpstreamClient(each, metrics=metrics) for each in settings], clock=clock)
        ejection = Ejection(base=base, longest=1.0, ramp=0.1)
        health = Health(pool, ejection, clock=clock, rng=rng, metrics=metrics)
        prober = Prober(pool, health, interval=interval, tasks=tasks, clock=clock, rng=rng, metrics=metrics)
        made.append(Watch(pool, health, prober, metrics, tasks, clock))
        return made[-1]

    yield build
    for each in made:
        await each.tasks.close()
        each.prober.close()
        for client in each.pool.clients:
            await client.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


# ---------------------------------------------------------------------------------------------- round trip
async def test_a_look_measures_the_round_trip(start, watch) -> None:
    watched = watch({"url": (await start()).url})
    assert isnan(watched.pool.board.rtt[0])
    await watched.look()
    assert 0 < watched.pool.board.rtt[0] < 0.15
    assert watched.metrics.upstream_rtt.labels("a")._value.get() == watched.pool.board.rtt[0]
    assert watched.counted("connect", "ok") == 1


async def test_names_are_resolved_before_the_clock_starts(start, watch) -> None:
    server = await start()
    watched = watch({"url": server.url.replace("127.0.0.1", "localhost")})
    await watched.look()
    assert 0 < watched.pool.board.rtt[0] < 0.15
    await watched.look()
    assert watched.counted("connect", "ok") == 2


async def test_a_name_that_leads_nowhere_is_a_failure(watch) -> None:
    watched = watch({"url": "http://nowhere.invalid", "connect_timeout": 1.0})
    await watched.look()
    assert watched.counted("connect", "failed") == 1
    assert isnan(watched.pool.board.rtt[0])


def test_a_single_late_answer_counts_for_little() -> None:
    trip = RoundTrip()
    for _ in range(5):
        trip.add(0.01)
    assert trip.add(5.0) == pytest.approx(0.01 + 0.3 * 0.02)


def test_a_longer_way_is_believed_once_it_lasts() -> None:
    trip = RoundTrip()
    for seconds in [0.01] * 16 + [0.2] * 30:
        trip.add(seconds)
    assert trip.seconds == pytest.approx(0.2, rel=0.05)


@given(st.lists(st.floats(1e-5, 10), min_size=1, max_size=40))
def test_the_estimate_stays_within_what_was_seen(seen) -> None:
    trip = RoundTrip()
    for seconds in seen:
        trip.add(seconds)
    assert min(seen) * 0.999 <= trip.seconds <= max(seen) * 1.001


# ---------------------------------------------------------------------------------------------- health
async def test_one_where_nobody_listens_is_out_before_its_first_request(watch) -> None:
    watched = watch({"url": f"http://127.0.0.1:{free_port()}"})
    await watched.look()
    assert watched.is_out()
    assert watched.counted("connect", "failed") == 1


async def test_one_that_hangs_is_given_up_and_out(start, watch) -> None:
    server = await start()
    del server.answers["/v1/models"]
    watched = watch({"url": server.url, "load": "prometheus"})
    async with asyncio.timeout(2):
        await watched.look()
    assert watched.is_out()
    assert watched.counted("models", "failed") == 1
    assert server.asked == ["/v1/models"]  # its load is nobody's concern then


async def test_a_frontend_without_workers_is_out(start, watch) -> None:
    server = await start()
    server.answers["/v1/models"] = (200, b'{"data": []}')
    watched = watch({"url": server.url, "models": ("m",)})
    await watched.look()
    assert watched.is_out()


@pytest.mark.parametrize(("status", "out"), [(401, False), (404, False), (500, True), (503, True)])
async def test_one_that_does_not_say_what_it_serves_has_to_answer_at_least(start, watch, status, out) -> None:
    server = await start()
    server.answers["/v1/models"] = (status, b"{}")
    watched = watch({"url": server.url})
    await watched.look()
    assert watched.is_out() is out


@pytest.mark.parametrize(("status", "out"), [(401, True), (403, True), (404, False), (429, False)])
async def test_a_neighbour_that_does_not_know_the_key_serves_nothing(start, watch, status, out) -> None:
    server = await start()
    server.answers["/v1/models"] = (status, b"{}")
    watched = watch({"url": server.url, "tier": Tier.PEER, "dialect": "edgecache"})
    await watched.look()
    assert watched.is_out() is out


async def test_the_pool_hears_what_it_serves(start, watch) -> None:
    watched = watch({"url": (await start()).url})
    await watched.look()
    assert watched.pool.known("m").names == ("a",)


async def test_one_that_serves_requests_is_not_asked(start, watch) -> None:
    server = await start()
    watched = watch({"url": server.url})
    watched.health.ok("a")
    await watched.look()
    assert server.asked == []
    assert watched.pool.board.rtt[0] > 0


async def test_one_that_serves_requests_but_takes_no_connection_twice_is_out(watch) -> None:
    watched = watch({"url": f"http://127.0.0.1:{free_port()}"})
    watched.health.ok("a")
    await watched.look()
    assert not watched.is_out()
    await watched.look()
    assert watched.is_out()


# ---------------------------------------------------------------------------------------------- load
METRICS = b"vllm:num_requests_waiting 3\nvllm:num_requests_running 5\nvllm:kv_cache_usage_perc 0.5\n"


async def test_its_load_goes_onto_the_board(start, watch) -> None:
    clock = ManualClock()
    watched = watch({"url": (await start(metrics=(200, METRICS))).url, "load": "prometheus"}, clock=clock)
    await watched.look()
    board = watched.pool.board
    assert (board.queued[0], board.running[0], board.kv[0]) == (3, 5, 0.5)
    assert isnan(board.capacity[0])
    assert board.told[0] == clock.monotonic()
    assert watched.metrics.upstream_queued.labels("a")._value.get() == 3
    assert watched.metrics.upstream_kv.labels("a")._value.get() == 0.5
    assert watched.counted("load", "ok") == 1


async def test_load_is_read_where_the_settings_say(start, watch) -> None:
    server, aside = await start(), await start(metrics=(200, METRICS))
    watched = watch({"url": server.url, "load": "prometheus", "load_url": f"{aside.url}/metrics"})
    await watched.look()
    assert aside.asked == ["/metrics"]
    assert watched.pool.board.queued[0] == 3


@pytest.mark.parametrize("answer", [(404, b""), (200, b"vllm:num_requests_waiting many\n"), None])
async def test_where_the_load_cannot_be_read_the_last_word_ages(start, watch, answer) -> None:
    clock = ManualClock()
    server = await start(metrics=(200, METRICS))
    watched = watch({"url": server.url, "load": "prometheus"}, clock=clock)
    await watched.look()
    then = clock.monotonic()
    clock.advance(5)
    if answer is None:
        del server.answers["/metrics"]
    else:
        server.answers["/metrics"] = answer
    await watched.look()
    assert watched.pool.board.queued[0] == 3
    assert watched.pool.board.told[0] == then
    assert watched.counted("load", "failed") == 1
    assert not watched.is_out()  # metrics are not what it is for


async def test_a_drained_list_leaves_nothing_known(start, watch) -> None:
    clock = ManualClock()
    server = await start(metrics=(200, b'[{"numQueuedRequests": 4, "numActiveRequests": 2}]'))
    watched = watch({"url": server.url, "dialect": "trtllm", "load": "trtllm_json"}, clock=clock)
    await watched.look()
    assert watched.pool.board.queued[0] == 4
    then = clock.monotonic()
    clock.advance(5)
    server.answers["/metrics"] = (200, b"[]")
    await watched.look()
    assert isnan(watched.pool.board.queued[0])
    assert watched.pool.board.told[0] == then
    assert watched.counted("load", "unknown") == 1


async def test_who_left_in_the_meantime_is_not_written_about(start, watch) -> None:
    watched = watch({"url": (await start(metrics=(200, METRICS))).url, "load": "prometheus"})
    [gone] = watched.pool.replace([])
    await watched.prober.look(gone)
    assert watched.pool.board.names == ()
    await gone.close()


# ---------------------------------------------------------------------------------------------- rounds
async def test_everybody_is_looked_at_when_it_is_time(start, watch) -> None:
    clock = ManualClock()
    one, two = await start(), await start()
    watched = watch({"url": one.url}, {"url": two.url}, clock=clock, interval=0.04)
    watched.run()
    await until(lambda: one.asked == two.asked == ["/v1/models"])
    for _ in range(10):  # rounds in which no time passes
        await asyncio.sleep(0.01)
    assert one.asked == two.asked == ["/v1/models"]
    clock.advance(0.05)
    await until(lambda: one.asked == two.asked == ["/v1/models"] * 2)


async def test_only_some_are_looked_at_at_one_time(start, watch) -> None:
    server = await start()
    del server.answers["/v1/models"]
    settings = [{"url": server.url, "name": f"u{number}", "connect_timeout": 1.0} for number in range(24)]
    watched = watch(*settings)
    watched.run()
    await until(lambda: len(server.asked) >= 16)
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert len(server.asked) == 16
    await until(lambda: len(server.asked) >= 24)


async def test_one_that_hangs_does_not_keep_others_from_being_looked_at(start, watch) -> None:
    hung, fine = await start(), await start()
    del hung.answers["/v1/models"]
    watched = watch({"url": hung.url, "connect_timeout": 2.0}, {"url": fine.url})
    watched.run()
    await until(lambda: fine.asked.count("/v1/models") >= 3)
    assert hung.asked.count("/v1/models") == 1


async def test_one_that_is_out_for_long_is_left_alone(start, watch) -> None:
    out, fine = await start(), await start()
    watched = watch({"url": out.url}, {"url": fine.url})
    watched.pool.board.out[0] = watched.clock.monotonic() + 100
    watched.run()
    await until(lambda: len(fine.asked) >= 3)
    assert out.asked == []
    assert watched.counted("connect", "ok") == 0


async def test_one_that_comes_up_is_back_once_its_time_is_over(start, watch) -> None:
    port = free_port()
    watched = watch({"url": f"http://127.0.0.1:{port}"})
    watched.run()
    await until(watched.is_out)
    server = await start(port)
    await until(lambda: len(server.asked) > 0 and watched.pool.board.out[0] == 0 and watched.pool.board.ramp[0] == 1)
    assert watched.metrics.upstream_out.labels("a")._value.get() == 0


async def test_one_that_stays_down_stays_out(watch) -> None:
    watched = watch({"url": f"http://127.0.0.1:{free_port()}"}, base=3.0)
    watched.run()
    await until(watched.is_out)
    first = float(watched.pool.board.out[0])
    await until(lambda: watched.pool.board.out[0] > first)  # before it was ever back
    assert watched.metrics.upstream_ejections.labels("a", "probe")._value.get() == 1


async def test_rounds_keep_room_and_shares_up_to_date(start, watch) -> None:
    watched = watch({"url": (await start()).url, "tokens_per_minute": 60_000})
    watched.pool.board.room[0] = 0
    watched.run()
    await until(lambda: watched.pool.board.room[0] > 10)


async def test_who_is_gone_is_forgotten(start, watch) -> None:
    watched = watch({"url": (await start()).url})
    watched.run()
    await until(lambda: watched.pool.board.rtt[0] > 0)
    [gone] = watched.pool.replace([])
    await until(lambda: ("a",) not in watched.metrics.upstream_rtt._metrics)
    await gone.close()
