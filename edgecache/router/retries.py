"""Further attempts, and how many there may be: without a limit they multiply a failure just when capacity is short.

Two budgets, as in Finagle's `RetryBudget` and Envoy's `retry_budget`: each request earns a share of an attempt.
"""

from math import exp

from edgecache.clock import Clock
from edgecache.config import Hedging

_MEMORY = 10.0
"""Seconds for which requests count: the `ten seconds` of `router.hedging.burst`."""


class Retries:
    """Attempts after a failure: a share of the requests of the last seconds, and a few whatever their number."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._earned = 0.0
        self._spare = float("inf")  # full, however much that is
        self._then = clock.monotonic()

    def earn(self, settings: Hedging) -> None:
        """One more request."""
        self._age(settings)
        self._earned += settings.retries

    def take(self, settings: Hedging) -> bool:
        """Whether one more attempt may be made; it counts as made."""
        self._age(settings)
        if self._earned >= 1.0:
            self._earned -= 1.0
            return True
        if self._spare >= 1.0:
            self._spare -= 1.0
            return True
        return False

    def _age(self, settings: Hedging) -> None:
        now = self._clock.monotonic()
        passed, self._then = max(0.0, now - self._then), now
        self._earned *= exp(-passed / _MEMORY)
        self._spare = min(float(settings.burst), self._spare + settings.burst * passed / _MEMORY)


class Hedges:
    """Second requests beside a late first: never more than one and a share of all requests, so that they save up."""

    def __init__(self) -> None:
        self._saved = 1.0

    def earn(self, settings: Hedging) -> None:
        """One more request."""
        self._saved = min(float(settings.burst), self._saved + settings.ratio)

    def take(self, settings: Hedging) -> bool:
        """Whether one more may be sent; it counts as sent."""
        if not settings.ratio or self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
