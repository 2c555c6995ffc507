"""Moves the epoch of an engine forward, so that a function that does not end is ended.

Compiled code looks at the epoch wherever it loops or calls; the store of each call says at which epoch it is over.
"""

import threading
from collections.abc import Callable, Collection

from edgecache.clock import SystemClock

_REST = 1.0
"""After so many s with nothing alive the thread rests: falling asleep and waking costs each a switch of threads."""
_NOTHING, _FRESH, _SAME = 4, 2, 1
"""Periods to the next look where nothing was alive, nothing that was at the last look, and something that was. Looking
takes the interpreter lock from whoever runs, which between calls of microseconds costs more than they do."""


class Ticker:
    """A thread that calls `increment` once for every `period` s while something is in `alive`, and rests otherwise.

    Whoever adds to `alive` calls `awake.set()` afterwards unless it is set. A thread in Python may wait for the
    interpreter lock, and it looks more seldom where nothing takes long; it therefore makes up for the ticks that it
    missed: epochs follow the clock, not its wake-ups.
    """

    def __init__(self, increment: Callable[[], object], alive: Collection[object], period: float) -> None:
        self.awake = threading.Event()
        self._increment = increment
        self._alive = alive
        self._period = period
        self._running = threading.Lock()  # held until `close`: waiting for it is a sleep that `close` ends
        self._running.acquire()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="wasm-epochs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; `increment` is not called after this."""
        if not self._closing:
            self._closing = True
            self._running.release()
            self.awake.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            self._tick()
            self.awake.clear()
            # Something may have come alive since the last look, while `awake` was still set: look once more.
            if not self._alive and not self._closing:
                self.awake.wait()

    def _tick(self) -> None:
        """Tick until nothing has been alive for a while."""
        now = SystemClock().monotonic
        begun = busy = now()
        done, wait = 0, _SAME
        before: set[object] = set()
        while not self._running.acquire(timeout=wait * self._period):
            at, alive = now(), set(self._alive)
            due = int((at - begun) / self._period)
            for _ in range(due - done):
                self._increment()
            done = due
            wait = _SAME if alive & before else _FRESH if alive else _NOTHING
            before = alive
            if alive:
                busy = at
            elif at - busy > _REST:
                return
