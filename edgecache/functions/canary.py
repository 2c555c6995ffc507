"""Whether a canary fails so much more than the stable version that it must go. Arithmetic, and the counts behind it.

Two looks at the same counts, both of calls since the split began, so that what befalls both versions is held against
neither. From `calls` calls on, the canary's rate may exceed the stable one's by `margin`, and by as much as chance
explains: the lower end of Newcombe's interval for the difference of two rates (Statistics in Medicine 17, 1998, method
10, from Wilson's intervals) must be above 0. A flood of failures is not waited out: Page's CUSUM (Biometrika 41, 1954)
with the steps of Wald's test for half-way between the rate that is borne with and always failing.
"""

from collections.abc import Callable
from math import log, sqrt
from threading import Lock
from typing import Final

import msgspec

_Z: Final = 3.0
"""Standard deviations of Wilson's intervals. Counts are looked at after every failure, and chance gets as many tries:
of canaries no worse than the stable version, one in twenty goes within 3000 calls, where 1.96 would take one in four.
"""
_FLOOD: Final = log(100_000.0)
"""Six failures in a row are enough; by chance, one canary in more than 100,000 calls."""
_PRIOR: Final = 20
"""A stable version that is hardly called is believed to fail once in so many calls."""
_MEMORY: Final = 20
"""Times `calls` after which older calls count half: a canary that has run well for long can still begin to fail."""


class Watch(msgspec.Struct):
    """What became of the calls of both versions, fading; `flood` is the CUSUM of the canary's."""

    stable: float = 0.0
    stable_failed: float = 0.0
    canary: float = 0.0
    canary_failed: float = 0.0
    flood: float = 0.0


def count_stable(watch: Watch, *, ok: bool) -> None:
    """Count a call of the stable version."""
    watch.stable += 1
    watch.stable_failed += not ok


def count_canary(watch: Watch, *, ok: bool, calls: int, margin: float) -> None:
    """Count a call of the canary."""
    watch.canary += 1
    watch.canary_failed += not ok
    borne = min((watch.stable_failed + 1) / (watch.stable + _PRIOR) + margin, 0.9)
    step = log(0.5) if ok else log((1 + borne) / (2 * borne))
    watch.flood = max(watch.flood + step, 0.0)
    if watch.canary >= _MEMORY * calls:
        watch.stable, watch.stable_failed = watch.stable / 2, watch.stable_failed / 2
        watch.canary, watch.canary_failed = watch.canary / 2, watch.canary_failed / 2


def verdict(watch: Watch, *, calls: int, margin: float) -> str | None:
    """Why the canary must go, with numbers; None while it may stay."""
    if watch.flood >= _FLOOD:
        return f"a flood of failures: {_said(watch)}"
    if watch.canary < calls or not watch.stable:
        return None
    more = watch.canary_failed / watch.canary - watch.stable_failed / watch.stable
    if more > margin and _surely_more(watch, more):
        return f"fails too often: {_said(watch)}, {more:.1%} more, of at most {margin:.1%} (functions.canary_margin)"
    return None


def _said(watch: Watch) -> str:
    of_canary = f"{watch.canary_failed:.0f} of {watch.canary:.0f} calls of the canary failed"
    return f"{of_canary}, {watch.stable_failed:.0f} of {watch.stable:.0f} of the stable version"


def _surely_more(watch: Watch, more: float) -> bool:
    stable, canary = watch.stable_failed / watch.stable, watch.canary_failed / watch.canary
    low = canary - wilson(watch.canary_failed, watch.canary)[0]
    high = wilson(watch.stable_failed, watch.stable)[1] - stable
    return more - sqrt(low * low + high * high) > 0


def wilson(count: float, total: float) -> tuple[float, float]:
    """Wilson's interval for a share of `count` in `total` (JASA 22, 1927), `_Z` standard deviations wide."""
    share, weight = count / total, _Z * _Z / total
    centre = (share + weight / 2) / (1 + weight)
    half = sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return max(centre - half, 0.0), min(centre + half, 1.0)


class Trial:
    """A canary that is being watched. `observe` may be called from any thread, and costs a few microseconds."""

    def __init__(self, canary: int, *, calls: int, margin: float, condemned: Callable[[str], None]) -> None:
        """Args: `canary` is the number of its version; `condemned` is told once why it must go, in any thread."""
        self.watch = Watch()
        self.canary = canary
        self._calls = calls
        self._margin = margin
        self._condemned = condemned
        self._lock = Lock()
        self._over = False

    def observe(self, number: int, *, ok: bool) -> None:
        """Count a call of version `number`."""
        with self._lock:
            if self._over:
                return
            if number != self.canary:
                count_stable(self.watch, ok=ok)
                return
            count_canary(self.watch, ok=ok, calls=self._calls, margin=self._margin)
            why = None if ok else verdict(self.watch, calls=self._calls, margin=self._margin)
            self._over = why is not None
        if why is not None:
            self._condemned(why)
