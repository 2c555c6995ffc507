"""The connection guard: slow clients, too much of anything, request heads that `heads` refuses, and the short cut.

aiohttp 3.14 never times out a silent client and accepts chunk extensions of any size; that ends here, before routing.
The short cut answers a request that came whole and needs no waiting without aiohttp's request, router and task:
they cost more than an exact hit. Nothing here knows about OpenAI.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from edgecache.config import Limits
from edgecache.errors import (
    BadRequest,
    ClientError,
    ConfigError,
    EdgeCacheError,
    HeadersTooLarge,
    RequestTimeout,
    TooLarge,
    UnsupportedMedia,
)
from edgecache.http import errors, heads
from edgecache.telemetry.metrics import Metrics

_FRAMING_SLACK = 16 * 1024
"""Bytes of chunk framing a request may carry beyond the size of its payload."""
_LINGER = 2.0
"""Seconds of an answered request's unread body that are still read, so that the answer is not lost to a reset."""

Render = Callable[[EdgeCacheError, web.BaseRequest], web.StreamResponse]
"""Turns what never became a request into a response."""
Quick = Callable[[RawRequestMessage, bytes], bytes | None]
"""The short cut: the whole response to a request that has its whole body, or None if it must wait for anything."""


class GuardedServer(web.Server):
    """aiohttp's server with guarded connections."""

    def __init__(
        self,
        handler: Any,
        *,
        request_factory: Any,
        limits: Limits,
        metrics: Metrics,
        render: Render,
        quick: Quick,
    ) -> None:
        """Raises ConfigError without aiohttp's C parser."""
        if HttpRequestParser is HttpRequestParserPy:
            raise ConfigError(
                "aiohttp's C extensions are missing; its Python parser is not hardened. Reinstall aiohttp."
            )
        super().__init__(
            handler,
            request_factory=request_factory,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.idle_timeout,
            max_line_size=limits.max_header_bytes,
            max_field_size=limits.max_header_bytes,
            lingering_time=_LINGER,
        )
        self.limits = limits
        self.hosts = heads.Hosts(limits.allowed_hosts)
        self.metrics = metrics
        self.render = render
        self.quick = quick
        self.open = 0

    def pre_shutdown(self) -> None:
        """Close idle connections. aiohttp's own version deafens busy ones too, and their bodies then never arrive."""
        for connection in self.connections:
            cast("Connection", connection).close_if_idle()

    def transport_of(self, connection: RequestHandler) -> asyncio.Transport | None:
        """The transport of `connection`, also while it is closing."""
        return self._connections.get(connection)

    def __call__(self) -> "Connection":
        """The protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(RequestHandler):
    """One client connection. Timers exist for what is late only: a request that comes whole costs none."""

    __slots__ = (
        "_counted", "_framed", "_head_bytes", "_head_timer", "_heads", "_limits", "_payload", "_raw", "_server",
        "_unsent", "_write_timer",
    )  # fmt: skip

    def __init__(self, manager: GuardedServer, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._server = manager
        self._limits = manager.limits
        self._counted = False
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._framed = False
        self._raw = 0
        self._head_bytes = 0
        self._heads = 0
        self._unsent = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------------ life of a connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, unless there are too many."""
        real = cast("asyncio.Transport", transport)
        if self._server.open >= self._limits.max_connections:
            self._server.metrics.connections_refused.inc()
            real.abort()
            return
        self._server.open += 1
        self._counted = True
        self._server.metrics.connections.inc()
        # 0 = whatever the kernel does not take at once pauses writing, so an unread answer is seen at once, and
        # "drained" means that every byte has left this process.
        real.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        if self._counted:
            self._counted = False
            self._server.open -= 1
            self._server.metrics.connections.dec()
        super().connection_lost(exc)

    def _reap(self, phase: str) -> None:
        if self.transport is not None:
            self._server.metrics.slow_clients.labels(phase).inc()
            self.transport.abort()

    def close_if_idle(self) -> None:
        """Close unless a request is in progress or on its way."""
        if self._waiter is not None and not self._messages and not self._head_bytes:
            self.force_close()

    def cancel_request(self) -> None:
        """Cancel the handler of the request in progress, if there is one."""
        if self._task_handler is not None and self._current_request is not None:
            self._task_handler.cancel()

    # ------------------------------------------------------------------------------------------ reading

    def data_received(self, data: bytes) -> None:
        """Parse, inspect and queue requests, or take the short cut; in place of aiohttp's method, without upgrades."""
        if self._close or self._force_close or self._parser is None:
            return  # answered already; what still comes is read only so that the answer is not lost to a reset
        try:
            messages, upgraded, _tail = self._parser.feed_data(data)
        except HttpProcessingError as error:
            if self._payload.is_eof():
                self._answer_only(error)
            else:  # aiohttp would leave the handler waiting for the rest of a body that never comes
                self._break_body(BadRequest("The body of the request is not valid HTTP/1.1."))
            return
        if self._framed:
            self._charge_framing(len(data))
        if messages:
            self._head_bytes = 0
            if len(messages) > 1 or upgraded or not self._shortcut(*messages[0], len(data)):
                for message, payload in messages:
                    self._accept(message, payload, len(data), upgraded=upgraded)
        elif self._payload.is_eof() and data:
            self._await_head(len(data))

    def _shortcut(self, message: RawRequestMessage, payload: StreamReader, size: int) -> bool:
        """Answer at once if nobody is waiting before this request and `quick` has the answer; True if it had."""
        waiter, parser, transport = self._waiter, self._parser, self.transport
        if parser is None or transport is None:
            return False
        if waiter is None or waiter.done() or self._messages or message.should_close or message.chunked:
            return False
        if payload is EMPTY_PAYLOAD or not payload.is_eof() or size > self._limits.max_header_bytes:
            return False
        if self._paused or heads.fault(message, self._server.hosts) is not None:
            return False
        body = b"".join(payload._buffer)  # noqa: SLF001 - a look: who takes the long way reads it again
        answer = self._server.quick(message, body)
        if answer is None:
            return False
        self._request_count += 1
        self._payload = payload
        parser.message_consumed()
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        transport.write(answer)
        return True

    def _accept(self, message: RawRequestMessage, payload: StreamReader, size: int, *, upgraded: bool = False) -> None:
        """Queue a request for aiohttp's loop, or the answer to what is wrong with it."""
        self._payload = payload
        fault = heads.fault(message, self._server.hosts)
        if fault is None and upgraded:
            fault = BadRequest("Upgrading the connection is not supported.")
        if fault is None and size > self._limits.max_header_bytes:
            fault = self._oversized(heads.size(message))
        if fault is None and message.chunked:
            self._framed, self._raw = True, size - heads.size(message)
            fault = self._framing()
        if fault is not None:
            self._answer_only(fault)
        else:
            self._queue(message, payload)

    def _answer_only(self, error: Exception) -> None:
        """Have `error` answered and the connection closed a little later: aiohttp lingers, the payload never ends."""
        self._framed = False
        self._queue(_ErrInfo(400, error, ""), StreamReader(self, 2**16, loop=self._loop))
        self._close = True

    def _queue(self, message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> None:
        self._request_count += 1
        self._messages.append((message, payload))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if len(self._messages) >= self._max_msg_queue_size and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _charge_framing(self, size: int) -> None:
        """Count `size` raw bytes of a chunked body whose handler reads it already."""
        self._raw += size
        if (fault := self._framing()) is not None:
            self._framed = False
            self._break_body(fault)

    def _break_body(self, fault: ClientError) -> None:
        """Fail the handler that reads the body, and read nothing more."""
        self._lingering_time = 0.0
        self._payload.set_exception(fault)
        self._close = True

    def _framing(self) -> ClientError | None:
        """Raw bytes of a chunked request against its payload: tiny chunks, long extensions cost and carry nothing."""
        if self._raw > 2 * self._payload.total_bytes + _FRAMING_SLACK:
            return BadRequest("The chunks of the request carry far more framing than data.")
        if self._payload.is_eof():
            self._framed = False
        return None

    def _oversized(self, size: int) -> ClientError | None:
        if size <= self._limits.max_header_bytes:
            return None
        return HeadersTooLarge(f"The header section is larger than {self._limits.max_header_bytes} bytes.")

    # ------------------------------------------------------------------------------------------ lateness

    def _await_head(self, size: int) -> None:
        """Bytes came that do not make a whole request head yet."""
        self._head_bytes += size
        if (fault := self._oversized(self._head_bytes)) is not None:
            self._answer_only(fault)
        elif self._heads != self._request_count or self._head_timer is None:
            self._expect_head()

    def _expect_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._heads = self._request_count
        self._head_timer = self._loop.call_later(self._limits.header_timeout, self._head_due)

    def _head_due(self) -> None:
        self._head_timer = None
        if self._heads != self._request_count:
            return
        if self._current_request is not None or self._messages:
            self._expect_head()  # the client waits for an answer of ours: the next head is not late yet
        else:
            self._reap("header")

    def _process_keepalive(self) -> None:
        """Aiohttp's idle timer: count what it closes, and never wait for a client that left bytes unread."""
        transport = self.transport
        super()._process_keepalive()
        if transport is not None and self.transport is None:
            self._server.metrics.slow_clients.labels("idle").inc()

    def pause_writing(self) -> None:
        """The client has bytes to read."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """The client has read all of them."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _watch_writing(self) -> None:
        transport = self._server.transport_of(self)
        self._unsent = transport.get_write_buffer_size() if transport is not None else 0
        self._write_timer = self._loop.call_later(self._limits.write_timeout, self._write_due)

    def _write_due(self) -> None:
        """Reap the client unless it read at `body_min_rate` at least since the last look."""
        self._write_timer = None
        transport = self._server.transport_of(self)
        if transport is None:
            return
        progress = self._unsent - transport.get_write_buffer_size()
        if progress > 0 and progress >= self._limits.body_min_rate * self._limits.write_timeout:
            self._watch_writing()
            return
        self._server.metrics.slow_clients.labels("write").inc()
        transport.abort()

    # ------------------------------------------------------------------------------------------ errors

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer a protocol error in our envelope and close."""
        del status, message  # both follow from the exception
        if request.writer.output_size > 0:
            raise ConnectionError("part of another response is out already")
        return self._server.render(errors.of_protocol(exc), request)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """To our log, not to aiohttp's."""
        errors.log.error(*args, **kwargs)


# ---------------------------------------------------------------------------------------------- bodies


async def read_body(request: web.BaseRequest, limits: Limits, metrics: Metrics) -> bytes:
    """The whole request body.

    Raises UnsupportedMedia (compressed), TooLarge, RequestTimeout, or BadRequest (broken chunks).
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMedia("Compressed request bodies are not supported: send the body without Content-Encoding.")
    content = request.content
    try:
        body = content.read_nowait(-1) if content.is_eof() else await _read_slowly(request, content, limits)
    except RequestPayloadError as error:
        raise BadRequest("The body of the request is not valid HTTP/1.1.") from error
    except TimeoutError as error:
        metrics.slow_clients.labels("body").inc()
        raise RequestTimeout("The request body did not arrive in time.") from error
    if len(body) > limits.max_body_bytes:
        raise TooLarge(f"The request body is larger than {limits.max_body_bytes} bytes.")
    return body


async def _read_slowly(request: web.BaseRequest, content: StreamReader, limits: Limits) -> bytes:
    """Each received byte extends the deadline by what it may take at the least rate."""
    too_large = TooLarge(f"The request body is larger than {limits.max_body_bytes} bytes.")
    if (request.content_length or 0) > limits.max_body_bytes:
        raise too_large
    loop = asyncio.get_running_loop()
    begun = loop.time()
    body = bytearray()
    async with asyncio.timeout_at(begun + limits.body_timeout) as timeout:
        while chunk := await content.readany():
            body += chunk
            if len(body) > limits.max_body_bytes:
                raise too_large
            if limits.body_min_rate:
                timeout.reschedule(begun + limits.body_timeout + len(body) / limits.body_min_rate)
    return bytes(body)
