"""An answer that a function writes part by part in its thread, while the event loop sends it.

The function waits while the client reads more slowly than it writes, as long as its wall time lasts; once the client
has left, its next write ends the call.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from threading import Condition

import msgspec

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.answer import headers_of, status_of
from edgecache.wasm.base import Headers, Limits, unpack
from edgecache.wasm.hostcalls import Code, answered, refused

_AHEAD = 256 * 1024
"""Bytes that may wait for the client."""


class Head(msgspec.Struct, frozen=True):
    """Status and headers of an answer."""

    status: int
    headers: Headers


class Outgoing(AsyncIterator[bytes]):
    """The host of `body.*` in one call, and what the call has written: first `head`, then the parts."""

    def __init__(self, limits: Limits) -> None:
        """To be made on the event loop that sends."""
        self.gone = False
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._head: Head | None = None
        self._parts: deque[bytes] = deque()
        self._written = 0
        self._waiting = 0
        self._ended = False
        self._woken = asyncio.Event()
        self._room = Condition()

    # ------------------------------------------------------------------------------------------ in the thread
    def call(self, op: str, argument: bytes) -> bytes:
        """As `wasm.base.Host`; raises FunctionFault where the answer ends here."""
        try:
            fields = unpack(argument)
        except ValueError as error:
            return refused(Code.INVALID, f"{op}: {error}")
        if self.gone:
            raise FunctionFault(Fault.ANSWER, "wrote to a client that has left")
        if op == "body.head" and len(fields) % 2:
            self._begin(fields)
        elif op == "body.write" and len(fields) == 1:
            self._write(fields[0])
        else:
            return refused(Code.INVALID, f"{op} with {len(fields)} fields means nothing here")
        return answered()

    def _begin(self, fields: list[bytes]) -> None:
        if self._head is not None:
            raise FunctionFault(Fault.ANSWER, "answered twice")
        status, *said = fields
        pairs = zip(said[::2], said[1::2], strict=True)
        self._head = Head(status_of(status), headers_of(pairs))
        self._loop.call_soon_threadsafe(self._woken.set)

    def _write(self, part: bytes) -> None:
        if self._head is None:
            raise FunctionFault(Fault.ANSWER, "wrote a body before its head")
        self._written += len(part)
        if (over := self._written - self._limits.response) > 0:
            raise FunctionFault(
                Fault.SIZE, f"answered {over} bytes more than the {self._limits.response} that it may answer"
            )
        with self._room:
            # What the time was that this took, the sandbox asks when it goes on: its wall time is its own.
            if not self._room.wait_for(lambda: self._waiting < _AHEAD or self.gone, self._limits.wall):
                raise FunctionFault(Fault.WALL, f"waited {self._limits.wall:g} s for a client that does not read")
            self._waiting += len(part)
        self._loop.call_soon_threadsafe(self._take, part)

    # ------------------------------------------------------------------------------------------ on the loop
    def end(self) -> None:
        """The call has ended."""
        self._ended = True
        self._woken.set()

    async def head(self) -> Head | None:
        """Wait for the head; None where the call ends without one."""
        while self._head is None and not self._ended:
            await self._wait()
        return self._head

    async def __anext__(self) -> bytes:
        """The next part."""
        while not self._parts:
            if self._ended:
                raise StopAsyncIteration
            await self._wait()
        part = self._parts.popleft()
        with self._room:
            self._waiting -= len(part)
            self._room.notify()
        return part

    def close(self) -> None:
        """Nobody wants the rest."""
        if not self._ended:
            with self._room:
                self.gone = True
                self._room.notify()

    def _take(self, part: bytes) -> None:
        self._parts.append(part)
        self._woken.set()

    async def _wait(self) -> None:
        self._woken.clear()
        await self._woken.wait()
