"""Records of the ledger added up: requests, tokens, money and times by tenant, model, tier and so on. Pure.

Requests are counted once, where they were answered. Tokens and cost are those of the attempts, each counted once and
at its own upstream, so that they equal what the upstreams count themselves, and every grouping adds up to the same
totals: money is added in whole pico-USD, because floats in another order give another sum.
"""

import csv
import datetime as dt
import io
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import ceil, exp, isfinite, log
from typing import Any, Final

import msgspec

from edgecache.errors import BadRequest
from edgecache.store.records import Record
from edgecache.types import Attempt, CacheStatus, Purpose

OTHER: Final = "(other)"
"""The group of whatever comes after `most` groups."""
MOST: Final = 10_000

_STORED = frozenset({CacheStatus.HIT, CacheStatus.SEMANTIC_HIT, CacheStatus.STALE})
_ERRORS = frozenset({"failed", "stream_cut"})
_CLOSENESS = {"ok": 2, "rejected": 2, "hedge_lost": 0}
"""How close an attempt came to being the answer, by its outcome; 1 for the rest."""
_PICO = 1e12


@lru_cache(maxsize=1024)
def _time(start: int, form: str) -> str:
    return f"{dt.datetime.fromtimestamp(start, dt.UTC):{form}}"


_OF_RECORD: Mapping[str, Callable[[Record], str]] = {
    "tenant": lambda record: record.tenant,
    "key": lambda record: record.key,
    "model": lambda record: record.model,
    "class": lambda record: record.service,
    "endpoint": lambda record: record.endpoint,
    "cache": lambda record: record.cache,
    "purpose": lambda record: record.purpose,
    "day": lambda record: _time(int(record.at) // 86_400 * 86_400, "%Y-%m-%d"),
    "hour": lambda record: _time(int(record.at) // 3600 * 3600, "%Y-%m-%dT%H:00Z"),
}
_OF_ATTEMPT: Mapping[str, Callable[[Attempt], str]] = {
    "tier": lambda attempt: attempt.tier,
    "upstream": lambda attempt: attempt.upstream,
    "region": lambda attempt: attempt.region,
}
DIMENSIONS: Final = (*_OF_RECORD, *_OF_ATTEMPT)
"""What records can be grouped by. The last three are those of each attempt; empty where no upstream was asked."""

_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


# ---------------------------------------------------------------------------------------------- one record
def stored(record: Record) -> bool:
    """Whether the answer came from the cache."""
    return record.cache in _STORED


def answering(record: Record) -> Attempt | None:
    """The attempt whose answer was served, else the last one that might have been; None for what came from elsewhere.

    It is elsewhere that answers which are stored or shared come from, whatever was tried before.
    """
    if record.collapsed or record.cache in _STORED:
        return None
    return max(reversed(record.attempts), key=lambda attempt: _CLOSENESS.get(attempt.outcome, 1), default=None)


# ---------------------------------------------------------------------------------------------- adding up
class Spread:
    """Values above 0, counted in buckets that are 5 % wide: quantiles are within 2.5 %, in bounded memory."""

    _LEAST = 1e-6
    _STEP = log(1.05)
    _BUCKETS = 512
    """Up to 7e4: no time in seconds and no rate is larger."""

    def __init__(self) -> None:
        self.counts: array[int] | None = None

    def add(self, value: float) -> None:
        """Count `value`; 0 means that there is none."""
        if value <= 0:
            return
        if self.counts is None:
            self.counts = array("Q", bytes(8 * self._BUCKETS))
        bucket = int(log(value / self._LEAST) / self._STEP) if value > self._LEAST else 0
        self.counts[min(bucket, self._BUCKETS - 1)] += 1

    def merge(self, other: "Spread") -> None:
        """Count what `other` has counted."""
        if other.counts is not None:
            mine = self.counts or array("Q", bytes(8 * self._BUCKETS))
            self.counts = array("Q", map(int.__add__, mine, other.counts))

    def quantile(self, share: float) -> float | None:
        """The value that `share` of all are not above; None without any."""
        if self.counts is None:
            return None
        wanted, seen = max(ceil(share * sum(self.counts)), 1), 0
        bucket = -1
        while seen < wanted:
            bucket += 1
            seen += self.counts[bucket]
        return self._LEAST * float(exp(self._STEP * (bucket + 0.5)))


class Sums(msgspec.Struct):
    """What a group of records comes to. Money in pico-USD; `direct` is the cost of the attempts that answered."""

    requests: int = 0
    hits: int = 0
    refused: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimated_tokens: int = 0
    avoided_tokens: int = 0
    served_tokens: int = 0
    cost: int = 0
    direct: int = 0
    avoided: int = 0
    hedges: int = 0
    upstream_requests: int = 0
    ttft: Spread = msgspec.field(default_factory=Spread)
    rate: Spread = msgspec.field(default_factory=Spread)

    def request(self, record: Record, answer: Attempt | None) -> None:
        """Count the request itself, at the attempt that answered it. Background work is no request."""
        if record.purpose != Purpose.CLIENT:
            return
        if answer is not None:
            self.direct += round(answer.cost * _PICO)
        if record.outcome == "late":
            return
        self.requests += 1
        self.hits += record.cache in _STORED
        self.refused += record.outcome == "refused"
        self.errors += record.outcome in _ERRORS
        self.avoided_tokens += record.avoided_prompt_tokens + record.avoided_completion_tokens
        self.avoided += round(record.avoided_cost * _PICO)
        self.served_tokens += record.prompt_tokens + record.completion_tokens
        if record.status < 400:
            self.ttft.add(record.ttft)
            self.rate.add(record.tokens_per_second)

    def attempt(self, attempt: Attempt) -> None:
        """Count one attempt."""
        self.prompt_tokens += attempt.prompt_tokens
        self.completion_tokens += attempt.completion_tokens
        self.cached_tokens += attempt.cached_tokens
        if attempt.estimated:
            self.estimated_tokens += attempt.prompt_tokens + attempt.completion_tokens
        self.cost += round(attempt.cost * _PICO)
        self.hedges += attempt.hedge
        self.upstream_requests += 1

    def merge(self, other: "Sums") -> None:
        """Add what `other` comes to."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.ttft.merge(other.ttft)
        self.rate.merge(other.rate)

    def columns(self) -> dict[str, Any]:
        """The columns of a report. USD and seconds; None where there is nothing to take a quantile of."""
        return {name: getattr(self, name) for name in _COUNTS if name not in {"cost", "direct", "avoided"}} | {
            "cost_usd": self.cost / _PICO,
            "avoided_usd": self.avoided / _PICO,
            "usd_per_million_with": self._by_million(self.cost),
            "usd_per_million_without": self._by_million(self.direct + self.avoided),
            "ttft_p50": _rounded(self.ttft.quantile(0.5)),
            "ttft_p95": _rounded(self.ttft.quantile(0.95)),
            "tokens_per_second_p50": _rounded(self.rate.quantile(0.5)),
        }

    def _by_million(self, cost: int) -> float | None:
        """USD by a million tokens that were served, stored and shared answers included."""
        return cost / self.served_tokens / 1e6 if self.served_tokens else None


_COUNTS = tuple(name for name in Sums.__struct_fields__ if name not in {"ttft", "rate"})


class Usage:
    """Records added up by `by`, some of DIMENSIONS. Beyond `most` groups, the rest is one group: OTHER."""

    def __init__(self, by: Sequence[str] = (), *, most: int = MOST) -> None:
        """Raises BadRequest for an unknown dimension, or one that is there twice."""
        if wrong := [name for name in by if name not in DIMENSIONS]:
            raise BadRequest(f"`by` is some of {', '.join(DIMENSIONS)}, not {wrong[0][:50]!r}.", param="by")
        if len(set(by)) < len(by):
            raise BadRequest("`by` names each dimension once.", param="by")
        self.by = tuple(by)
        self.groups: dict[tuple[str, ...], Sums] = {}
        self._most = most
        self._order = [self.by.index(name) for name in (*_inside(by, _OF_RECORD), *_inside(by, _OF_ATTEMPT))]
        self._of_record = [_OF_RECORD[name] for name in _inside(by, _OF_RECORD)]
        self._of_attempt = [_OF_ATTEMPT[name] for name in _inside(by, _OF_ATTEMPT)]
        self._nowhere = ("",) * len(self._of_attempt)

    def add(self, records: Iterable[Record]) -> None:
        """Count `records`."""
        for record in records:
            base = tuple([read(record) for read in self._of_record])
            answer = answering(record)
            self._group(base, answer).request(record, answer)
            for attempt in record.attempts:
                self._group(base, attempt).attempt(attempt)

    def _group(self, base: tuple[str, ...], attempt: Attempt | None) -> Sums:
        key = base
        if self._of_attempt:
            key += self._nowhere if attempt is None else tuple([read(attempt) for read in self._of_attempt])
        found = self.groups.get(key)
        if found is None:
            if len(self.groups) >= self._most:
                key = (OTHER,) * len(key)
            found = self.groups.setdefault(key, Sums())
        return found

    def total(self) -> Sums:
        """All groups together."""
        total = Sums()
        for group in self.groups.values():
            total.merge(group)
        return total

    def rows(self) -> list[dict[str, Any]]:
        """A row a group: its dimensions in the order of `by`, then its columns; the most expensive first."""
        ordered = sorted(self.groups.items(), key=lambda item: (-item[1].cost, -item[1].requests, item[0]))
        return [self._named(key) | group.columns() for key, group in ordered if _counts(group)]

    def _named(self, key: tuple[str, ...]) -> dict[str, str]:
        values = dict(zip(self._order, key, strict=True))
        return {name: values[place] for place, name in enumerate(self.by)}


def _inside(by: Sequence[str], known: Mapping[str, Any]) -> list[str]:
    return [name for name in by if name in known]


def _counts(group: Sums) -> bool:
    """Whether anything was counted: background work opens a group where it was answered, and may count elsewhere."""
    return any(getattr(group, name) for name in _COUNTS)


def _rounded(value: float | None) -> float | None:
    """Three digits: the buckets know no more."""
    return None if value is None else float(f"{value:.3g}")


# ---------------------------------------------------------------------------------------------- in and out
def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """`rows` as CSV (RFC 4180). A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.StringIO()
    if rows:
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in set("=+-@\t\r") else value


def moment(text: str, now: float, name: str) -> float:
    """The Unix time that `text` names: `7d` (or s, m, h, w) ago, an ISO 8601 date or time (UTC unless it says), or s.

    Raises BadRequest about the parameter `name`.
    """
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = float(text)
    except ValueError:
        found = _iso(text)
    if not (isfinite(found) and 0 <= found < 1e11):
        raise BadRequest(f"`{name}` is a time such as 7d, 24h, 2026-01-31, 2026-01-31T12:00Z or Unix s.", param=name)
    return found


def _iso(text: str) -> float:
    try:
        found = dt.datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        return -1.0
