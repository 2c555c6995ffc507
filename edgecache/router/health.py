"""Which upstreams are left out, and how they come back: circuit breaking, outlier ejection, slow re-entry, overload.

Failures lead to an ejection; overload (429, 503, 529) only to a pause, for a busy upstream is not a broken one. Written
into the board's `out`, `ramp` and `busy`, by name, so that it survives a reload.
"""

import logging
from collections import deque
from dataclasses import dataclass, field
from math import inf
from random import Random

from edgecache.clock import Clock
from edgecache.config import Ejection
from edgecache.router.pool import Pool
from edgecache.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_WINDOW, _ENOUGH = 30.0, 20
"""Seconds of results that make up an error rate, and how many results it takes."""
_SLICE = 1.0
"""Seconds of results that are counted together."""
_JITTER = 0.2
"""Share by which a time out is longer or shorter: POPs are not to come back all at once."""
_LEAST = 0.1
"""Share of its capacity that one that has just come back gets."""
_MISSED = 2
"""Probes in a row that one which has served before may not answer."""
_PAUSE, _LONGER, _LONGEST = 1.0, 8.0, 60.0
"""Seconds of rest after an overload without Retry-After: first, and after repetitions; and at most with it."""
IDLE = 30.0
"""Seconds without a result after which probes are asked how an upstream is."""
LEAD = 2.5
"""Seconds before the end of its time out at which it is probed to see whether it stays out: a probe takes up to two."""


@dataclass(slots=True)
class _State:
    """What one upstream did lately. `slices`: [start, results, failures] by time; times are monotonic seconds."""

    slices: deque[list[float]] = field(default_factory=deque)
    streak: int = 0
    missed: int = 0
    times: int = 0
    """Ejections that count towards the length of the next."""
    back: float = -inf
    """When it came back last."""
    used: float = -inf
    """When a request ended there last."""
    trial: bool = False
    """True from its return until the first success."""
    overloads: int = 0


class Health:
    """Takes results, of requests and probes, and keeps the board's view of who may be asked. `settings` may change."""

    def __init__(self, pool: Pool, settings: Ejection, *, clock: Clock, rng: Random, metrics: Metrics) -> None:
        self.settings = settings
        self._pool = pool
        self._clock = clock
        self._rng = rng
        self._out = metrics.upstream_out
        self._ejections = metrics.upstream_ejections
        self._states: dict[str, _State] = {}
        self._returning: set[str] = set()
        """Those that are out or get less than their share."""

    # ------------------------------------------------------------------------------------------ what happened
    def ok(self, name: str) -> None:
        """A request was answered as it should be, or refused for a reason of its own (4xx)."""
        state = self._seen(name)
        if state is None:
            return
        state.used = now = self._clock.monotonic()
        state.streak = state.missed = state.overloads = 0
        state.trial = state.trial and self.is_out(name)  # it may have been sent before the ejection
        self._note(state, now, failed=False)

    def failed(self, name: str, kind: str) -> None:
        """A request failed in a way that speaks against the upstream; `kind` (a word) is for the log."""
        state = self._seen(name)
        if state is None:
            return
        state.used = now = self._clock.monotonic()
        if self.is_out(name):
            return  # sent before the ejection: it is out for that already
        state.streak += 1
        self._note(state, now, failed=True)
        if state.trial:
            self._eject(name, state, "again", kind)
        elif state.streak >= self.settings.failures:
            self._eject(name, state, "failures", kind)
        elif self._fails_often(state):
            self._eject(name, state, "error_rate", kind)

    def overloaded(self, name: str, retry_after: float | None) -> None:
        """It said 429, 503 or 529, and for how many seconds it wants to be left alone, if it did."""
        state = self._seen(name)
        if state is None:
            return
        now, row, busy = self._clock.monotonic(), self._pool.board.row[name], self._pool.board.busy
        state.used = now
        if retry_after is not None and retry_after > 0:
            busy[row] = max(busy[row], now + min(retry_after, _LONGEST))
        elif busy[row] <= now:  # a rest for all that were sent together, a longer one where the last did not help
            busy[row] = now + min(_PAUSE * 2**state.overloads, _LONGER)
            state.overloads = min(state.overloads + 1, 8)

    def probed(self, name: str, *, ok: bool) -> None:
        """A probe said whether the upstream can serve. It never brings one back early; a failure keeps it out.

        One that has not served yet is left out at the first failure, another that is in at the second. Probes do not
        double the time out, since they cost nobody an answer, and do not prove that requests are answered.
        """
        state = self._seen(name)
        if state is None:
            return
        if ok:
            state.missed = 0
            return
        state.missed += 1
        now = self._clock.monotonic()
        out = float(self._pool.board.out[self._pool.board.row[name]])
        if out:
            if out - now <= LEAD:
                self._leave_out(name, out + self._jittered(self.settings.base))
        elif state.trial or state.used == -inf or state.missed >= _MISSED:
            self._ejected(name, state, now + self._jittered(self.settings.base), "probe", "probe")

    # ------------------------------------------------------------------------------------------ what is known
    def is_out(self, name: str) -> bool:
        """Whether the upstream is left out at the moment."""
        row = self._pool.board.row.get(name)
        return row is not None and bool(self._pool.board.out[row] > self._clock.monotonic())

    def wants_probe(self, name: str) -> bool:
        """Whether nobody knows how it is: it is about to come back, or no request has ended there for a while."""
        row = self._pool.board.row.get(name)
        if row is None:
            return False
        now, out = self._clock.monotonic(), float(self._pool.board.out[row])
        if out:
            return out - now <= LEAD
        state = self._states.get(name)
        return state is None or state.trial or now - state.used >= IDLE

    def tick(self) -> None:
        """Bring back those whose time is over, raise the share of those that are back, forget who is gone."""
        for name in [name for name in self._states if name not in self._pool.board.row]:
            del self._states[name]
            self._returning.discard(name)
            self._out.remove(name)
        for name in list(self._returning):
            self._settle(name, self._states[name])

    # ------------------------------------------------------------------------------------------ out and back
    def _seen(self, name: str) -> _State | None:
        """The state of `name` as of now; None = there is no such upstream (any more)."""
        if name not in self._pool.board.row:
            return None
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = _State()
            self._out.labels(name).set(0)
        if name in self._returning:
            self._settle(name, state)
        return state

    def _settle(self, name: str, state: _State) -> None:
        """What the passing of time has changed for one that is out or on its way back."""
        now, board = self._clock.monotonic(), self._pool.board
        row = board.row[name]
        if board.out[row] > now:
            return
        if board.out[row]:
            state.back, state.trial = now, True
            board.out[row] = 0.0
            self._out.labels(name).set(0)
            log.info("upstream %s is tried again", name)
        board.ramp[row] = min(1.0, _LEAST + (1 - _LEAST) * (now - state.back) / self.settings.ramp)
        if board.ramp[row] == 1.0:
            self._returning.discard(name)

    def _eject(self, name: str, state: _State, reason: str, kind: str) -> None:
        """Leave it out for longer than the last time, unless that was a good while (`longest`) ago."""
        now = self._clock.monotonic()
        if now - state.back > self.settings.longest:
            state.times = 0
        seconds = min(self.settings.base * 2.0 ** min(state.times, 64), self.settings.longest / (1 + _JITTER))
        state.times += 1
        self._ejected(name, state, now + self._jittered(seconds), reason, kind)

    def _ejected(self, name: str, state: _State, until: float, reason: str, kind: str) -> None:
        state.streak = 0
        state.slices.clear()
        self._returning.add(name)
        self._ejections.labels(name, reason).inc()
        self._out.labels(name).set(1)
        self._leave_out(name, until)
        seconds = until - self._clock.monotonic()
        log.warning("upstream %s is left out for %.1f s (%s, last: %s)", name, seconds, reason, kind)

    def _leave_out(self, name: str, until: float) -> None:
        board = self._pool.board
        board.out[board.row[name]] = until
        board.ramp[board.row[name]] = _LEAST

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    def _fails_often(self, state: _State) -> bool:
        results = sum(each[1] for each in state.slices)
        return results >= _ENOUGH and sum(each[2] for each in state.slices) >= self.settings.error_rate * results

    def _note(self, state: _State, now: float, *, failed: bool) -> None:
        """Add a result to the window."""
        while state.slices and state.slices[0][0] <= now - _WINDOW:
            state.slices.popleft()
        if not state.slices or now - state.slices[-1][0] >= _SLICE:
            state.slices.append([now, 0.0, 0.0])
        state.slices[-1][1] += 1
        state.slices[-1][2] += failed
