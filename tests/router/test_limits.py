"""What keys and tenants may take: rates, budgets, headers."""

from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import ManualClock, SystemClock
from edgecache.errors import RateLimited
from edgecache.router.limits import Limits, duration, period
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Allowance, Tenant, Terms

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR


def tenant(*allowances: Allowance) -> Tenant:
    return Tenant("acme", terms=Terms(allowances=allowances))


def limited(**limits: float) -> Tenant:
    return tenant(Allowance("acme", **limits))  # type: ignore[arg-type]


class Desk:
    """Limits, their clock and their metrics."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOON)
        self.metrics = Metrics()
        self.limits = Limits(clock=self.clock, metrics=self.metrics)

    def spend(self, who: Tenant, cost: float, tokens: int = 0) -> None:
        self.limits.reserve(who, tokens).settle(tokens, cost)

    def refused(self, who: Tenant, tokens: int | None = None) -> RateLimited:
        with pytest.raises(RateLimited) as caught:
            self.limits.admit(who) if tokens is None else self.limits.reserve(who, tokens)
        return caught.value

    def count(self, kind: str) -> float:
        return self.metrics.limited.labels(kind)._value.get()

    def gauges(self) -> dict[str, float]:
        (family,) = self.metrics.budget_left.collect()
        return {sample.labels["holder"]: sample.value for sample in family.samples}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_who_has_no_allowances_has_no_limits(desk: Desk) -> None:
    who = tenant()
    desk.limits.admit(who)
    assert desk.limits.reserve(who, 10**12) is None
    assert (desk.limits.left(who), desk.limits.headers(who), desk.gauges()) == (inf, {}, {})


def test_requests_beyond_the_rate_are_refused_until_it_refills(desk: Desk) -> None:
    who = limited(requests_per_minute=6)
    for _ in range(6):
        desk.limits.admit(who)
    error = desk.refused(who)
    assert (error.status, error.code, error.retry_after) == (429, "rate_limit_exceeded", 10.0)
    assert error.message == "acme has used its 6 requests a minute. Try again in 10s."
    assert desk.count("requests") == 1
    desk.clock.advance(10)
    desk.limits.admit(who)
    assert desk.refused(who).retry_after == pytest.approx(10)


def test_a_key_and_its_tenant_both_count_and_a_refusal_takes_nothing_of_either(desk: Desk) -> None:
    both, narrow = Allowance("acme", requests_per_minute=3), Allowance("acme/one", requests_per_minute=1)
    one, two = tenant(both, narrow), tenant(both)
    desk.limits.admit(one)
    assert "acme/one has used" in desk.refused(one).message
    desk.limits.admit(two)
    desk.limits.admit(two)
    assert "acme has used" in desk.refused(two).message


def test_tokens_are_taken_as_estimated_and_settled_as_they_were(desk: Desk) -> None:
    who = limited(tokens_per_minute=1000)
    first = desk.limits.reserve(who, 600)
    error = desk.refused(who, 500)
    assert (error.code, error.retry_after) == ("rate_limit_exceeded", pytest.approx(6.0))
    assert error.message == (
        "acme has 400 of its 1000 tokens a minute left, and this request needs about 500. Try again in 6s."
    )
    assert desk.count("tokens") == 1
    first.settle(100, 0.0)
    desk.limits.reserve(who, 900)
    assert desk.limits.headers(who)["x-ratelimit-remaining-tokens"] == "0"


def test_what_took_more_than_estimated_is_owed(desk: Desk) -> None:
    who = limited(tokens_per_minute=60)
    desk.limits.reserve(who, 30).settle(90, 0.0)
    headers = desk.limits.headers(who)
    assert (headers["x-ratelimit-remaining-tokens"], headers["x-ratelimit-reset-tokens"]) == ("0", "1m30s")
    assert desk.refused(who, 1).retry_after == pytest.approx(31)


def test_only_the_first_settling_counts(desk: Desk) -> None:
    who = limited(tokens_per_minute=1000, budget=10.0)
    reservation = desk.limits.reserve(who, 500)
    reservation.settle(200, 1.0)
    reservation.settle(0, 0.0)
    reservation.settle(700, 5.0)
    assert desk.limits.headers(who)["x-ratelimit-remaining-tokens"] == "800"
    assert desk.limits.left(who) == 9.0


def test_what_came_to_nothing_is_given_back(desk: Desk) -> None:
    who = limited(tokens_per_minute=1000)
    desk.limits.reserve(who, 1000).settle(0, 0.0)
    desk.limits.reserve(who, 1000)


def test_a_request_that_needs_more_than_a_minutes_worth_is_told_so(desk: Desk) -> None:
    error = desk.refused(limited(tokens_per_minute=1000), 1001)
    assert (error.code, error.retry_after) == ("rate_limit_exceeded", None)
    assert "may take 1000 tokens a minute, and this request needs about 1001" in error.message
    assert "can never be served" in error.message
    assert desk.count("tokens") == 1


def test_hits_cost_requests_and_no_tokens(desk: Desk) -> None:
    who = limited(requests_per_minute=10, tokens_per_minute=100)
    desk.limits.admit(who)
    headers = desk.limits.headers(who)
    assert headers["x-ratelimit-remaining-requests"] == "9"
    assert headers["x-ratelimit-remaining-tokens"] == "100"


def test_headers_are_openais(desk: Desk) -> None:
    who = limited(requests_per_minute=100, tokens_per_minute=60_000)
    desk.limits.admit(who)
    desk.limits.reserve(who, 45_120)
    assert desk.limits.headers(who) == {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-reset-requests": "600ms",
        "x-ratelimit-limit-tokens": "60000",
        "x-ratelimit-remaining-tokens": "14880",
        "x-ratelimit-reset-tokens": "45.12s",
    }


def test_of_several_allowances_headers_show_the_tightest_and_of_none_nothing(desk: Desk) -> None:
    whole = Allowance("acme", requests_per_minute=5, budget=1.0)
    one, two = tenant(whole, Allowance("acme/one", requests_per_minute=3)), tenant(whole)
    assert desk.limits.headers(one)["x-ratelimit-limit-requests"] == "3"
    for _ in range(4):
        desk.limits.admit(two)
    headers = desk.limits.headers(one)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("5", "1")
    assert not [name for name in headers if name.endswith("tokens")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.0001, "1ms"), (0.12, "120ms"), (0.9999, "1s"), (1, "1s"), (8.64, "8.64s"), (59.9999, "1m0s"),
        (60, "1m0s"), (360, "6m0s"), (72.5, "1m13s"), (3600, "1h0m0s"), (86_399, "23h59m59s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e6))
def test_no_duration_is_shorter_than_it_is(seconds: float) -> None:
    text, total = duration(seconds), 0.0
    if text.endswith("ms"):
        total = float(text[:-2]) / 1000
    else:
        for unit, length in (("h", 3600), ("m", 60), ("s", 1)):
            if unit in text:
                number, text = text.split(unit)
                total += float(number) * length
    assert seconds - 1e-5 <= total <= seconds + 1


def test_a_budget_that_is_used_up_refuses_until_the_next_period(desk: Desk) -> None:
    who = limited(budget=2.0, period="day")
    desk.spend(who, 1.5)
    desk.limits.admit(who)
    assert desk.limits.left(who) == 0.5
    desk.spend(who, 1.0)
    error = desk.refused(who)
    assert (error.status, error.code, error.retry_after) == (429, "insufficient_quota", 12 * HOUR)
    assert error.message == (
        "The budget of acme, 2 USD a day, is used up. It starts anew at 2026-11-21T00:00:00Z."
    )  # fmt: skip
    assert desk.refused(who, 10).code == "insufficient_quota"
    assert (desk.limits.left(who), desk.count("budget")) == (0.0, 2)
    desk.clock.advance(12 * HOUR - 1)
    desk.refused(who)
    desk.clock.advance(1)
    desk.limits.admit(who)
    assert desk.limits.left(who) == 2.0


def test_what_ends_in_the_next_period_is_booked_there(desk: Desk) -> None:
    who = limited(budget=2.0, period="day")
    desk.spend(who, 1.9)
    late = desk.limits.reserve(who, 0)
    desk.clock.advance(DAY)
    late.settle(10, 0.5)
    assert desk.limits.left(who) == 1.5


def test_of_several_budgets_the_least_that_is_left_counts(desk: Desk) -> None:
    who = tenant(Allowance("acme", budget=10.0), Allowance("acme/one", budget=3.0, period="day"), Allowance("acme/two"))
    desk.spend(who, 2.0)
    assert desk.limits.left(who) == 1.0
    assert desk.gauges() == {"acme": 8.0, "acme/one": 1.0}


@pytest.mark.parametrize(
    ("span", "now", "begin", "end"),
    [
        ("day", "2026-11-20T23:59:59", "2026-11-20", "2026-11-21"),
        ("day", "2026-11-21T00:00:00", "2026-11-21", "2026-11-22"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29T10:00:00", "2028-02-01", "2028-03-01"),
        ("month", "2026-01-31T10:00:00", "2026-01-01", "2026-02-01"),
    ],
)
def test_periods_are_those_of_utc(span: str, now: str, begin: str, end: str) -> None:
    def unix(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    assert period(Allowance("acme", period=span), unix(now)) == (unix(begin), unix(end))  # type: ignore[arg-type]


@pytest.mark.parametrize("first", ["restore", "replace"])
def test_what_was_spent_before_a_restart_counts(desk: Desk, first: str) -> None:
    who = tenant(Allowance("acme", budget=10.0), Allowance("acme/one", budget=4.0))
    steps = {"restore": lambda: desk.limits.restore({"acme": 7.0}), "replace": lambda: desk.limits.replace([who])}
    steps.pop(first)()
    for step in steps.values():
        step()
    assert desk.limits.left(who) == 3.0
    assert desk.gauges() == {"acme": 3.0, "acme/one": 4.0}
    desk.limits.restore({"acme": 9.0, "acme/one": 1.0})
    assert desk.gauges() == {"acme": 1.0, "acme/one": 3.0}


def test_what_was_spent_in_a_period_that_is_over_does_not_count(desk: Desk) -> None:
    desk.limits.restore({"acme": 7.0})
    desk.clock.advance(DAY)
    assert desk.limits.left(limited(budget=10.0, period="day")) == 10.0
    assert desk.limits.left(tenant(Allowance("acme", budget=10.0))) == 10.0


def test_changed_allowances_hold_at_once_and_reset_nothing(desk: Desk) -> None:
    before = limited(requests_per_minute=10, tokens_per_minute=100, budget=5.0)
    for _ in range(10):
        desk.limits.admit(before)
    desk.spend(before, 3.0, tokens=80)
    after = limited(requests_per_minute=12, tokens_per_minute=90, budget=4.0, period="day")
    headers = desk.limits.headers(after)
    assert headers["x-ratelimit-remaining-requests"] == "2"
    assert headers["x-ratelimit-remaining-tokens"] == "10"
    assert desk.limits.left(after) == 1.0
    desk.clock.advance(DAY)
    assert desk.limits.left(after) == 4.0


def test_a_budget_that_is_taken_away_is_no_longer_shown(desk: Desk) -> None:
    desk.spend(limited(budget=5.0), 3.0)
    assert desk.gauges() == {"acme": 2.0}
    assert desk.limits.left(limited(requests_per_minute=1)) == inf
    assert desk.gauges() == {}
    assert desk.limits.left(limited(budget=4.0)) == 1.0


def test_books_are_kept_of_configured_holders_only(desk: Desk) -> None:
    kept, gone = limited(budget=5.0), tenant(Allowance("gone", requests_per_minute=1, budget=1.0))
    desk.limits.replace([kept, gone])
    desk.spend(kept, 2.0)
    running = desk.limits.reserve(gone, 10)
    assert desk.gauges() == {"acme": 3.0, "gone": 1.0}
    desk.limits.replace([kept])
    assert (set(desk.limits._books), desk.gauges()) == ({"acme"}, {"acme": 3.0})
    running.settle(10, 0.5)  # it ends after its tenant was taken out
    assert set(desk.limits._books) == {"acme"}


SPENDING = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400), st.floats(0, 30)), max_size=40)


def _delay(desk: Desk, who: Tenant, tokens: int) -> float:
    """Seconds until `tokens` may be taken, as a refusal says; they are not taken."""
    try:
        desk.limits.reserve(who, tokens).settle(0, 0.0)
    except RateLimited as error:
        return error.retry_after or inf
    return 0.0


@given(SPENDING)
def test_no_more_is_promised_than_a_minutes_worth_and_what_has_refilled(steps: list[tuple[int, int, float]]) -> None:
    desk, who = Desk(), limited(tokens_per_minute=1000)
    used = 0
    for estimate, real, passed in steps:
        delay = _delay(desk, who, estimate)
        assert delay <= 60 + 24  # what is missing, and what the last request has overdrawn
        desk.clock.advance(delay)
        reservation = desk.limits.reserve(who, estimate)
        used += real
        reservation.settle(real, 0.0)
        most = 1000 + 1000 / 60 * (desk.clock.monotonic() - NOON)
        assert used <= most + 400
        desk.clock.advance(passed)


def test_a_tenant_without_allowances_is_admitted_in_less_than_a_microsecond(desk: Desk) -> None:
    clock, who, admit = SystemClock(), tenant(), desk.limits.admit
    best = inf
    for _ in range(20):
        before = clock.monotonic()
        for _ in range(1000):
            admit(who)
        best = min(best, clock.monotonic() - before)
    assert best / 1000 < 1e-6
