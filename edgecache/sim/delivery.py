"""Puts the scripted core's answers on the wire in their time, and breaks them off where a failure is injected."""

import asyncio
from collections.abc import Sequence
from random import Random

from aiohttp import web

from edgecache.clock import Clock
from edgecache.config import tree as config

EVENT_STREAM = "text/event-stream"


class Pace:
    """The delays of one server, drawn from a seeded source around the configured means, at most 70 % off.

    The limits are those of llm-d-inference-sim.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def first(self, settings: config.Core) -> float:
        """Seconds to the first token."""
        return self._draw(settings.time_to_first_token, settings.time_to_first_token_std_dev)

    def next(self, settings: config.Core) -> float:
        """Seconds from one token to the next."""
        return self._draw(settings.inter_token_latency, settings.inter_token_latency_std_dev)

    def whole(self, settings: config.Core, tokens: int) -> float:
        """Seconds to an answer of `tokens` tokens."""
        return self.first(settings) + sum(self.next(settings) for _ in range(1, tokens))

    def _draw(self, mean: float, deviation: float) -> float:
        if not deviation:
            return mean
        return min(max(self._random.gauss(mean, min(deviation, 0.3 * mean)), 0.3 * mean), 1.7 * mean)


async def as_json(request: web.Request, body: bytes, *, seconds: float, failure: str | None) -> web.StreamResponse:
    """The whole answer after `seconds`; `stall` never comes, `cut` breaks off half-way."""
    if failure == "stall":
        await asyncio.Event().wait()
    if seconds > 0:
        await asyncio.sleep(seconds)
    if failure != "cut":
        return web.Response(body=body, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _hang_up(request)
    return response


async def as_stream(
    request: web.Request,
    events: Sequence[bytes],
    *,
    pace: Pace,
    settings: config.Core,
    clock: Clock,
    failure: str | None,
    last_words: Sequence[bytes],
) -> web.StreamResponse:
    """The events in their time, all that is due in one write.

    With a failure only the first half goes out; then `stall` says nothing more, `cut` hangs up, `error_event` ends
    with `last_words`.
    """
    if failure is not None:
        events = events[: len(events) // 2]
    if failure is None and not settings.time_to_first_token and not settings.inter_token_latency:
        ready = web.Response(body=b"".join(events), headers={"Content-Type": EVENT_STREAM})
        ready.enable_chunked_encoding()
        return ready
    response = web.StreamResponse(headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-cache"})
    await response.prepare(request)
    await _in_time(response, events, pace, settings, clock)
    if failure == "stall":
        await asyncio.Event().wait()
    elif failure == "cut":
        _hang_up(request)
    elif failure is not None:
        await response.write(b"".join(last_words))
    return response


async def _in_time(
    response: web.StreamResponse, events: Sequence[bytes], pace: Pace, settings: config.Core, clock: Clock
) -> None:
    due = clock.monotonic() + pace.first(settings)
    late: list[bytes] = []
    for event in events:
        wait = due - clock.monotonic()
        if wait > 0:
            if late:
                await response.write(b"".join(late))
                late.clear()
            await asyncio.sleep(wait)
        late.append(event)
        due += pace.next(settings)
    await response.write(b"".join(late))


def _hang_up(request: web.Request) -> None:
    """End the connection after what was written, without the body's own end."""
    if request.transport is not None:
        request.transport.close()
