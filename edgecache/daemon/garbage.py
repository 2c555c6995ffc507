"""When Python looks for garbage in cycles: in a quiet moment, not while requests wait for it.

With a thousand requests waiting, one look through all objects holds the event loop for some 150 ms, and under load
Python takes one every second. Short-lived garbage is still looked for all the time, in a fraction of a millisecond.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final

_YOUNG: Final = (2_000, 5, 1_000_000)
"""Thresholds of the three generations (`gc.set_threshold`): of the last one, as good as never by itself."""
_LOOK: Final = 1.0
"""Seconds between two looks for a quiet moment."""
_LONGEST: Final = 120
"""Looks after which it is done however busy the loop is."""
_RARELY: Final = 10
"""Looks that pass at least."""


def tame() -> None:
    """Leave alone what has been built, which lives as long as the process, and never collect all by itself."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_YOUNG)


async def sweep(idle: Callable[[], bool]) -> None:
    """Collect all while `idle` says that nobody waits, at least now and then; never returns."""
    passed = 0
    while True:
        await asyncio.sleep(_LOOK)
        passed += 1
        if passed >= _LONGEST or (passed >= _RARELY and idle()):
            gc.collect()
            passed = 0
