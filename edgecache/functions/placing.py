"""Where the calls of a version run: on the event loop where that is quicker than handing them to a thread, else in one.

A call on the loop holds up every other request, so a version has to earn it: it never waits for anything, half of its
calls in threads were short, and on the loop nearly all are; who was stopped there for good reason never comes back. In
a thread every call meets cold caches, so its slowest ones there say little. What counts of the sandbox is CPU time:
waiting for the processor or the interpreter lock is not the function's doing. On the loop the time that reading the
answer takes counts too.
"""

from typing import Any

import msgspec

from edgecache.config import Functions
from edgecache.errors import Fault
from edgecache.functions.grants import granted, isolated, needs_waiting
from edgecache.functions.tally import Tally, Window
from edgecache.functions.versions import Version
from edgecache.telemetry.metrics import Metrics
from edgecache.wasm.base import Kind, Usage

INLINE, THREAD, PROCESS = "inline", "thread", "process"
INLINE_BYTES = 64 * 1024
"""Size of a body from which it is handed over, read and rendered in a thread."""
_QUICK = (Kind.CORE, Kind.COMPONENT)
"""Kinds that can be quick enough."""
_MEASURED = 20
"""Calls in threads before one may run on the loop."""
_JUDGED = 100
"""Calls on the loop after which their p99 decides."""
_REST = 512
"""Calls in threads after which a version that was too slow on the loop may try again."""
_SLACK = 2.0
"""How much longer than `functions.inline` the p99 may be of what is on the loop already: on a busy machine everything
takes longer, and what goes back and forth takes longest."""
_LONGEST = 0.002
"""CPU seconds after which a call on the loop is stopped, to be made again in a thread."""


class Place:
    """What the runner knows of one version: its limits, its books, and where its calls may run."""

    def __init__(self, version: Version, settings: Functions, metrics: Metrics) -> None:
        limits = granted(version.manifest, settings).limits
        self.limits = limits
        self.tight = msgspec.structs.replace(limits, cpu=min(limits.cpu, _LONGEST))
        self.tally = Tally()
        self._here = Window()
        self._there = Window()
        self._rested = 0
        self.isolated = isolated(version.tenant, version.manifest, settings)
        self.stopped = False
        """Whether a call took too long to ever run on the loop again."""
        self.suspect = False
        """Whether one was stopped there: what it takes when made again in a thread decides."""
        self._most = (
            0.0 if self.isolated or version.kind not in _QUICK or needs_waiting(version.manifest) else settings.inline
        )
        who = (version.tenant, version.name)
        self._who = who
        self._metrics = metrics
        self._calls: dict[tuple[str, str], Any] = {}
        self.duration = metrics.function_duration.labels(*who)
        self.memory = metrics.function_memory.labels(*who)

    @property
    def inline(self) -> bool:
        """Whether the next call may run on the event loop."""
        if not self._most or self.stopped or self.suspect or self._slow:
            return False
        return self._there.count >= _MEASURED and self._there.p50 < self._most

    @property
    def _slow(self) -> bool:
        return self._here.count >= _JUDGED and self._here.p99 >= _SLACK * self._most

    def book(self, where: str, outcome: str, seconds: float, usage: Usage | None) -> None:
        """Count a call; as `Tally.add`."""
        self.tally.add(where, outcome, seconds, usage)
        if usage is None:
            return
        if where == INLINE:
            self._here.add(usage.cpu + max(0.0, seconds - usage.wall))
            return
        self._there.add(usage.cpu)
        if self._slow:
            self._rested += 1
            if self._rested >= _REST:
                self._here, self._rested = Window(), 0

    def overdone(self) -> None:
        """A call on the loop, to be made again, has an answer too large to be read there: many end it for a while."""
        self._here.add(_LONGEST)

    @property
    def where(self) -> str:
        """Where the next call runs."""
        return INLINE if self.inline else PROCESS if self.isolated else THREAD

    def judge(self, fault: Fault | None, usage: Usage | None) -> None:
        """A call in a thread has ended: what it took says whether the one that was stopped before took too long too.

        Sandboxes are stopped by the time that has passed, and on a busy machine that may not have been theirs.
        """
        long = fault is Fault.CPU or (self.suspect and (usage is None or usage.cpu > self.tight.cpu / 2))
        self.stopped = self.stopped or long
        self.suspect = False

    def counted(self, phase: str, outcome: str) -> Any:
        """The counter of calls in `phase` that end so."""
        counter = self._calls.get((phase, outcome))
        if counter is None:
            counter = self._calls[phase, outcome] = self._metrics.function_calls.labels(*self._who, phase, outcome)
        return counter
