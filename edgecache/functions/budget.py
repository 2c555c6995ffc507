"""What one call of a function has left to spend on its host: calls, bytes, log lines and time. Not what it may ask for.

Spending more ends the call; a log line too many is only dropped. One call, one thread: no locks.
"""

from edgecache.clock import Clock
from edgecache.errors import Fault, FunctionFault
from edgecache.functions.grants import Grants


class Budget:
    """The host calls of one call of a function. What was spent: `calls`, and bytes `moved` and `logged`."""

    def __init__(self, grants: Grants, clock: Clock, deadline: float) -> None:
        """`deadline`: when the call ends, as `clock.monotonic()` has it."""
        self._grants = grants
        self._clock = clock
        self._deadline = deadline
        self.calls = 0
        self.moved = 0
        self.logged = 0
        self.dropped = 0
        """Log lines that were not kept."""

    def call(self) -> None:
        """One more host call; raises FunctionFault if that is one too many."""
        self.calls += 1
        if self.calls > self._grants.calls:
            raise FunctionFault(
                Fault.BUDGET, f"{self.calls} host calls, of at most {self._grants.calls} (limits.host_calls)"
            )

    def move(self, size: int) -> None:
        """`size` more bytes in or out; raises FunctionFault if those are too many."""
        self.moved += size
        if self.moved > self._grants.bytes:
            raise FunctionFault(
                Fault.BUDGET,
                f"{self.moved} bytes through host calls, of at most {self._grants.bytes} (limits.host_bytes)",
            )

    def log(self, size: int) -> bool:
        """Whether a log line of `size` bytes is kept."""
        if self.logged + size > self._grants.log:
            self.dropped += 1
            return False
        self.logged += size
        return True

    @property
    def bytes_left(self) -> int:
        """Bytes that may still go in or out."""
        return max(0, self._grants.bytes - self.moved)

    @property
    def time_left(self) -> float:
        """Seconds until the call must have ended; 0 when that is past."""
        return max(0.0, self._deadline - self._clock.monotonic())
