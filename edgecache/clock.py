"""The only source of time: a collaborator, so that tests and the simulator can hold it still."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time for what is stored, monotonic time for what is measured; both in seconds."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...


class SystemClock:
    """The machine's clocks, as they are: every request reads them dozens of times."""

    now = staticmethod(time.time)  # noqa: TID251 - this is the one place
    monotonic = staticmethod(time.perf_counter)


class ManualClock:
    """A clock that moves only when told to; for tests and simulations."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        """Unix time in seconds."""
        return self._now

    def monotonic(self) -> float:
        """The same time: nothing else moves it."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time forward by `seconds`."""
        self._now += seconds
