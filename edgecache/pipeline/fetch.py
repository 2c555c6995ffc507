"""The answer of an upstream as a reply: streamed on as it comes, shared with identical requests, kept if complete."""

from collections.abc import AsyncIterator, Hashable

from msgspec import structs

from edgecache.clock import Clock
from edgecache.errors import EdgeCacheError, NotCached, Overloaded, UpstreamError
from edgecache.pipeline.coalesce import Flights, Listener, Transcript
from edgecache.pipeline.fill import Filler, Ticket
from edgecache.pipeline.replay import Replay
from edgecache.router import deadline
from edgecache.router.answer import RoutedAnswer
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
        """The upstream's answer, neither shared nor kept, and so without a flight.

        Raises NotCached instead where only a stored answer was asked for.
        """
        try:
            _may_go_upstream(call)
            with trace.stage("upstream"):
                answer = await self._dispatcher.dispatch(call)
                reply = _reply(answer, info, b"" if answer.streaming else await answer.read())
        except EdgeCacheError as error:
            error.cache = info
            raise
        if answer.streaming:
            reply.chunks = _Passing(answer)
        return reply

    async def miss(self, ticket: Ticket, info: CacheInfo, trace: Trace) -> Reply:
        """The upstream's answer, shared with identical requests in progress, and kept.

        Raises NotCached instead where only a stored answer was asked for.
        """
        sharing = ticket.settings.coalesce and not ticket.decision.refresh
        try:
            _may_go_upstream(ticket.call)
            for _ in range(_JOINS if sharing else 0):
                listener = self._flights.join(_key(ticket), self._left(ticket.call))
                if listener is None:
                    break
                if (reply := await self._collapse(listener, ticket, info, trace)) is not None:
                    return reply
            return await self._flown(self._start(ticket, sharing=sharing), info, trace)
        except EdgeCacheError as error:
            error.cache = info
            raise

    async def renew(self, ticket: Ticket) -> None:
        """Fetch and keep a new answer that nobody waits for; one at a time for each key. Never raises UpstreamError."""
        if (listener := self._flights.join(_key(ticket))) is None:
            listener = self._start(structs.replace(ticket, call=background(ticket.call, Purpose.RENEW)), sharing=True)
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
                return await self._flown(listener, info, trace)
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

    async def _flown(self, listener: Listener, info: CacheInfo, trace: Trace) -> Reply:
        """What comes of the flight that `listener` listens to."""
        try:
            with trace.stage("upstream"):
                script = await listener.head()
        except BaseException:
            await listener.aclose()
            raise
        reply = _reply(script, info, script.body)
        if script.streaming:
            reply.chunks = listener
        else:
            await listener.aclose()
        return reply


class _Passing(AsyncIterator[bytes]):
    """The bytes of a stream that nobody shares, as they come; its end frees the upstream."""

    def __init__(self, answer: RoutedAnswer) -> None:
        self._answer = answer
        self._chunks = answer.chunks()

    async def __anext__(self) -> bytes:
        async for chunk in self._chunks:
            if chunk.visible:
                return chunk.visible
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give the answer up, if it has not ended."""
        await self._chunks.aclose()
        await self._answer.aclose()  # chunks that were never begun have nothing to close


def background(call: Call, purpose: Purpose) -> Call:
    """`call` as a request of this POP's own, for which nobody waits: in the last class, on an account of its own."""
    wishes = structs.replace(call.wishes, service=ServiceClass.BATCH, deadline=None, arrived=None)
    return structs.replace(call, purpose=purpose, wishes=wishes, account=None)


def _may_go_upstream(call: Call) -> None:
    """Raises NotCached where only a stored answer was asked for (RFC 9111, section 5.2.1.7)."""
    if call.controls.only_if_cached:
        raise NotCached("No stored answer fits this request, and only-if-cached was asked for.")


def _key(ticket: Ticket) -> Hashable:
    """Whose answer may be shared: not that of a request that was made before the last purge."""
    return ticket.key.digest, ticket.key.max_tokens, ticket.purge, ticket.variant


def _shape(call: Call) -> tuple[bool, bool]:
    return call.stream, call.include_usage


async def _keep_nothing(_script: Transcript) -> Entry | None:
    return None


def _reply(said: Transcript | RoutedAnswer, info: CacheInfo, body: bytes) -> Reply:
    info.fwd_status = said.status
    failed = said.status >= 400
    return Reply(
        said.status,
        info,
        content_type="application/json" if failed else said.content_type,
        body=openai.normalise_error(said.status, body) if failed else body,
        upstream=said.upstream,
        headers=said.headers,
        usage=lambda: said.usage,
    )
