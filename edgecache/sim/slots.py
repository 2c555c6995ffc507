"""The scripted core's batch: so many requests are generated at once, the others wait in line, the rest are refused."""

import asyncio
from collections import deque
from types import TracebackType


class QueueFull(Exception):
    """The waiting queue is full."""


class Slots:
    """`async with slots:` holds one of `size` places, first come, first served; at most `queue` wait."""

    def __init__(self, size: int, queue: int) -> None:
        self.size = size
        self.queue = queue
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._waiting)

    def resize(self, size: int, queue: int) -> None:
        """Change both limits; a larger size admits waiting requests at once."""
        self.size, self.queue = size, queue
        self._admit()

    async def __aenter__(self) -> None:
        """Raises QueueFull where no place is left in line."""
        if self.running < self.size and not self._waiting:
            self.running += 1
            return
        if len(self._waiting) >= self.queue:
            raise QueueFull
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():  # admitted in the moment it was cancelled: pass the place on
                self.running -= 1
                self._admit()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.running < self.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)
