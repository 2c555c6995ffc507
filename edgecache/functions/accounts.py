"""The books of all calls: metrics, journal, tallies, and what the registry is told of canaries.

Kept in batches: booking a call of some ten microseconds by itself would cost as much again.
"""

import asyncio
from collections import Counter, defaultdict
from typing import Any

import msgspec

from edgecache.errors import Fault, FunctionFault
from edgecache.functions.journal import Journal, Record
from edgecache.functions.placing import Place
from edgecache.functions.registry import Registry
from edgecache.functions.tally import OK
from edgecache.functions.versions import Loaded
from edgecache.telemetry.metrics import observe_all
from edgecache.wasm.base import Request, Usage

ABANDONED = "abandoned"
"""Outcome of a call whose client left while it was writing its answer."""
_BATCH = 64
_DELAY = 0.05
"""Calls are booked so many at a time, at most so many seconds late, as `http.exchange` does with requests."""


class Entry(msgspec.Struct, frozen=True):
    """One call that has ended. `begun` is Unix time; `gone` says that its client had left."""

    loaded: Loaded
    place: Place
    where: str
    phase: str
    request: Request
    request_id: str
    begun: float
    seconds: float
    usage: Usage | None
    fault: FunctionFault | None
    gone: bool = False

    @property
    def outcome(self) -> str:
        """`ok`, a fault, or `abandoned`."""
        if self.gone:
            return ABANDONED
        return OK if self.fault is None else self.fault.fault.value


class Accounts:
    """Keeps the books. On one event loop."""

    def __init__(self, registry: Registry, journal: Journal) -> None:
        self._registry = registry
        self._journal = journal
        self._waiting: list[Entry] = []

    def note(self, entry: Entry) -> None:
        """A call has ended."""
        self._waiting.append(entry)
        waiting = len(self._waiting)
        if waiting >= _BATCH:
            self.flush()
        elif waiting == 1:
            asyncio.get_running_loop().call_later(_DELAY, self.flush)

    def flush(self) -> None:
        """Book what waits."""
        entries, self._waiting = self._waiting, []
        counts: Counter[Any] = Counter()
        times: defaultdict[Any, list[float]] = defaultdict(list)
        for entry in entries:
            outcome, place = entry.outcome, entry.place
            counts[place.counted(entry.phase, outcome)] += 1
            times[place.duration].append(entry.seconds)
            place.book(entry.where, outcome, entry.seconds, entry.usage)
            # Neither a POP that is busy nor a client that has left is the function's fault.
            if not entry.gone and (entry.fault is None or entry.fault.fault is not Fault.POOL):
                self._registry.observe(entry.loaded, entry.fault is None)
            version = entry.loaded.version
            if self._registry.keeps(version):  # else it was deleted meanwhile, and another may have its name
                self._journal.publish(version.tenant, version.name, _record(entry, outcome))
        for counter, count in counts.items():
            counter.inc(count)
        for histogram, seconds in times.items():
            observe_all(histogram, seconds)
        for place in {id(entry.place): entry.place for entry in entries}.values():
            place.memory.set(place.tally.memory)


def _record(entry: Entry, outcome: str) -> Record:
    """The call for the journal, with all that is needed to make it again."""
    fault, request = entry.fault, entry.request
    return Record(
        at=entry.begun,
        event="call",
        text="" if fault is None else fault.message,
        level="info" if fault is None else "error",
        version=entry.loaded.version.number,
        phase=entry.phase,
        outcome=outcome,
        request_id=entry.request_id,
        usage=entry.usage,
        data={"now": request.now, "seed": request.seed.hex(), "us": round(entry.seconds * 1e6)},
    )
