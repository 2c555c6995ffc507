"""The answer of an upstream as a reply: streamed on as it comes, shared with identical requests, kept if complete."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from edgecache.clock import Clock
from edgecache.errors import EdgeCacheError, NotCached, Overloaded, UpstreamError
from edgecache.pipeline.coalesce import Flights, Listener, Transcript
from edgecache.pipeline.fill import Filler, Ticket
from edgecache.pipeline.replay import Replay
from edgecache.router import deadline
from edgecache.router.dispatch import Dispatcher
from edgecache.telemetry.metrics import Metrics
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheInfo, Call, Entry, Purpose, Reply, ServiceClass
from edgecache.wire import openai

_JOINS = 2
"""Flights of others that a request joins before it goes by itself: whoever leads may fail without its followers."""


class Fetcher:
    """Gets answers from upstream."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        flights: Flights,
        filler: Filler,
        replay: Replay,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._dispatcher = dispatcher
        self._flights = flights
        self._filler = filler
        self._replay = replay
        self._clock = clock
        self._metrics = metrics

    async def bypass(self, call: Call, info: CacheInfo, trace: Trace) -> Reply:
        """The upstream's answer, neither shared nor kept."""
        with _said(call, info):
            return await self._passed(call, info, trace)

    async def _passed(self, call: Call, info: CacheInfo, trace: Trace) -> Reply:
        listener = self._flights.start(lambda: self._dispatcher.dispatch(call), _keep_nothing)
        return await self._reply(listener, info, trace)

    async def miss(self, ticket: Ticket, info: CacheInfo, trace: Trace) -> Reply:
        """The upstream's answer, shared with identical requests in progress, and kept.

        Raises NotCached instead where only a stored answer was asked for.
        """
        with _said(ticket.call, info):
            return await self._fetched(ticket, info, trace)

    async def _fetched(self, ticket: Ticket, info: CacheInfo, trace: Trace) -> Reply:
        sharing = ticket.settings.coalesce and not ticket.decision.refresh
        for _ in range(_JOINS if sharing else 0):
            listener = self._flights.join(_key(ticket), self._left(ticket.call))
            if listener is None:
                break
            if (reply := await self._collapse(listener, ticket, info, trace)) is not None:
                return reply
        return await self._reply(self._start(ticket, sharing=sharing), info, trace)

    async def renew(self, ticket: Ticket) -> None:
        """Fetch and keep a new answer that nobody waits for; one at a time for each key. Never raises UpstreamError."""
        if (listener := self._flights.join(_key(ticket))) is None:
            listener = self._start(replace(ticket, call=background(ticket.call, Purpose.RENEW)), sharing=True)
        try:
            await listener.landed()
        finally:
            await listener.aclose()

    async def again(self, ticket: Ticket) -> Transcript:
        """Another answer to a request that has its answer: neither shared nor kept. Never raises UpstreamError."""
        call = background(ticket.call, Purpose.SAMPLE)
        listener = self._flights.start(
            lambda: self._dispatcher.dispatch(call), _keep_nothing, keep=ticket.settings.max_stream_bytes
        )
        try:
            await listener.landed()
        finally:
            await listener.aclose()
        return listener.flight.transcript

    def _start(self, ticket: Ticket, *, sharing: bool) -> Listener:
        return self._flights.start(
            lambda: self._dispatcher.dispatch(ticket.call, ticket.vector),
            lambda script: self._filler.land(ticket, script),
            key=_key(ticket) if sharing else None,
            shape=_shape(ticket.call),
            keep=ticket.settings.max_stream_bytes,
        )

    async def _collapse(self, listener: Listener, ticket: Ticket, info: CacheInfo, trace: Trace) -> Reply | None:
        """Share another request's answer: its bytes, or its entry where the two want different forms of it.

        None where there was nothing to share in the end: the answer never began, or could not be kept.
        """
        self._metrics.collapsed.inc()
        info.collapsed = True
        try:
            if listener.flight.shape == _shape(ticket.call):
                return await self._reply(listener, info, trace)
            with trace.stage("upstream"):
                entry = await listener.landed()
        except (UpstreamError, Overloaded):
            if listener.late:  # it is this request's own time that is over
                raise
            entry = None
        finally:
            if listener.flight.shape != _shape(ticket.call):
                await listener.aclose()
        info.collapsed = entry is not None
        if entry is None:
            return None
        content_type, content = self._replay.body(ticket.call, entry)
        return Reply(200, info, content_type=content_type, body=content, upstream=entry.upstream)

    def _left(self, call: Call) -> float:
        """Seconds to the deadline of `call`: that of a flight is its leader's."""
        now = self._clock.monotonic()
        return deadline.due(call, self._dispatcher.settings.classes, now) - now

    async def _reply(self, listener: Listener, info: CacheInfo, trace: Trace) -> Reply:
        try:
            with trace.stage("upstream"):
                script = await listener.head()
                body = b"" if script.streaming else await listener.whole()
        except BaseException:
            await listener.aclose()
            raise
        info.fwd_status = script.status
        reply = _reply(script, info, body)
        if script.streaming:
            reply.chunks = listener
        else:
            await listener.aclose()
        return reply


def background(call: Call, purpose: Purpose) -> Call:
    """`call` as a request of this POP's own, for which nobody waits: in the last class, on an account of its own."""
    wishes = msgspec.structs.replace(call.wishes, service=ServiceClass.BATCH, deadline=None, arrived=None)
    return msgspec.structs.replace(call, purpose=purpose, wishes=wishes, account=None)


@contextmanager
def _said(call: Call, info: CacheInfo) -> Iterator[None]:
    """Errors that leave the block say how the cache handled the request; RFC 9111, 5.2.1.7: only-if-cached is one."""
    try:
        if call.controls.only_if_cached:
            raise NotCached("No stored answer fits this request, and only-if-cached was asked for.")
        yield
    except EdgeCacheError as error:
        error.cache = info
        raise


def _key(ticket: Ticket) -> Hashable:
    """Whose answer may be shared: not that of a request that was made before the last purge."""
    return ticket.key.digest, ticket.key.max_tokens, ticket.purge, ticket.variant


def _shape(call: Call) -> tuple[bool, bool]:
    return call.stream, call.include_usage


async def _keep_nothing(_script: Transcript) -> Entry | None:
    return None


def _reply(script: Transcript, info: CacheInfo, body: bytes) -> Reply:
    failed = script.status >= 400
    return Reply(
        script.status,
        info,
        content_type="application/json" if failed else script.content_type,
        body=openai.normalise_error(script.status, body) if failed else body,
        upstream=script.upstream,
        headers=script.headers,
        usage=lambda: script.usage,
    )
