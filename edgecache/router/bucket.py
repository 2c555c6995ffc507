"""A rate a minute that refills all the time (a token bucket, counted from the other end). Time is passed in. Pure.

What counts is how much of it is used and not yet refilled, so that a new limit changes nothing about what was taken.
"""

from math import inf

_MINUTE = 60.0
_ROUNDING = 1e-6
"""Seconds that are no delay: who waits as long as it was told to is not to be refused for an error of rounding."""


class Bucket:
    """`limit` may be taken at once or over a minute; 0 = no limit. Times are monotonic seconds."""

    __slots__ = ("_at", "_used", "limit")

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._used = 0.0
        self._at = now

    def resize(self, limit: int, now: float) -> None:
        """Another limit from now on."""
        self._used = self._refill(now) if limit else 0.0
        self.limit = limit

    def left(self, now: float) -> float:
        """What may be taken at once; negative where more was taken than there was, `inf` without a limit."""
        return self.limit - self._refill(now) if self.limit else inf

    def delay(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken: 0 = now, `inf` = never, since it is more than the limit."""
        if not self.limit:
            return 0.0
        if amount > self.limit:
            return inf
        seconds = (self._refill(now) + amount - self.limit) * _MINUTE / self.limit
        return seconds if seconds > _ROUNDING else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, there or not; negative gives back."""
        if self.limit:
            self._used = max(0.0, self._refill(now) + amount)

    def full(self, now: float) -> float:
        """Seconds until nothing is used."""
        return self._refill(now) * _MINUTE / self.limit if self.limit else 0.0

    def _refill(self, now: float) -> float:
        if now > self._at:
            self._used = max(0.0, self._used - (now - self._at) * self.limit / _MINUTE)
            self._at = now
        return self._used
