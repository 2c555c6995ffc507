"""What keys and tenants may take: requests and tokens a minute, and USD a day or month. Counted by this POP alone.

Books are kept of the holders that tenants' terms name. Those come from the configuration: there are no more of them.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import ceil, floor, inf

from prometheus_client import Gauge

from edgecache.clock import Clock
from edgecache.errors import RateLimited
from edgecache.router.bucket import Bucket
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Allowance, Tenant


class _Book:
    """What one holder has used. Rates by the monotonic clock, the budget by UTC."""

    __slots__ = ("_clock", "_ends", "_gauge", "_spent", "allowance", "requests", "tokens")

    def __init__(self, allowance: Allowance, clock: Clock, gauge: Gauge) -> None:
        now = clock.monotonic()
        self.allowance = allowance
        self.requests = Bucket(allowance.requests_per_minute, now)
        self.tokens = Bucket(allowance.tokens_per_minute, now)
        self._clock = clock
        self._gauge = gauge
        self._spent = 0.0
        self._ends = period(allowance, clock.now())[1]

    def change(self, allowance: Allowance) -> None:
        """Other limits from now on; what was used stays used."""
        now = self._clock.monotonic()
        self.requests.resize(allowance.requests_per_minute, now)
        self.tokens.resize(allowance.tokens_per_minute, now)
        spent = self.spent()
        self.hide()
        self.allowance = allowance
        self._ends = period(allowance, self._clock.now())[1]
        self.correct(spent)

    def spent(self) -> float:
        """USD spent in this period."""
        now = self._clock.now()
        if now >= self._ends:
            self._spent, self._ends = 0.0, period(self.allowance, now)[1]
        return self._spent

    def left(self) -> float:
        """USD left in this period, negative where more was spent; inf without a budget."""
        return self.allowance.budget - self.spent() if self.allowance.budget else inf

    def correct(self, spent: float) -> None:
        """`spent` USD were spent in this period."""
        self.spent()
        self._spent = spent
        if self.allowance.budget:
            self._gauge.labels(self.allowance.holder).set(self.left())

    def hide(self) -> None:
        """No metric any more."""
        if self.allowance.budget:
            self._gauge.remove(self.allowance.holder)

    def used_up(self) -> RateLimited:
        """The error for a budget that is used up."""
        allowance, now = self.allowance, self._clock.now()
        anew = datetime.fromtimestamp(self._ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return RateLimited(
            f"The budget of {allowance.holder}, {allowance.budget:g} USD a {allowance.period}, is used up. "
            f"It starts anew at {anew}.",
            code="insufficient_quota",
            retry_after=self._ends - now,
        )


class Reservation:
    """Tokens that were taken before anybody knew how many it would be."""

    __slots__ = ("_books", "_clock", "_settled", "_tokens")

    def __init__(self, books: tuple[_Book, ...], tokens: int, clock: Clock) -> None:
        self._books = books
        self._tokens = tokens
        self._clock = clock
        self._settled = False

    def settle(self, tokens: int, cost: float) -> None:
        """`tokens` it was, for `cost` USD. Only the first call counts; `settle(0, 0.0)` gives all back."""
        if self._settled:
            return
        self._settled = True
        now = self._clock.monotonic()
        for book in self._books:
            book.tokens.take(tokens - self._tokens, now)
            book.correct(book.spent() + cost)


class Limits:
    """The books of all holders. On one event loop."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._limited = metrics.limited
        self._budget_left = metrics.budget_left
        self._books: dict[str, _Book] = {}
        self._restored: Mapping[str, float] = {}
        self._restored_at = 0.0

    def restore(self, spent: Mapping[str, float]) -> None:
        """`spent` has what each holder has spent in its current period, in USD; of those not named here, nothing."""
        self._restored, self._restored_at = dict(spent), self._clock.now()
        for holder, book in self._books.items():
            book.correct(spent.get(holder, 0.0))

    def replace(self, tenants: Iterable[Tenant]) -> None:
        """Keep the books of all holders that `tenants` name, from the start or a reload on, and close the others."""
        kept = {allowance.holder: allowance for tenant in tenants for allowance in tenant.terms.allowances}
        for holder in self._books.keys() - kept.keys():
            self._books.pop(holder).hide()
        for allowance in kept.values():
            self._book(allowance)

    def admit(self, tenant: Tenant) -> None:
        """Take one request. Raises `RateLimited`, and takes nothing, where a rate or a budget is used up."""
        if not tenant.terms.allowances:
            return
        books = self._of(tenant)
        self._solvent(books)
        now = self._clock.monotonic()
        slowest = max(books, key=lambda book: book.requests.delay(1, now))
        if delay := slowest.requests.delay(1, now):
            limit = f"{slowest.allowance.requests_per_minute} requests a minute"
            raise self._refusal("requests", f"{slowest.allowance.holder} has used its {limit}.", delay)
        for book in books:
            book.requests.take(1, now)

    def reserve(self, tenant: Tenant, tokens: int) -> Reservation | None:
        """Take `tokens`, as estimated, of a request that an upstream will answer; to be settled however it ends.

        None = the tenant has no limits. Raises `RateLimited`, and takes nothing, where they are not there or a budget
        is used up. Requests in progress may overdraw a budget: what they cost is known when they end.
        """
        if not tenant.terms.allowances:
            return None
        books = self._of(tenant)
        self._solvent(books)
        now = self._clock.monotonic()
        slowest = max(books, key=lambda book: book.tokens.delay(tokens, now))
        if delay := slowest.tokens.delay(tokens, now):
            allowance = slowest.allowance
            limit = f"{allowance.tokens_per_minute} tokens a minute"
            if delay == inf:
                raise self._never(f"{allowance.holder} may take {limit}, and this request needs about {tokens}.")
            left = _whole(slowest.tokens.left(now))
            message = f"{allowance.holder} has {left} of its {limit} left, and this request needs about {tokens}."
            raise self._refusal("tokens", message, delay)
        for book in books:
            book.tokens.take(tokens, now)
        return Reservation(books, tokens, self._clock)

    def left(self, tenant: Tenant) -> float:
        """USD that the tightest budget has left; inf where there is none."""
        if not tenant.terms.allowances:
            return inf
        return max(0.0, min(book.left() for book in self._of(tenant)))

    def headers(self, tenant: Tenant) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*` response headers, of the allowance with the least left; of no limit, nothing."""
        found: dict[str, str] = {}
        if tenant.terms.allowances:
            books = self._of(tenant)
            self._describe(found, "requests", [book.requests for book in books])
            self._describe(found, "tokens", [book.tokens for book in books])
        return found

    def _describe(self, found: dict[str, str], kind: str, buckets: list[Bucket]) -> None:
        now = self._clock.monotonic()
        tightest = min(buckets, key=lambda bucket: bucket.left(now))
        if tightest.limit:
            found[f"x-ratelimit-limit-{kind}"] = str(tightest.limit)
            found[f"x-ratelimit-remaining-{kind}"] = str(_whole(tightest.left(now)))
            found[f"x-ratelimit-reset-{kind}"] = duration(tightest.full(now))

    def _of(self, tenant: Tenant) -> tuple[_Book, ...]:
        return tuple([self._book(allowance) for allowance in tenant.terms.allowances])

    def _book(self, allowance: Allowance) -> _Book:
        book = self._books.get(allowance.holder)
        if book is None:
            book = self._books[allowance.holder] = _Book(allowance, self._clock, self._budget_left)
            current = self._restored_at >= period(allowance, self._clock.now())[0]
            book.correct(self._restored.get(allowance.holder, 0.0) if current else 0.0)
        elif book.allowance is not allowance and book.allowance != allowance:
            book.change(allowance)
        return book

    def _solvent(self, books: tuple[_Book, ...]) -> None:
        for book in books:
            if book.left() <= 0:
                self._limited.labels("budget").inc()
                raise book.used_up()

    def _refusal(self, kind: str, message: str, delay: float) -> RateLimited:
        self._limited.labels(kind).inc()
        return RateLimited(f"{message} Try again in {duration(delay)}.", retry_after=delay)

    def _never(self, message: str) -> RateLimited:
        """Without a time to try again: it would be refused then too."""
        self._limited.labels("tokens").inc()
        return RateLimited(f"{message} It can never be served: make it shorter, or lower its `max_tokens`.")


def period(allowance: Allowance, now: float) -> tuple[float, float]:
    """Begin and end, as Unix time, of the UTC day or month that `now` is in."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if allowance.period == "day":
        return day.timestamp(), (day + timedelta(days=1)).timestamp()
    first = day.replace(day=1)
    return first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp()


def _whole(left: float) -> int:
    return max(0, floor(round(left, 3)))


def duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`; rounded up."""
    millis = ceil(round(seconds * 1000, 3))
    if millis < 1000:
        return f"{millis}ms" if millis else "0s"
    if millis < 60_000:
        return f"{millis / 1000:g}s"
    minutes, rest = divmod(ceil(millis / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
