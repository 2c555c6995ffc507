"""Whose call gets the next thread where more calls come than there are threads.

Owners take turns, each in the order of its own calls, and where several have functions none has all threads: calls that
take all the time they may keep only those of their own owner waiting. To be used on one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

_QUEUE = 4
"""Calls of one owner that may wait, per thread of the POP."""


class Turn(msgspec.Struct, frozen=True, eq=False):
    """A call of `owner`: `work` runs in a thread, then `ended` on the loop with what it came to, or was cancelled."""

    owner: str
    work: Callable[[], Any]
    ended: Callable[[Future[Any]], object]


class _Line(msgspec.Struct):
    """The calls of one owner."""

    running: int = 0
    waiting: deque[Turn] = msgspec.field(default_factory=deque)


class Turns:
    """The threads of one POP's functions. `shared`: more than one owner has functions."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="function")
        self._threads = threads
        self._running = 0
        self._lines: dict[str, _Line] = {}
        self.shared = False

    def full(self, owner: str) -> int:
        """How many calls of `owner` run or wait, if that is all it may have; else 0."""
        line = self._lines.get(owner)
        count = line.running + len(line.waiting) if line else 0
        return count if count >= self._threads * (1 + _QUEUE) else 0

    def take(self, turn: Turn) -> None:
        """Run `turn` as soon as it is its owner's turn."""
        self._lines.setdefault(turn.owner, _Line()).waiting.append(turn)
        self._begin()

    def leave(self, turn: Turn) -> None:
        """Take `turn` back if it still waits; its `ended` is not called then."""
        line = self._lines.get(turn.owner)
        if line is not None and turn in line.waiting:
            line.waiting.remove(turn)
            self._forget(turn.owner, line)

    def _begin(self) -> None:
        """Give threads to those whose turn it is, as long as there are any."""
        while self._running < self._threads and (owner := self._next()) is not None:
            line = self._lines[owner] = self._lines.pop(owner)  # behind all others now
            line.running += 1
            self._running += 1
            self._start(line.waiting.popleft(), asyncio.get_running_loop())

    def _next(self) -> str | None:
        share = max(self._threads - 1, 1) if self.shared else self._threads
        return next((owner for owner, line in self._lines.items() if line.waiting and line.running < share), None)

    def _start(self, turn: Turn, loop: asyncio.AbstractEventLoop) -> None:
        def tell(call: Future[Any]) -> None:
            loop.call_soon_threadsafe(self._ended, turn, call)

        self._pool.submit(turn.work).add_done_callback(tell)

    def _ended(self, turn: Turn, call: Future[Any]) -> None:
        line = self._lines[turn.owner]
        line.running -= 1
        self._running -= 1
        self._forget(turn.owner, line)
        self._begin()
        turn.ended(call)

    def _forget(self, owner: str, line: _Line) -> None:
        if not line.running and not line.waiting:
            del self._lines[owner]

    async def close(self) -> None:
        """Wait for calls in progress, and cancel those that wait."""
        for line in self._lines.values():
            while line.waiting:
                call: Future[Any] = Future()
                call.cancel()
                line.waiting.popleft().ended(call)
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.sleep(0)  # what has ended is told to this loop
