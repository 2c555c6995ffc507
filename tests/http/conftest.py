"""A public listener with a pipeline that plays prepared replies, and a raw socket client."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import orjson
import pytest
import uvloop

from edgecache import config as settings
from edgecache.clock import SystemClock
from edgecache.config import Config
from edgecache.http import app, middleware
from edgecache.http.auth import Authenticator
from edgecache.http.services import Services
from edgecache.router.ledger import Ledger
from edgecache.router.limits import Limits
from edgecache.telemetry.metrics import Metrics
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheInfo, CacheStatus, Call, Endpoint, Reply

CHAT = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})


_BOTH_LOOPS = ("test_guard", "test_respond", "test_app")


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The daemon runs on uvloop, whose flow control differs: what touches the transport is tested on both loops."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    return loops | {"uvloop": uvloop.new_event_loop} if item.path.stem in _BOTH_LOOPS else loops


class Script:
    """A pipeline that answers with what the test put in."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answer: Callable[[Call], Awaitable[Reply]] | Reply | Exception = miss(b'{"id":"1"}')
        self.stored: Reply | None = None
        self.hits = 0
        self.hit_id = ""
        self.hit_headers: Mapping[str, str] = {}

    def hit(self, call: Call, trace: Trace, request_id: str, headers: Mapping[str, str]) -> Reply | None:
        trace.add("exact", 0.00001)
        self.hit_headers = headers
        if self.stored is not None:
            self.calls.append(call)
            self.hits += 1
            self.hit_id = request_id
        return self.stored

    async def serve(self, call: Call, trace: Trace) -> Reply:
        trace.add("exact", 0.00001)
        self.calls.append(call)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, Reply) else await self.answer(call)


class Lines:
    """An access log in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, line: dict[str, Any]) -> None:
        self.lines.append(line)


def miss(body: bytes, **fields: Any) -> Reply:
    return Reply(200, CacheInfo(CacheStatus.MISS, fwd="miss", fwd_status=200), body=body, upstream="core", **fields)


def stream(chunks: AsyncIterator[bytes]) -> Reply:
    return Reply(
        200, CacheInfo(CacheStatus.MISS, fwd="miss", fwd_status=200), content_type="text/event-stream", chunks=chunks
    )


class Response:
    """One parsed response of a raw connection."""

    def __init__(self, head: bytes, body: bytes) -> None:
        status, *fields = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        self.body = body

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)["error"]
        return found


class Raw:
    """A raw client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> Response:
        """The next response with a Content-Length."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            found = Response(head[:-4], b"")
            found.body = await self.reader.readexactly(int(found.headers.get("content-length", "0")))
            return found

    async def rest(self) -> bytes:
        """Everything until the connection ends, in whichever way."""
        received = b""
        async with asyncio.timeout(10):
            try:
                while data := await self.reader.read(65536):
                    received += data
            except ConnectionError:
                pass
        return received

    async def post(self, body: bytes = CHAT, path: str = "/v1/chat/completions", *headers: str) -> Response:
        await self.send(request("POST", path, body, *headers))
        return await self.response()


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    length = (f"Content-Length: {len(body)}",) if body or method == "POST" else ()
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", *length, *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Site:
    """A started public listener."""

    def __init__(self, services: Services, script: Script, lines: Lines) -> None:
        self.services = services
        self.script = script
        self.lines = lines
        self.listener = app.public_listener(services)
        self.host = ""
        self.port = 0
        self._open: list[Raw] = []

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def connect(self, **options: Any) -> Raw:
        where = {} if "sock" in options else {"host": self.host, "port": self.port}
        raw = Raw(*await asyncio.open_connection(**where, **options))
        self._open.append(raw)
        return raw

    def remember(self, reply: Reply, *, authorization: str | None = None) -> None:
        """Have `reply` stored for `CHAT`, and `CHAT` known as a request that was an exact hit before."""
        services, path = self.services, "/v1/chat/completions"
        tenant = services.auth.tenant(authorization)
        call = middleware.call_of(services, Endpoint.CHAT, CHAT, {}, tenant=tenant, request_id="earlier")
        services.repeats.learn(path, authorization, call, services.auth)
        self.script.stored = reply

    async def log(self) -> list[dict[str, Any]]:
        """The lines written so far, once those of this moment are booked."""
        async with asyncio.timeout(5):
            while not self.lines.lines:
                await asyncio.sleep(0.01)
        return self.lines.lines

    def counted(self, sample: str, **labels: str) -> float:
        return self.services.metrics.registry.get_sample_value(sample, labels) or 0.0

    async def close(self) -> None:
        for raw in self._open:
            raw.writer.transport.abort()
            with suppress(ConnectionError):
                await raw.writer.wait_closed()
        await self.listener.stop()


def small_window(site: "Site") -> socket.socket:
    """A socket that takes a few kB before the sender has to wait."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect((site.host, site.port))
    made.setblocking(False)
    return made


@pytest.fixture
async def site() -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    """Starts public listeners: `limits` are fields of Limits, everything else sections of the configuration."""
    started: list[Site] = []

    async def start(limits: dict[str, Any] | None = None, **sections: Any) -> Site:
        config = msgspec.structs.replace(Config(limits=settings.Limits(**(limits or {}))), **sections)
        made = Site(services(config), Script(), Lines())
        made.services.pipeline = made.script
        made.services.access = made.lines
        made.host, made.port = await made.listener.start("127.0.0.1", 0)
        started.append(made)
        return made

    yield start
    for made in started:
        await made.close()


def services(config: Config) -> Services:
    """Services without engines."""
    missing: Any = None
    clock, metrics = SystemClock(), Metrics()
    return Services(
        config=config,
        auth=Authenticator(config.auth),
        clock=clock,
        metrics=metrics,
        pipeline=missing,
        explainer=missing,
        learner=missing,
        feedback=missing,
        dispatcher=missing,
        limits=Limits(clock=clock, metrics=metrics),
        ledger=Ledger(None, clock=clock, metrics=metrics, rate=lambda _model: (0.0, 0.0)),
        pool=missing,
        batcher=missing,
        store=missing,
        semantic=missing,
        reload=missing,
    )
