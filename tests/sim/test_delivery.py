import asyncio
from random import Random

import aiohttp
import pytest
from aiohttp import web

from edgecache.clock import SystemClock
from edgecache.config import tree as config
from edgecache.sim.delivery import Delivery, Pace, as_json, as_stream

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


def delivery(settings: config.Core = NOW, failure: str | None = None, made=lambda _: None) -> Delivery:
    return Delivery(Pace(Random(0), settings), SystemClock(), made, failure=failure)


def streaming(settings: config.Core, failure: str | None = None, made=lambda _: None):
    async def handler(request: web.Request) -> web.StreamResponse:
        how = delivery(settings, failure, made)
        return await as_stream(request, EVENTS, how, [2, 1, 1, 1, 1, 1], last_words=[b"data: sorry\n\n"])

    return handler


def whole(seconds: float = 0.0, failure: str | None = None, made=lambda _: None):
    async def handler(request: web.Request) -> web.StreamResponse:
        settings = config.Core(time_to_first_token=seconds, inter_token_latency=seconds)
        return await as_json(request, b'{"a":1}', delivery(settings, failure, made), [2, 1])

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


async def test_a_silent_stream_is_a_head_and_nothing_more(deliver) -> None:
    body, broken, took = await deliver(streaming(NOW, "silent"))
    assert (body, broken) == (b"", False)
    assert took >= 0.5


@pytest.mark.parametrize(("position", "told"), [(0, 0), (2, 2), (5, 5), (6, 5), (60, 5)])
async def test_a_stream_dies_where_it_is_told_to_but_never_after_its_end(deliver, position: int, told: int) -> None:
    settings = config.Core(time_to_first_token=0, inter_token_latency=0, failure_position=position)
    assert (await deliver(streaming(settings, "cut")))[:2] == (b"".join(EVENTS[:told]), True)


@pytest.mark.parametrize(
    ("settings", "failure", "tokens"),
    [
        (NOW, None, 7),
        (PACED, None, 7),
        (NOW, "cut", 4),
        (PACED, "stall", 4),
        (NOW, "silent", 0),
        (NOW, "error_event", 4),
    ],
)
async def test_the_tokens_of_a_stream_are_those_that_it_says(deliver, settings, failure, tokens) -> None:
    made: list[int] = []
    await deliver(streaming(settings, failure, made.append))
    assert sum(made) == tokens


async def test_a_json_answer_comes_after_its_time_or_breaks_off(deliver) -> None:
    body, broken, took = await deliver(whole(0.01))
    assert (body, broken) == (b'{"a":1}', False)
    assert took >= 0.02
    assert (await deliver(whole(failure="cut")))[:2] == (b'{"a', True)


async def test_a_silent_json_answer_is_a_head_and_nothing_more(deliver) -> None:
    body, broken, took = await deliver(whole(failure="silent"))
    assert (body, broken) == (b"", False)
    assert took >= 0.5


async def test_a_json_answer_that_nobody_waits_for_counts_as_far_as_it_came() -> None:
    class Slow(SystemClock):
        """Seconds pass at every look."""

        now_ = 0.0

        def monotonic(self) -> float:
            self.now_ += 1.5
            return self.now_

    made: list[int] = []
    settings = config.Core(time_to_first_token=1.0, inter_token_latency=1.0)
    how = Delivery(Pace(Random(0), settings), Slow(), made.append)
    answering = asyncio.get_running_loop().create_task(as_json(None, b"{}", how, [2, 1, 1]))
    await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert made == [2]


def test_delays_are_drawn_around_their_means_within_bounds() -> None:
    settings = config.Core(
        time_to_first_token=1.0,
        time_to_first_token_std_dev=5.0,  # more than 30 % counts as 30 %
        inter_token_latency=0.1,
        inter_token_latency_std_dev=0.02,
    )
    pace = Pace(Random(1), settings)
    firsts = [pace.first() for _ in range(2000)]
    assert 0.3 <= min(firsts) < 0.5
    assert 1.5 < max(firsts) <= 1.7
    assert sum(firsts) / len(firsts) == pytest.approx(1.0, abs=0.03)
    again = Pace(Random(1), settings)
    assert [again.first() for _ in range(5)] == firsts[:5]
    assert pace.moments(11)[-1] == pytest.approx(2.0, abs=1.1)
    assert Pace(Random(1), PACED).moments(3) == pytest.approx([0.004, 0.008, 0.012])
    assert Pace(Random(1), PACED).moments(0) == [0.004]


def test_each_new_prompt_token_takes_its_time() -> None:
    pace = Pace(Random(0), config.Core(time_to_first_token=0.1, prefill_time_per_token=0.01, inter_token_latency=0.2))
    assert pace.first(50) == pytest.approx(0.6)
    assert pace.moments(2, 50) == pytest.approx([0.6, 0.8])


def test_a_factor_is_felt_at_once_by_every_delay() -> None:
    pace = Pace(Random(0), config.Core(time_to_first_token=0.1, prefill_time_per_token=0.01, inter_token_latency=0.2))
    before = (pace.first(5), pace.next())
    pace.settings = config.Core(
        time_to_first_token=0.1, prefill_time_per_token=0.01, inter_token_latency=0.2, time_factor=10.0
    )
    assert (pace.first(5), pace.next()) == pytest.approx((10 * before[0], 10 * before[1]))


@pytest.mark.parametrize(
    ("running", "places", "factor"),
    [(0, 11, 2.0), (1, 11, 2.0), (6, 11, 4.0), (11, 11, 6.0), (12, 11, 6.0), (1, 1, 2.0)],
)
def test_a_server_becomes_slower_the_fuller_it_is(running: int, places: int, factor: float) -> None:
    settings = config.Core(time_factor=2.0, time_factor_under_load=3.0, max_num_seqs=places)
    assert Pace(Random(0), settings, lambda: running).factor == pytest.approx(factor)
