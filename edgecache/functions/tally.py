"""What the calls of one version took and how they ended: for `edgecache fn stats`, and for where its calls may run."""

from collections import Counter

import msgspec

from edgecache.wasm.base import Usage

OK = "ok"
_KEPT = 256
"""Durations that the percentiles are of: the latest."""
_EVERY = 16
"""Durations between two looks at the percentiles: sorting costs as much as counting thirty calls."""


class Window:
    """The latest durations, in seconds. The percentiles may be some calls old."""

    __slots__ = ("_kept", "_new", "_next", "_percentiles")

    def __init__(self) -> None:
        self._kept: list[float] = []
        self._next = 0
        self._new = 0
        self._percentiles = (0.0, 0.0)

    def add(self, seconds: float) -> None:
        """One more."""
        if len(self._kept) < _KEPT:
            self._kept.append(seconds)
        else:
            self._kept[self._next] = seconds
            self._next = (self._next + 1) % _KEPT
        self._new += 1

    @property
    def count(self) -> int:
        """How many are remembered."""
        return len(self._kept)

    @property
    def p50(self) -> float:
        """The median; 0 of none."""
        return self._looked()[0]

    @property
    def p99(self) -> float:
        """What one in a hundred exceeds; of few, the longest."""
        return self._looked()[1]

    def _looked(self) -> tuple[float, float]:
        count = len(self._kept)
        if self._new >= _EVERY or (self._new and count < 2 * _EVERY):
            ordered = sorted(self._kept)
            self._percentiles = ordered[(count - 1) // 2], ordered[-(-99 * count // 100) - 1]
            self._new = 0
        return self._percentiles


class Tally:
    """The books of one version. `cpu` is time in the sandbox that waited for nothing, `wall` all of a call."""

    __slots__ = ("cpu", "host_calls", "memory", "outcomes", "places", "wall")

    def __init__(self) -> None:
        self.cpu = Window()
        self.wall = Window()
        self.outcomes: Counter[str] = Counter()
        self.places: Counter[str] = Counter()
        self.host_calls = 0
        self.memory = 0

    def add(self, place: str, outcome: str, seconds: float, usage: Usage | None) -> None:
        """Count a call that ran at `place` (`inline`, `thread`, `process`) and took `seconds`.

        `usage` is None where it ended without an answer.
        """
        self.outcomes[outcome] += 1
        self.places[place] += 1
        self.wall.add(seconds)
        if usage is not None:
            self.cpu.add(usage.cpu)
            self.host_calls += usage.host_calls
            self.memory = usage.memory


class Stats(msgspec.Struct, frozen=True):
    """A tally for people: times in microseconds, memory (of the latest call) in bytes.

    `where` is the place of the next call, `ran` how many there were at each.
    """

    calls: int
    outcomes: dict[str, int]
    p50_us: float
    p99_us: float
    cpu_p50_us: float
    cpu_p99_us: float
    memory: int
    host_calls: int
    where: str
    ran: dict[str, int]


def stats(tally: Tally, where: str) -> Stats:
    """What the books say."""

    def micro(seconds: float) -> float:
        return round(seconds * 1e6, 1)

    return Stats(
        calls=tally.outcomes.total(),
        outcomes=dict(tally.outcomes),
        p50_us=micro(tally.wall.p50),
        p99_us=micro(tally.wall.p99),
        cpu_p50_us=micro(tally.cpu.p50),
        cpu_p99_us=micro(tally.cpu.p99),
        memory=tally.memory,
        host_calls=tally.host_calls,
        where=where,
        ran=dict(tally.places),
    )
