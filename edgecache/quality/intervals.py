"""Shares with their uncertainty: Wilson's interval for one, Newcombe's for the difference of two. Arithmetic only."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import msgspec

from edgecache.sim.report import wilson


class Share(msgspec.Struct, frozen=True):
    """`count` of `total`."""

    count: int
    total: int

    @property
    def rate(self) -> float:
        """The share itself; 0 of nothing is 0."""
        return self.count / self.total if self.total else 0.0

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return wilson(self.count, self.total)[0]

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return wilson(self.count, self.total)[1]

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible, rounded to what counts of this size can say."""
        return {
            "count": self.count,
            "total": self.total,
            "rate": round(self.rate, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
        }

    def __str__(self) -> str:
        return f"{self.rate:.2%} [{self.low:.2%}, {self.high:.2%}]"


def difference(a: Share, b: Share) -> tuple[float, float]:
    """The 95 % interval of `a.rate - b.rate` (Newcombe 1998, method 10: from the two Wilson intervals)."""
    gap = a.rate - b.rate
    low = gap - sqrt((a.rate - a.low) ** 2 + (b.high - b.rate) ** 2)
    high = gap + sqrt((a.high - a.rate) ** 2 + (b.rate - b.low) ** 2)
    return low, high


def together(shares: Sequence[Share]) -> Share:
    """Several counts as one."""
    return Share(sum(each.count for each in shares), sum(each.total for each in shares))
