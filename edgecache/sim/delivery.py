"""Puts the scripted core's answers on the wire in their time, and breaks them off where a failure is injected."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from aiohttp import web

from edgecache.clock import Clock
from edgecache.config import tree as config

EVENT_STREAM = "text/event-stream"

Made = Callable[[int], None]
"""Called with the number of tokens that were generated since the last call."""


class Pace:
    """The delays of one server, drawn from a seeded source around the configured means, at most 70 % off.

    The limits, and the factor under load, are those of llm-d-inference-sim. `settings` may change at any time: what
    is generated at that moment feels it. `running` tells the requests in progress.
    """

    def __init__(self, random: Random, settings: config.Core, running: Callable[[], int] = lambda: 1) -> None:
        self.settings = settings
        self._random = random
        self._running = running

    @property
    def factor(self) -> float:
        """What all delays are multiplied with now: `time_factor`, and under load up to `time_factor_under_load`."""
        others = max(0, self._running() - 1) / max(1, self.settings.max_num_seqs - 1)
        return self.settings.time_factor * (1 + (self.settings.time_factor_under_load - 1) * min(others, 1.0))

    def first(self, uncached: int = 0) -> float:
        """Seconds to the first token, with `uncached` prompt tokens to be read."""
        own = self.settings
        drawn = self._draw(own.time_to_first_token, own.time_to_first_token_std_dev)
        return (drawn + own.prefill_time_per_token * uncached) * self.factor

    def next(self) -> float:
        """Seconds from one token to the next."""
        own = self.settings
        return self._draw(own.inter_token_latency, own.inter_token_latency_std_dev) * self.factor

    def moments(self, tokens: int, uncached: int = 0) -> list[float]:
        """When each of `tokens` tokens is there, in seconds from the start; at least one, for answers without any."""
        return list(accumulate([self.first(uncached), *(self.next() for _ in range(1, tokens))]))

    def _draw(self, mean: float, deviation: float) -> float:
        if not deviation:
            return mean
        return min(max(self._random.gauss(mean, min(deviation, 0.3 * mean)), 0.3 * mean), 1.7 * mean)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one answer goes out: of `uncached` prompt tokens, told to `made`, broken off by `failure`."""

    pace: Pace
    clock: Clock
    made: Made
    uncached: int = 0
    failure: str | None = None


async def never() -> None:
    """Wait until whoever waits for it gives up."""
    await asyncio.Event().wait()


async def as_json(request: web.Request, body: bytes, how: Delivery, tokens: Sequence[int] = ()) -> web.StreamResponse:
    """The whole answer once its last token is there; `tokens` are how many come at each step.

    `hang` and `stall` never come, of `silent` only the head does, `cut` breaks off half-way. The tokens count that were
    generated before the client left.
    """
    failure = how.failure
    if failure in {"hang", "stall"}:
        await never()
    if failure == "silent":
        await _opened(request, body)
        await never()
    moments = how.pace.moments(len(tokens), how.uncached)
    begun = how.clock.monotonic()
    try:
        if moments[-1] > 0:
            await asyncio.sleep(moments[-1])
    except asyncio.CancelledError:
        if there := bisect_right(moments, how.clock.monotonic() - begun):
            how.made(sum(tokens[:there]))
        raise
    how.made(sum(tokens))
    if failure != "cut":
        return web.Response(body=body, content_type="application/json")
    response = await _opened(request, body)
    await response.write(body[: len(body) // 2])
    _hang_up(request)
    return response


async def _opened(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    return response


async def as_stream(
    request: web.Request, events: Sequence[bytes], how: Delivery, tokens: Sequence[int], *, last_words: Sequence[bytes]
) -> web.StreamResponse:
    """The events in their time, all that is due in one write; `tokens` are how many each of them brings.

    `hang` says nothing at all, `silent` nothing after the head. Any other failure lets `failure_position` events out,
    else half of them; then `stall` says nothing more, `cut` hangs up, `error_event` ends with `last_words`.
    """
    failure, settings = how.failure, how.pace.settings
    if failure == "hang":
        await never()
    if failure is not None:
        position = len(events) // 2 if settings.failure_position is None else settings.failure_position
        events = [] if failure == "silent" else events[: min(position, len(events) - 1)]
    elif not any((settings.time_to_first_token, settings.inter_token_latency, settings.prefill_time_per_token)):
        how.made(sum(tokens))
        ready = web.Response(body=b"".join(events), headers={"Content-Type": EVENT_STREAM})
        ready.enable_chunked_encoding()
        return ready
    response = web.StreamResponse(headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-cache"})
    await response.prepare(request)
    await _in_time(response, events, tokens, how)
    if failure in {"silent", "stall"}:
        await never()
    elif failure == "cut":
        _hang_up(request)
    elif failure is not None:
        await response.write(b"".join(last_words))
    return response


async def _in_time(response: web.StreamResponse, events: Sequence[bytes], tokens: Sequence[int], how: Delivery) -> None:
    clock, pace = how.clock, how.pace
    late: list[bytes] = []
    due = clock.monotonic() + pace.first(how.uncached)
    for event, count in zip(events, tokens, strict=False):
        wait = due - clock.monotonic()
        if wait > 0:
            if late:
                await response.write(b"".join(late))
                late.clear()
            await asyncio.sleep(wait)
        how.made(count)
        late.append(event)
        due += pace.next()
    if late:
        await response.write(b"".join(late))


def _hang_up(request: web.Request) -> None:
    """End the connection after what was written, without the body's own end."""
    if request.transport is not None:
        request.transport.close()
