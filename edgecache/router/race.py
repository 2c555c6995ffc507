"""A late attempt and a second one beside it: the first that is safe wins, the other is given up at once."""

import asyncio
from collections.abc import Callable

from edgecache.router.attempt import Running
from edgecache.tasks import Tasks


async def race(tasks: Tasks, first: Running, late: float, second: Callable[[], Running | None]) -> Running:
    """Start `first`; where it is neither safe nor has failed after `late` seconds, what `second` gives beside it.

    Returns the one to hand on: the first that is safe, of two at once the earlier; where both fail, the last. Whatever
    ends this, nothing of the others stays behind.
    """
    runs = {tasks.spawn(first.start(), name="attempt"): first}
    winner: Running | None = None
    try:
        done, _ = await asyncio.wait(runs, timeout=late)
        if not done and (other := second()) is not None:
            runs[tasks.spawn(other.start(), name="hedge")] = other
        last = first
        pending = dict(runs)
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in pending if task in done]:  # in the order in which they were sent
                last = pending.pop(task)
                task.result()  # a defect is not swallowed
                if last.failure is None:
                    winner = last
                    winner.taken()
                    return winner
        return last
    finally:
        for task, run in runs.items():
            if run is not winner:
                task.cancel()
                run.end("hedge_lost" if winner is not None else "cancelled")
                await run.aclose()
