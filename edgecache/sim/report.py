"""What a replay found: counts, rates with their uncertainty, latencies; as a table and as JSON. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

EXACT = ("HIT", "STALE")
SEMANTIC = ("SEMANTIC_HIT",)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request. Times are seconds from sending; `error` is empty when an answer came.

    `first` is the time to the first content of a stream, None for JSON; `right` is None where nobody can tell.
    """

    status: str
    stream: bool
    total: float
    first: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    right: bool | None = None
    error: str = ""

    @property
    def hit(self) -> bool:
        """Whether the answer came from a cache."""
        return not self.error and self.status in EXACT + SEMANTIC


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds of `count` requests; None when there were none."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """The percentiles of `seconds`."""
        return cls(len(seconds), *(percentile(seconds, share) for share in (0.50, 0.90, 0.99)))


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The result of a replay. `oracle` counts the hits of a cache that never errs and never forgets."""

    url: str
    model: str
    outcomes: tuple[Outcome, ...]
    oracle: int
    duration: float

    def count(self, *statuses: str) -> int:
        """Answers with one of `statuses`, errors not included."""
        return sum(1 for each in self.outcomes if each.status in statuses and not each.error)

    @property
    def hits(self) -> list[Outcome]:
        """Answers that came from the cache."""
        return [each for each in self.outcomes if each.hit]

    @property
    def wrong(self) -> int:
        """Hits that answered another question than the one asked."""
        return sum(1 for each in self.outcomes if each.hit and each.right is False)

    @property
    def unjudged(self) -> int:
        """Hits on answers that this replay did not see arrive: the cache was not empty when it began."""
        return sum(1 for each in self.outcomes if each.hit and each.right is None)

    @property
    def errors(self) -> Counter[str]:
        """Failed requests by kind."""
        return Counter(each.error for each in self.outcomes if each.error)

    def latencies(self) -> dict[str, Latency]:
        """First content of streams and whole JSON answers, of hits and of everything else, errors left out."""
        answered = [each for each in self.outcomes if not each.error]
        found = {}
        for kind, group in (("hit", self.hits), ("miss", [each for each in answered if not each.hit])):
            found[f"{kind}_stream_first_content"] = Latency.of([e.first for e in group if e.first is not None])
            found[f"{kind}_json_total"] = Latency.of([each.total for each in group if not each.stream])
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-compatible values; rates are shares of 1, latencies milliseconds, duration seconds."""
        requests, judged = len(self.outcomes), len(self.hits) - self.unjudged
        return {
            "url": self.url,
            "model": self.model,
            "requests": requests,
            "hits": {"exact": self.count(*EXACT), "semantic": self.count(*SEMANTIC), "total": len(self.hits)},
            "hit_rate": _share(len(self.hits), requests),
            "oracle_hits": self.oracle,
            "oracle_hit_rate": _share(self.oracle, requests),
            "wrong_hits": {
                "exact": sum(1 for e in self.hits if e.status in EXACT and e.right is False),
                "semantic": sum(1 for e in self.hits if e.status in SEMANTIC and e.right is False),
                "total": self.wrong,
                "of_hits": _share(self.wrong, judged),
                "of_hits_95": wilson(self.wrong, judged),
                "of_requests": _share(self.wrong, requests),
                "of_requests_95": wilson(self.wrong, requests),
                "unjudged": self.unjudged,
            },
            "misses": requests - len(self.hits) - sum(self.errors.values()) - self.count("BYPASS"),
            "bypass": self.count("BYPASS"),
            "statuses": dict(Counter(each.status for each in self.outcomes if not each.error)),
            "errors": dict(self.errors),
            "latency_ms": {
                name: {"count": each.count, "p50": each.p50, "p90": each.p90, "p99": each.p99}
                for name, each in self.latencies().items()
            },
            "tokens_avoided": {
                "prompt": sum(each.prompt_tokens for each in self.hits),
                "completion": sum(each.completion_tokens for each in self.hits),
            },
            "duration_s": round(self.duration, 3),
            "requests_per_s": round(requests / self.duration, 1) if self.duration else None,
        }

    def tables(self) -> list[Table]:
        """Two tables for a terminal: what was answered, and how fast."""
        found = self.to_dict()
        requests, wrong = found["requests"], found["wrong_hits"]
        per_hit, per_request = _interval(wrong["of_hits_95"]), _interval(wrong["of_requests_95"])
        rows = [
            ("requests", str(requests), f"{found['duration_s']} s, {found['requests_per_s']} a second"),
            ("hits", str(found["hits"]["total"]), f"{_percent(found['hit_rate'])} of requests"),
            ("  exact", str(found["hits"]["exact"]), ""),
            ("  semantic", str(found["hits"]["semantic"]), ""),
            ("oracle", str(self.oracle), f"{_percent(found['oracle_hit_rate'])} of requests, no cache can do better"),
            ("wrong hits", str(self.wrong), f"{_percent(wrong['of_requests'])} of requests, {per_request}"),
            ("", "", f"{_percent(wrong['of_hits'])} of hits, {per_hit}"),
            ("  exact", str(wrong["exact"]), ""),
            ("  semantic", str(wrong["semantic"]), ""),
            ("unjudged hits", str(self.unjudged), "answers stored before the replay began" if self.unjudged else ""),
            ("misses", str(found["misses"]), ""),
            ("bypass", str(found["bypass"]), ""),
            ("errors", str(sum(self.errors.values())), ", ".join(f"{n}x {kind}" for kind, n in self.errors.items())),
            ("tokens avoided", str(found["tokens_avoided"]["completion"]), "completion, by the usage of hits"),
            ("", str(found["tokens_avoided"]["prompt"]), "prompt"),
        ]
        answers = Table("", "count", "", title=f"Replay of {requests} questions against {self.url} ({self.model})")
        answers.columns[1].justify = "right"
        for row in rows:
            answers.add_row(*row)
        speed = Table("latency, ms", "count", "p50", "p90", "p99")
        for name, each in self.latencies().items():
            speed.add_row(name.replace("_", " "), str(each.count), *(_ms(v) for v in (each.p50, each.p90, each.p99)))
        return [answers, speed]


def percentile(seconds: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of `seconds`, in milliseconds."""
    if not seconds:
        return None
    return round(sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)] * 1000, 3)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's score interval): sound for small counts, unlike the usual one."""
    if not total:
        return 0.0, 1.0
    z = 1.959964
    share, spread = hits / total, z * z / total
    centre = share + spread / 2
    width = z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, (centre - width) / (1 + spread)), min(1.0, (centre + width) / (1 + spread))


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _interval(bounds: tuple[float, float]) -> str:
    return f"95 %: {bounds[0]:.2%} to {bounds[1]:.2%}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
