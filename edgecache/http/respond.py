"""A `Reply` as bytes on the wire: one write for a complete answer, one a chunk for a stream, and how a stream may end.

The head is formatted here and not by aiohttp: every data-plane response carries the same fifteen headers, and one
format string costs a quarter of a header dictionary.
"""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11

from edgecache.errors import EdgeCacheError, Overloaded, UpstreamDied
from edgecache.http import errors
from edgecache.http.exchange import Exchange
from edgecache.http.services import SERVICES, Services
from edgecache.types import CacheInfo, Reply, Tenant
from edgecache.wire import openai

JSON = "application/json"
_BODILESS = (204, 304)
"""Statuses that end with their head (RFC 9110, section 6.4.1)."""
_USUAL = frozenset((JSON, "text/event-stream", "text/event-stream; charset=utf-8"))
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FIELD_VALUE = re.compile(r"[\x20-\x7e]*")
_LIMITS = "x-ratelimit-"
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*")
_UNQUOTABLE = re.compile(r"[^\x20-\x7e]")
_OWN = frozenset((
    "age", "cache-control", "cache-status", "connection", "content-length", "content-type", "date", "server",
    "server-timing", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id",
))  # fmt: skip
"""Headers of a Reply that are ours to set, or belong to one connection only (RFC 9110, section 7.6.1)."""


class Answer(web.StreamResponse):
    """A response whose bytes, head included, are ready or already sent: aiohttp only has to pass them on."""

    def __init__(self, status: int, wire: bytes, *, keep_alive: bool) -> None:
        # StreamResponse.__init__ is left out on purpose: it prepares header and state dictionaries that nobody reads.
        self._status = status
        self.wire = wire
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything."""
        writer = request.writer
        if self.wire:
            await writer.write(self.wire)
            await writer.drain()
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


def cache_status(info: CacheInfo) -> str:
    """The value of `Cache-Status` (RFC 9211): what became of the request in this cache."""
    parts = ["edgecache"]
    if info.fwd is None:
        parts.append("hit")
    else:
        parts.append("fwd=" + info.fwd)
    if info.fwd_status is not None:
        parts.append(f"fwd-status={info.fwd_status}")
    if info.ttl is not None:
        parts.append(f"ttl={info.ttl}")
    if info.collapsed:
        parts.append("collapsed")
    if info.detail is not None:
        plain = info.fwd is not None and _TOKEN.fullmatch(info.detail)
        parts.append("detail=" + (info.detail if plain else quoted(info.detail)))
    return "; ".join(parts)


def quoted(text: str) -> str:
    """A structured-field string (RFC 9651, section 3.3.3); what it cannot hold becomes `?`."""
    return '"' + _UNQUOTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _info_headers(info: CacheInfo) -> str:
    lines = f"cache-status: {cache_status(info)}\r\nx-edgecache-status: {info.status}\r\n"
    if info.age is not None:
        lines += f"age: {info.age}\r\n"
    if info.entry_id is not None:
        lines += f"x-edgecache-entry: {info.entry_id}\r\n"
    if info.similarity is not None:
        lines += f"x-edgecache-similarity: {info.similarity:.4f}\r\n"
    if info.score is not None:
        lines += f"x-edgecache-score: {info.score:.4f}\r\n"
    return lines


def _cache_headers(reply: Reply, tenant: Tenant) -> str:
    lines = _info_headers(reply.cache)
    if reply.upstream:
        lines += f"x-edgecache-upstream: {reply.upstream}\r\n"
    headers = reply.headers
    if headers and tenant.terms.allowances:  # whose limits are counted here is told of those alone
        headers = {name: value for name, value in headers.items() if not name.lower().startswith(_LIMITS)}
    return lines + _extra(headers) if headers else lines


def _extra(headers: Mapping[str, str]) -> str:
    """Headers from elsewhere: only well-formed ones, and none that is ours to set."""
    return "".join(
        f"{name.lower()}: {value}\r\n"
        for name, value in headers.items()
        if _FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value) and name.lower() not in _OWN
    )


def _head(services: Services, exchange: Exchange, status: int, content_type: str, framing: str, extra: str) -> bytes:
    """Status line and headers, at the time of the first byte. `framing`: the body's length, the connection's future."""
    trace, server = exchange.trace, services.config.server
    elapsed = exchange.ttft = trace.elapsed()
    exchange.status = status
    overhead = elapsed - trace.stages.get("upstream", 0.0)
    if content_type not in _USUAL and not _FIELD_VALUE.fullmatch(content_type):
        content_type = JSON
    if exchange.tenant.terms.allowances:
        extra += _extra(services.limits.headers(exchange.tenant))
    timing = f"server-timing: {trace.server_timing()}\r\n" if server.server_timing and trace.stages else ""
    return (
        f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n"
        f"date: {services.dates.at(services.clock.now())}\r\nserver: edgecache\r\n"
        f"content-type: {content_type}\r\n{framing}"
        f"cache-control: private, no-store\r\nx-request-id: {exchange.request_id}\r\n"
        f"openai-processing-ms: {elapsed * 1000:.0f}\r\nx-edge-overhead-ms: {overhead * 1000:.3f}\r\n"
        f"x-edgecache-pop: {server.pop}\r\n{timing}{extra}\r\n"
    ).encode("latin-1", "replace")


def stays_open(services: Services, request: web.BaseRequest) -> bool:
    """Whether the connection may carry another request: the client wants it, the body is read, nobody is leaving."""
    return request.keep_alive and request.content.is_eof() and not services.readiness.draining


def _connection(request: web.BaseRequest, keep_alive: bool) -> str:  # noqa: FBT001 - private, one caller a line away
    if not keep_alive:
        return "connection: close\r\n"
    return "" if request.version == HttpVersion11 else "connection: keep-alive\r\n"


def complete(
    services: Services,
    request: web.BaseRequest,
    exchange: Exchange,
    status: int,
    body: bytes,
    *,
    content_type: str = JSON,
    extra: str = "",
    keep_alive: bool | None = None,
) -> Answer:
    """An answer with its whole body, to be sent in one write. `extra` is ready header lines."""
    if keep_alive is None:
        keep_alive = stays_open(services, request)
    framing = _connection(request, keep_alive)
    if status not in _BODILESS:
        framing = f"content-length: {len(body)}\r\n{framing}"
    head = _head(services, exchange, status, content_type, framing, extra)
    if request.method == "HEAD" or status in _BODILESS:
        body = b""  # the client would take it for the next response
    exchange.sent = len(body)
    return Answer(status, head + body, keep_alive=keep_alive)


def replayed(services: Services, exchange: Exchange, reply: Reply) -> bytes:
    """The wire form of a complete reply on an HTTP/1.1 connection that stays open."""
    exchange.reply = reply
    exchange.cache = reply.cache.status
    exchange.sent = len(reply.body)
    framing = f"content-length: {exchange.sent}\r\n"
    return (
        _head(services, exchange, reply.status, reply.content_type, framing, _cache_headers(reply, exchange.tenant))
        + reply.body
    )


def failure(
    services: Services,
    request: web.BaseRequest,
    exchange: Exchange,
    error: EdgeCacheError,
    *,
    keep_alive: bool | None = None,
) -> Answer:
    """The answer to a request that failed with `error`: OpenAI's envelope."""
    extra = _extra(errors.headers(error))
    if error.cache is not None:
        extra += _info_headers(error.cache)
        exchange.cache = error.cache.status
    body = openai.error_body(error)
    return complete(services, request, exchange, error.status, body, extra=extra, keep_alive=keep_alive)


async def send(request: web.Request, exchange: Exchange, reply: Reply) -> Answer:
    """Send `reply`. A stream is sent before this returns; raises ConnectionError when the client left."""
    services = request.app[SERVICES]
    exchange.reply = reply
    exchange.cache = reply.cache.status
    extra = _cache_headers(reply, exchange.tenant)
    if reply.chunks is None:
        return complete(
            services, request, exchange, reply.status, reply.body, content_type=reply.content_type, extra=extra
        )
    chunks = cast("AsyncGenerator[bytes, None]", reply.chunks)
    try:
        return await _Stream(services, request, exchange).run(reply, chunks, extra)
    finally:
        await chunks.aclose()


class _Stream:
    """One streamed response: chunked in HTTP/1.1, ended by closing in HTTP/1.0."""

    def __init__(self, services: Services, request: web.Request, exchange: Exchange) -> None:
        self._services = services
        self._request = request
        self._exchange = exchange
        self._writer: Any = request.writer
        self._chunked = request.version == HttpVersion11

    async def run(self, reply: Reply, chunks: AsyncGenerator[bytes, None], extra: str) -> Answer:
        request, exchange = self._request, self._exchange
        first = await anext(chunks, b"")  # what fails before the first byte is an ordinary error
        keep_alive = self._chunked and stays_open(self._services, request)
        framing = ("transfer-encoding: chunked\r\n" if self._chunked else "") + _connection(request, keep_alive)
        head = _head(self._services, exchange, reply.status, reply.content_type, framing, extra)
        try:
            await self._write(head + self._frame(first))
            async for chunk in chunks:
                await self._write(self._frame(chunk))
        except EdgeCacheError as error:  # the upstream died, or a function failed or refused the rest
            await self._break_off(error)
            return Answer(reply.status, b"", keep_alive=False)
        except asyncio.CancelledError:
            self._cut_short()
            raise
        return Answer(reply.status, b"0\r\n\r\n" if self._chunked else b"", keep_alive=keep_alive)

    def _frame(self, chunk: bytes) -> bytes:
        self._exchange.sent += len(chunk)
        if not chunk:
            return b""
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk

    async def _write(self, data: bytes) -> None:
        if data:
            await self._writer.write(data, drain=False)
            await self._writer.drain()

    async def _break_off(self, error: EdgeCacheError) -> None:
        """An error event, unless the upstream sent its own, and then no end: SDKs take a clean end for success."""
        self._exchange.broken = True
        if not (isinstance(error, UpstreamDied) and error.reported):
            await self._write(self._frame(openai.error_event(error)))
        _abort(self._request, reset=not self._chunked)

    def _cut_short(self) -> None:
        """Cancelled. If the client is still there, it is this POP that stops: say so, and leave the end out."""
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.write(self._frame(openai.error_event(Overloaded("This POP is shutting down."))))


def _abort(request: web.BaseRequest, *, reset: bool) -> None:
    """Close the connection at once. Without chunks only a reset tells the client that the body is not complete."""
    transport = request.transport
    if transport is None:
        return
    if reset and (sock := transport.get_extra_info("socket")) is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    transport.abort()
