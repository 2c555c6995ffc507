"""Programs that nobody can call any more, on their way to being closed.

They are given up anywhere: in any thread, within garbage collection, under somebody's lock. Closing one unmaps its code
or ends a process, so it is done elsewhere, one after the other.
"""

import asyncio
from collections import deque
from contextlib import suppress

from edgecache.tasks import Tasks
from edgecache.wasm.base import Program


class Graveyard:
    """The programs of one POP that wait to be closed. Made on the event loop."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Program] = deque()
        self._turn = asyncio.Lock()

    def bury(self, program: Program) -> None:
        """Close `program` soon. From any thread; takes no lock and never waits."""
        self._waiting.append(program)
        with suppress(RuntimeError):  # the loop has ended, and what it had left is gone with the process
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._waiting:
            self._tasks.spawn(self.close(), name="close functions")

    async def close(self) -> None:
        """Close all that wait."""
        async with self._turn:
            while self._waiting:
                await asyncio.to_thread(self._waiting.popleft().close)
