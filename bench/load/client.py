"""A load generator that costs little: raw keep-alive connections, one request at a time on each."""

import asyncio
import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer. `first` and `total` are seconds from sending to the first and the last byte of its body."""

    status: int
    head: bytes
    body: bytes
    first: float
    total: float

    def header(self, name: str) -> str:
        """The value of a response header, empty when absent."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode().strip().lower() == name:
                return value.decode().strip()
        return ""

    def stage(self, name: str) -> float | None:
        """Seconds of one stage by `Server-Timing`, None when it did not take place."""
        for part in self.header("server-timing").split(","):
            key, _, duration = part.strip().partition(";dur=")
            if key == name:
                return float(duration) / 1000
        return None


def post(url: str, path: str, body: Mapping[str, Any] | bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a POST request with a JSON body."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(payload)}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode() + payload


class Connection(asyncio.Protocol):
    """One connection. Understands Content-Length and chunked bodies; anything else is an error."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Exchange] | None = None
        self._reset(0.0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in progress."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("closed in the middle of an answer"))

    async def ask(self, request: bytes) -> Exchange:
        """Send `request`, wait for the whole answer."""
        assert self._transport is not None  # noqa: S101
        self._waiter = asyncio.get_running_loop().create_future()
        self._reset(time.perf_counter())
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _reset(self, begun: float) -> None:
        self._begun = begun
        self._buffer = bytearray()
        self._body_at = 0
        self._length = -1
        self._first = 0.0

    def data_received(self, data: bytes) -> None:
        """Take in what came; complete the exchange when it is whole."""
        self._buffer += data
        if not self._body_at:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._body_at = end + 4
            self._length = _content_length(bytes(self._buffer[:end]))
        have = len(self._buffer) - self._body_at
        if have and not self._first:
            self._first = time.perf_counter()
        if have == self._length or (self._length < 0 and self._buffer.endswith(b"\r\n0\r\n\r\n")):
            self._complete()

    def _complete(self) -> None:
        now = time.perf_counter()
        head, body = bytes(self._buffer[: self._body_at - 4]), bytes(self._buffer[self._body_at :])
        found = Exchange(int(head[9:12]), head, body, (self._first or now) - self._begun, now - self._begun)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(found)


def _content_length(head: bytes) -> int:
    """The length of the body, -1 when it is chunked."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return -1


async def connect(url: str) -> Connection:
    """Open a connection to the host and port of `url`."""
    place = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, place.hostname or "", place.port or 80)
    return connection


async def drive(url: str, requests: Iterable[bytes], connections: int, *, think: float = 0.0) -> list[Exchange]:
    """Send `requests`, each connection its next one once its last is answered.

    Before each it pauses for a random time of at most `think` seconds: without it, connections to a server that answers
    after a fixed time fall into step, and what is measured is a burst.
    """
    work = iter(requests)
    opened = [await connect(url) for _ in range(connections)]
    try:
        lanes = await asyncio.gather(*(_lane(connection, work, think) for connection in opened))
    finally:
        for connection in opened:
            connection.close()
    return [exchange for lane in lanes for exchange in lane]


async def _lane(connection: Connection, work: Iterator[bytes], think: float) -> list[Exchange]:
    done = []
    for request in work:
        if think:
            await asyncio.sleep(random.uniform(0.0, think))
        done.append(await connection.ask(request))
    return done


async def hammer(url: str, request: bytes, connections: int, seconds: float) -> int:
    """Send the same request for `seconds` on all connections; how many were answered 200. Keeps no answers."""
    opened = [await connect(url) for _ in range(connections)]
    deadline = time.perf_counter() + seconds
    try:
        return sum(await asyncio.gather(*(_repeat(connection, request, deadline) for connection in opened)))
    finally:
        for connection in opened:
            connection.close()


async def _repeat(connection: Connection, request: bytes, deadline: float) -> int:
    answered = 0
    while time.perf_counter() < deadline:
        exchange = await connection.ask(request)
        if exchange.status != 200:
            raise ConnectionError(f"answered {exchange.status}: {exchange.body[:200]!r}")
        answered += 1
    return answered
