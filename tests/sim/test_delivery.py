import asyncio
from random import Random

import aiohttp
import pytest
from aiohttp import web

from edgecache.clock import SystemClock
from edgecache.config import tree as config
from edgecache.sim.delivery import Pace, as_json, as_stream

EVENTS = [b"data: %d\n\n" % number for number in range(6)]
NOW = config.Core(time_to_first_token=0, inter_token_latency=0)
PACED = config.Core(time_to_first_token=0.004, inter_token_latency=0.004)


@pytest.fixture
async def deliver():
    """Serves one kind of answer and reads it: status, body, whether it broke off."""
    runners: list[web.AppRunner] = []

    async def fetch(handler) -> tuple[bytes, bool, float]:
        app = web.Application()
        app.router.add_get("/", handler)
        runner = web.AppRunner(app, handler_cancellation=True)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        loop = asyncio.get_running_loop()
        body, begun = b"", loop.time()
        timeout = aiohttp.ClientTimeout(total=None, sock_read=0.5)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(f"http://127.0.0.1:{runner.addresses[0][1]}") as response:
                try:
                    async for part in response.content.iter_any():
                        body += part
                except (aiohttp.ClientPayloadError, aiohttp.ServerTimeoutError) as error:
                    return body, type(error) is aiohttp.ClientPayloadError, loop.time() - begun
            return body, False, loop.time() - begun

    yield fetch
    for runner in runners:
        await runner.cleanup()


def streaming(settings: config.Core, failure: str | None = None):
    async def handler(request: web.Request) -> web.StreamResponse:
        return await as_stream(
            request,
            EVENTS,
            pace=Pace(Random(0)),
            settings=settings,
            clock=SystemClock(),
            failure=failure,
            last_words=[b"data: sorry\n\n"],
        )

    return handler


@pytest.mark.parametrize("settings", [NOW, PACED])
async def test_a_stream_arrives_whole(deliver, settings) -> None:
    body, broken, took = await deliver(streaming(settings))
    assert body == b"".join(EVENTS)
    assert not broken
    assert took >= settings.time_to_first_token + 5 * settings.inter_token_latency


@pytest.mark.parametrize("settings", [NOW, PACED])
async def test_a_cut_stream_breaks_off_half_way(deliver, settings) -> None:
    assert (await deliver(streaming(settings, "cut")))[:2] == (b"".join(EVENTS[:3]), True)


async def test_a_stream_with_an_error_event_ends_cleanly_after_it(deliver) -> None:
    assert (await deliver(streaming(NOW, "error_event")))[:2] == (b"".join(EVENTS[:3]) + b"data: sorry\n\n", False)


async def test_a_stalled_stream_says_nothing_more(deliver) -> None:
    body, _, took = await deliver(streaming(NOW, "stall"))
    assert body == b"".join(EVENTS[:3])
    assert took >= 0.5


async def test_a_json_answer_comes_after_its_time_or_breaks_off(deliver) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        return await as_json(request, b'{"a":1}', seconds=0.01, failure=None)

    async def cut(request: web.Request) -> web.StreamResponse:
        return await as_json(request, b'{"a":1}', seconds=0.0, failure="cut")

    body, broken, took = await deliver(slow)
    assert (body, broken) == (b'{"a":1}', False)
    assert took >= 0.01
    assert (await deliver(cut))[:2] == (b'{"a', True)


def test_delays_are_drawn_around_their_means_within_bounds() -> None:
    settings = config.Core(
        time_to_first_token=1.0,
        time_to_first_token_std_dev=5.0,  # more than 30 % counts as 30 %
        inter_token_latency=0.1,
        inter_token_latency_std_dev=0.02,
    )
    pace = Pace(Random(1))
    firsts = [pace.first(settings) for _ in range(2000)]
    assert 0.3 <= min(firsts) < 0.5
    assert 1.5 < max(firsts) <= 1.7
    assert sum(firsts) / len(firsts) == pytest.approx(1.0, abs=0.03)
    assert pace.whole(settings, 11) == pytest.approx(2.0, abs=1.1)
    again = Pace(Random(1))
    assert [again.first(settings) for _ in range(5)] == firsts[:5]
    assert Pace(Random(1)).whole(PACED, 3) == pytest.approx(0.012)
