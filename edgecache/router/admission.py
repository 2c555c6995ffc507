"""Waiting for room at upstreams: bounded, better classes first, fair between tenants, never past a deadline.

Who cannot be served in time is told so at once, whatever the load: arriving takes the same time however many wait. In
which order a class is served is `line`'s part; what room there is, the caller's.
"""

import asyncio
from collections.abc import Callable, Hashable
from math import ceil, exp, inf
from typing import Any, TypeVar

from edgecache.clock import Clock
from edgecache.config import ServiceLevel
from edgecache.errors import EdgeCacheError, Overloaded
from edgecache.router.demand import Demand
from edgecache.router.line import Line, Ticket
from edgecache.telemetry.metrics import Metrics
from edgecache.types import ServiceClass

T = TypeVar("T")

_POLL = 0.05
"""Seconds between two looks for room that time has made: an upstream is no longer busy, a rate has room again."""
_TRIES = 4
_PAUSE = 0.002
"""So many tries at a time, then others have the event loop; for so many seconds where none of the tries succeeded."""
_MEMORY = 10.0
"""Seconds of waiting after which what was observed of a group's pace counts for a third."""
_PACES = 256
_LONGEST = 120
"""Seconds of Retry-After that OpenAI's SDKs still heed."""


class _Waiter(Ticket, kw_only=True, eq=False):
    """A request that waits. `turn` gets what `take` gave, or why there is nothing."""

    service: ServiceClass
    due: float
    since: float
    take: Callable[[], Any]
    turn: asyncio.Future[Any]

    @property
    def let_in(self) -> bool:
        """Whether `turn` has what `take` gave."""
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


class _Pace:
    """How fast one group is served while some of it wait."""

    def __init__(self, now: float) -> None:
        self._turns = 0.0
        self._seconds = 0.0
        self._last = now

    def begin(self, now: float) -> None:
        """Somebody waits again: the time without anybody does not count."""
        self._last = now

    def served(self, now: float) -> None:
        """One was let in."""
        passed, self._last = now - self._last, now
        kept = exp(-passed / _MEMORY)
        self._turns = self._turns * kept + 1
        self._seconds = self._seconds * kept + passed

    def each(self, now: float) -> float:
        """Seconds a turn, while some wait; 0 where nothing was observed."""
        return (self._seconds + now - self._last) / self._turns if self._turns else 0.0


class Admission:
    """The waiting room of one POP's broker. On one event loop. `max_waiting` may be set anew at any time."""

    def __init__(self, max_waiting: int, *, clock: Clock, metrics: Metrics) -> None:
        self.max_waiting = max_waiting
        self.waiting = 0
        """Requests of all classes that wait."""
        self._clock = clock
        self._shed = metrics.shed
        self._gauges = {service: metrics.waiting.labels(service.value) for service in ServiceClass}
        self._times = {service: metrics.wait_duration.labels(service.value) for service in ServiceClass}
        self._lines: dict[ServiceClass, Line[_Waiter]] = {service: Line() for service in ServiceClass}
        self._paces: dict[Hashable, _Pace] = {}
        self._blocked: set[Hashable] | None = None
        """Groups without room in the round in progress; None = there is none."""
        self._again = False
        self._walking = False
        self._polling = False

    def crowded(self, service: ServiceClass, group: Hashable) -> bool:
        """Whether a newcomer has to wait since somebody does who needs the same and is of no lesser class."""
        for other, line in self._lines.items():
            if line.count(group):
                return True
            if other is service:
                break
        return False

    async def turn(
        self,
        demand: Demand,
        level: ServiceLevel,
        take: Callable[[], T | None],
        *,
        group: Hashable,
        wait: float,
        seconds: float = 0.0,
    ) -> T:
        """What `take` gives as soon as it is this request's turn and `take` gives something; None = there is no room.

        `group` is what all who need the same have in common: where one of them finds no room, no other of an equal or
        lesser class is asked in the same round. `wait` and `seconds` are predicted: until room appears, and from then
        to the end of the answer.

        Raises what `take` raises, or `Overloaded` with `retry_after` and one of the codes `queue_full`, `shed` (gave
        way to a better class), `predicted_miss` and `due_time_passed`. Who is cancelled while it is let in gets its
        turn, and is cancelled at the next `await`: what was reserved is given back where it always is.
        """
        if not self.crowded(demand.service, group) and demand.due > self._clock.monotonic():
            taken = take()
            if taken is not None:
                return taken
        waiter = self._waiter(demand, take, group)
        self._check(waiter, level, wait, seconds)
        self._enter(waiter)
        timer = None if waiter.due == inf else _loop().call_later(waiter.due - waiter.since, self._expire, waiter)
        try:
            given: T = await waiter.turn
        except asyncio.CancelledError:
            if not waiter.let_in:
                raise
            _cancel_again()
            given = waiter.turn.result()
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(waiter)
        return given

    def released(self) -> None:
        """Room may have appeared. Those who wait are asked in their order, soon."""
        if self.waiting:
            self._again = True
            self._schedule()

    def _waiter(self, demand: Demand, take: Callable[[], Any], group: Hashable) -> _Waiter:
        return _Waiter(
            tenant=demand.tenant,
            group=group,
            weight=demand.weight,
            work=max(1.0, demand.prompt_tokens + demand.output_tokens),
            service=demand.service,
            due=demand.due,
            since=self._clock.monotonic(),
            take=take,
            turn=_loop().create_future(),
        )

    def _check(self, waiter: _Waiter, level: ServiceLevel, wait: float, seconds: float) -> None:
        """Raise `Overloaded` for who may not wait; make room for who may."""
        left = waiter.due - waiter.since
        if left <= 0:
            raise self._late(waiter)
        service = waiter.service
        predicted = self._predicted(waiter, wait)
        if predicted + seconds > left:
            message = (
                f"The answer is due in {left:.1f} s but would take {predicted + seconds:.1f} s, "
                f"{predicted:.1f} s of it waiting for an upstream: allow it more time."
            )
            raise self._refusal(service, "predicted_miss", message, predicted)
        if len(self._lines[service]) >= level.queue:
            limit = f"router.classes.{service.value}.queue = {level.queue}"
            message = f"All requests of class {service.value} that may wait do ({limit})."
            raise self._refusal(service, "queue_full", message, predicted)
        if self.waiting >= self.max_waiting and not self._evict(service):
            message = f"All requests that may wait do (router.max_waiting = {self.max_waiting})."
            raise self._refusal(service, "queue_full", message, predicted)

    def _predicted(self, waiter: _Waiter, wait: float = 0.0) -> float:
        """Seconds that `waiter` would wait if it came now, `wait` of them until room appears for anybody."""
        ahead = 0.0
        for service, line in self._lines.items():
            if service is waiter.service:
                ahead += line.ahead(waiter.group, waiter.tenant, waiter.weight)
                break
            ahead += line.count(waiter.group)
        pace = self._paces.get(waiter.group)
        return wait + (ahead * pace.each(self._clock.monotonic()) if pace is not None and ahead else 0.0)

    def _evict(self, service: ServiceClass) -> bool:
        """Take the place of the newest of the least class that is waiting, if that is less than `service`."""
        for other in reversed(ServiceClass):
            if other is service:
                break
            if line := self._lines[other]:
                waiter = line.newest()
                limit = f"router.max_waiting = {self.max_waiting}"
                message = f"All requests that may wait do ({limit}), and one of a better class came."
                self._dismiss(waiter, self._refusal(other, "shed", message, self._predicted(waiter)))
                return True
        return False

    def _expire(self, waiter: _Waiter) -> None:
        if not waiter.turn.done():
            self._dismiss(waiter, self._late(waiter))

    def _late(self, waiter: _Waiter) -> Overloaded:
        message = "No upstream had room before the answer was due: allow it more time."
        return self._refusal(waiter.service, "due_time_passed", message, self._predicted(waiter))

    def _refusal(self, service: ServiceClass, code: str, message: str, wait: float) -> Overloaded:
        self._shed.labels(service.value, code).inc()
        seconds = max(1, ceil(min(wait, _LONGEST)))
        return Overloaded(f"{message} Try again in {seconds} s.", code=code, retry_after=seconds)

    def _enter(self, waiter: _Waiter) -> None:
        if not any(line.count(waiter.group) for line in self._lines.values()):
            self._pace(waiter.group, waiter.since).begin(waiter.since)
        self._lines[waiter.service].add(waiter)
        self.waiting += 1
        self._gauges[waiter.service].inc()
        if not self._polling:
            self._polling = True
            _loop().call_later(_POLL, self._poll)

    def _leave(self, waiter: _Waiter, *, served: bool = False) -> None:
        """Out of its line, if it is in."""
        line = self._lines[waiter.service]
        if waiter not in line:
            return
        self.waiting -= 1
        if served:
            line.serve(waiter)
        else:
            line.remove(waiter)
        self._gauges[waiter.service].dec()
        self._times[waiter.service].observe(self._clock.monotonic() - waiter.since)

    def _dismiss(self, waiter: _Waiter, error: Exception) -> None:
        self._leave(waiter)
        if not waiter.turn.done():
            waiter.turn.set_exception(error)

    def _pace(self, group: Hashable, now: float) -> _Pace:
        found = self._paces.get(group)
        if found is None:
            if len(self._paces) >= _PACES:
                self._paces.clear()
            found = self._paces[group] = _Pace(now)
        return found

    def _poll(self) -> None:
        self._polling = bool(self.waiting)
        if self._polling:
            _loop().call_later(_POLL, self._poll)
            self.released()

    def _schedule(self, delay: float = 0.0) -> None:
        if not self._walking:
            self._walking = True
            _loop().call_later(delay, self._walk)

    def _walk(self) -> None:
        """Part of a round: ask those who wait in their order, until each group was served or has found no room.

        A round that has begun is ended before the next begins, else the last in it might never be asked.
        """
        self._walking = False
        if self._blocked is None:
            self._blocked, self._again = set(), False
        pause = _PAUSE
        for _ in range(_TRIES):
            waiter = self._next(self._blocked)
            if waiter is None:
                self._blocked = None
                if self._again:
                    self._schedule()
                return
            if self._ask(waiter):
                pause = 0.0
            else:
                self._blocked.add(waiter.group)
        self._schedule(pause)

    def _next(self, blocked: set[Hashable]) -> _Waiter | None:
        heads = (line.first(blocked) for line in self._lines.values())
        return next((head for head in heads if head is not None), None)

    def _ask(self, waiter: _Waiter) -> bool:
        """Whether the line is shorter by `waiter` now."""
        if waiter.turn.done():  # cancelled a moment ago
            self._leave(waiter)
            return True
        try:
            taken = waiter.take()
        except EdgeCacheError as error:
            self._dismiss(waiter, error)
            return True
        except Exception as error:  # a defect: none who wait behind it shall meet it again and again
            self._dismiss(waiter, error)
            raise
        if taken is None:
            return False
        now = self._clock.monotonic()
        self._pace(waiter.group, now).served(now)
        self._leave(waiter, served=True)
        waiter.turn.set_result(taken)
        return True


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _cancel_again() -> None:
    """Put the cancellation of the running task off until its next `await`, in the books of `asyncio.timeout` too."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
        task.cancel()
