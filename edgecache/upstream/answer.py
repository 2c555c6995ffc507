"""One upstream answer while it arrives: bytes passed on verbatim, endings judged, the connection owned until the end.

A clean end of the connection proves nothing (trtllm-serve just closes when a worker dies) and neither does `[DONE]`
alone (Dynamo sends it after an error). Whether a finished answer may be stored is `wire.answers`' question.
"""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import aiohttp

from edgecache.errors import UpstreamDied, UpstreamError, UpstreamTimeout
from edgecache.types import Endpoint
from edgecache.upstream.dialects import reply_headers
from edgecache.upstream.meter import Meter, finishes
from edgecache.wire.directives import upstream_lifetime
from edgecache.wire.openai import is_usage_chunk, reports_error
from edgecache.wire.sse import DONE, EventSplitter, data, event_name

_RESPONSES_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_TAIL = 4
"""Events kept to judge the ending: finish chunk, usage chunk, [DONE], and one to spare."""


@dataclass(slots=True)
class Chunk:
    """What one network read completed.

    `events` are whole server-sent events, verbatim; `visible` the bytes of those that the client asked for (all but a
    usage chunk that was asked for here), possibly empty.
    """

    visible: bytes
    events: list[bytes]


class UpstreamAnswer:
    """Status, headers and body of an answer. Whoever takes one must `aclose()` it, also when the client left.

    `lifetime` is for how long the upstream lets its answer be kept (`wire.directives.upstream_lifetime`).
    `headers` holds only what may travel to the client, in lower case; `streaming` is True for server-sent events.
    `meter` reads along and knows what came and what it cost in tokens.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        upstream: str,
        endpoint: Endpoint | None,
        strip_usage: bool,
        max_bytes: int,
        first_timeout: float,
        idle_timeout: float,
        done: Callable[[], None],
    ) -> None:
        """`endpoint` None = a pass-through, whose ending is not judged; `done` is called once, at the end.

        Time-outs are seconds without a byte, 0 = none: `first_timeout` holds for a stream until something generated has
        come, `idle_timeout` from then on and for everything else.
        """
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "")
        self.headers: dict[str, str] = reply_headers(response.headers)
        self.lifetime = upstream_lifetime(response.headers)
        self.upstream = upstream
        self.streaming = self.content_type.startswith("text/event-stream")
        self.meter = Meter(endpoint)
        self._response = response
        self._endpoint = endpoint
        self._strip_usage = strip_usage
        self._max_bytes = max_bytes
        self._idle_timeout = idle_timeout
        self._received = 0
        self._done: Callable[[], None] | None = done
        self._waits = self.streaming and endpoint is not None
        self._watch(first_timeout if self._waits else idle_timeout)

    def _watch(self, patience: float) -> None:
        """Let aiohttp's own read timer, which rests while the client is slow, guard the gaps from here on."""
        self._patience = patience
        connection = self._response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = patience
            connection.protocol.start_timeout()

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The events of a stream, as they arrive.

        Raises `UpstreamDied` where the answer broke off: no byte for too long, a cut connection, an ending
        without the protocol's own end, or an error event, which is yielded first (`reported` is then True).
        """
        splitter = EventSplitter()
        tail: list[bytes] = []
        try:
            while not self._exhausted():
                try:
                    received = await self._bytes()
                except UpstreamDied:
                    raise
                except UpstreamError as broken:  # too slow, or too large
                    raise UpstreamDied(broken.message) from broken
                events = splitter.feed(received)
                if not events:
                    continue
                text = b"".join(events)  # looked at once as a whole: nearly no chunk holds an error
                if failed := self._cut_at_error(events) if b"error" in text else 0:
                    del events[failed:]
                    text = b"".join(events)
                tail = (tail + events[-_TAIL:])[-_TAIL:]
                told = self.meter.events(events)
                if self._waits and self.meter.begun:
                    self._waits = False
                    self._watch(self._idle_timeout)
                yield Chunk(self._visible(text, events, told), events)
                if failed:
                    readable = data(events[-1]) is not None  # else there is nothing in it that a client could read
                    raise UpstreamDied(f"{self.upstream} reported an error in the stream", reported=readable)
            if rest := splitter.rest.strip():
                if data(rest + b"\n\n") != b"[DONE]":
                    raise UpstreamDied(f"{self.upstream} ended the stream in the middle of an event")
                tail.append(DONE)  # the blank line after it is missing: seen in the wild, harmless
                yield Chunk(DONE, [DONE])
            if not self._complete(tail):
                raise UpstreamDied(f"{self.upstream} ended the stream before the answer was complete")
        finally:
            await self.aclose()

    async def read(self) -> bytes:
        """The whole body.

        Raises `UpstreamDied` when it broke off, `UpstreamTimeout` when it stalled, `UpstreamError` when it is larger
        than `max_response_bytes`.
        """
        parts: list[bytes] = []
        try:
            while not self._exhausted():
                parts.append(await self._bytes())
        finally:
            await self.aclose()
        body = b"".join(parts)
        self.meter.body(body)
        return body

    async def aclose(self) -> None:
        """Give the answer up: unless the body was read to its end, the connection is closed at once."""
        if self._done is not None:
            self._response.close()
            self._done()
            self._done = None

    def _exhausted(self) -> bool:
        """Whether the body was read to its end; an answer that was given up in between is not."""
        content = self._response.content
        return content.at_eof() and content.exception() is None

    async def _bytes(self) -> bytes:
        """What has arrived; empty at the end of the body."""
        try:
            received = await self._response.content.readany()
        except aiohttp.ServerTimeoutError as error:
            raise UpstreamTimeout(f"{self.upstream} sent no byte for {self._patience:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamDied(f"{self.upstream} broke off its answer ({type(error).__name__})") from error
        self._received += len(received)
        if self._received > self._max_bytes:
            raise UpstreamError(f"the answer of {self.upstream} is larger than {self._max_bytes} bytes")
        return received

    def _visible(self, text: bytes, events: list[bytes], told: list[bytes]) -> bytes:
        """`text`, which is `events`, without a usage chunk that was asked for here; it is among `told`."""
        hidden = list(filter(is_usage_chunk, told)) if self._strip_usage else []
        return b"".join([event for event in events if event not in hidden]) if hidden else text

    @staticmethod
    def _cut_at_error(events: list[bytes]) -> int:
        """How many events there are up to and with the first that reports an error; 0 = none does."""
        for index, event in enumerate(events):
            if reports_error(event):
                return index + 1
        return 0

    def _complete(self, tail: list[bytes]) -> bool:
        """Whether the stream came to its protocol's end: `[DONE]`, a finish reason, or a final Responses event."""
        if self._endpoint is None:
            return True
        if self._endpoint is Endpoint.RESPONSES:
            return any(event_name(event) in _RESPONSES_ENDS for event in tail)
        return any(data(event) == b"[DONE]" or finishes(event) for event in tail)
