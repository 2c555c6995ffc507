"""What an answer teaches, put off until it is on its way to the client: nobody waits for predictions to get better."""

import asyncio
from collections.abc import Callable
from typing import Final

_DELAY: Final = 0.003
"""Seconds: an answer that is handed on has left by then."""


class Afterwards:
    """Things to be done in a moment, in the order in which they came. On one event loop."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def do(self, work: Callable[[], None]) -> None:
        """Have `work` done soon; it must not raise."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(_DELAY, self.settle)

    def settle(self) -> None:
        """Do what waits, now."""
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()
