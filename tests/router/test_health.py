from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from math import inf, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import ManualClock
from edgecache.config import Ejection, Upstream
from edgecache.router.health import IDLE, LEAD, Health
from edgecache.router.pool import Pool
from edgecache.telemetry.metrics import Metrics
from edgecache.upstream.client import UpstreamClient

SETTINGS = Ejection(failures=5, error_rate=0.5, base=5.0, longest=300.0, ramp=30.0)


@dataclass
class Ward:
    """A few upstreams and what is known of their health."""

    pool: Pool
    health: Health
    clock: ManualClock
    metrics: Metrics

    def out(self, name: str = "a") -> float:
        """Seconds until it may be tried again; 0 = it is in."""
        self.health.tick()
        return max(0.0, float(self.pool.board.out[self.pool.board.row[name]]) - self.clock.monotonic())

    def busy(self, name: str = "a") -> float:
        return max(0.0, float(self.pool.board.busy[self.pool.board.row[name]]) - self.clock.monotonic())

    def ramp(self, name: str = "a") -> float:
        self.health.tick()
        return float(self.pool.board.ramp[self.pool.board.row[name]])

    def fail(self, times: int = 1, name: str = "a") -> None:
        for _ in range(times):
            self.health.failed(name, "unreachable")

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.health.tick()

    def ejections(self, reason: str, name: str = "a") -> float:
        return self.metrics.upstream_ejections.labels(name, reason)._value.get()


def clients(*names: str) -> list[UpstreamClient]:
    return [UpstreamClient(Upstream(name=name, url="http://c"), metrics=Metrics()) for name in names]


@pytest.fixture
async def make_ward() -> AsyncIterator[Callable[..., Ward]]:
    wards: list[Ward] = []

    def build(settings: Ejection = SETTINGS, names: str = "ab") -> Ward:
        clock, metrics = ManualClock(), Metrics()
        pool = Pool(clients(*names), clock=clock)
        health = Health(pool, settings, clock=clock, rng=Random(7), metrics=metrics)
        wards.append(Ward(pool, health, clock, metrics))
        return wards[-1]

    yield build
    for ward in wards:
        for client in ward.pool.clients:
            await client.close()


@pytest.fixture
async def ward(make_ward) -> Ward:
    return make_ward()


# ---------------------------------------------------------------------------------------------- out
def test_failures_in_a_row_put_it_out_and_nobody_else(ward) -> None:
    ward.fail(4)
    assert ward.out() == 0
    ward.fail()
    assert 4 <= ward.out() <= 6
    assert ward.out("b") == 0
    assert ward.ejections("failures") == 1
    assert ward.metrics.upstream_out.labels("a")._value.get() == 1


def test_a_success_in_between_starts_the_row_anew(ward) -> None:
    for _ in range(3):
        ward.fail(4)
        ward.health.ok("a")
    assert ward.out() == 0


def test_a_high_error_rate_puts_it_out_from_twenty_requests_on(ward) -> None:
    for _ in range(9):
        ward.health.ok("a")
        ward.fail()
    ward.health.ok("a")
    assert ward.out() == 0  # 19 requests
    ward.fail()
    assert ward.out() > 0
    assert ward.ejections("error_rate") == 1


def test_requests_of_more_than_half_a_minute_ago_do_not_count(ward) -> None:
    for _ in range(9):
        ward.health.ok("a")
        ward.fail()
    ward.wait(30)
    for _ in range(9):
        ward.health.ok("a")
        ward.fail()
    assert ward.out() == 0


def test_few_errors_among_many_requests_are_borne(ward) -> None:
    for _ in range(200):
        ward.health.ok("a")
        ward.health.ok("a")
        ward.fail()
        ward.clock.advance(0.1)
    assert ward.out() == 0


def test_what_was_sent_before_it_was_put_out_does_not_count_twice(ward) -> None:
    ward.fail(5)
    before = ward.out()
    ward.fail(50)
    assert ward.out() == before
    assert ward.ejections("failures") == 1


def test_a_late_success_does_not_bring_it_back_early(ward) -> None:
    ward.fail(5)
    ward.health.ok("a")
    assert ward.out() > 0
    ward.wait(6)
    ward.fail()
    assert ward.out() > 0  # it had nothing to do with how it is now


# ---------------------------------------------------------------------------------------------- back
def test_it_comes_back_by_and_by(ward) -> None:
    ward.fail(5)
    ward.wait(ward.out())
    assert ward.out() == 0
    assert ward.metrics.upstream_out.labels("a")._value.get() == 0
    assert ward.ramp() == pytest.approx(0.1)
    ward.wait(15)
    assert ward.ramp() == pytest.approx(0.55)
    ward.wait(15)
    assert ward.ramp() == 1.0
    assert ward.ramp("b") == 1.0


def test_its_share_is_small_as_soon_as_its_time_is_over_whoever_looks_first(ward) -> None:
    ward.fail(5)
    ward.clock.advance(7)
    assert ward.pool.board.ramp[0] == pytest.approx(0.1)  # nobody has ticked yet


def test_the_first_failure_after_its_return_puts_it_out_again_for_longer(ward) -> None:
    lengths = []
    ward.fail(5)
    for _ in range(9):
        lengths.append(ward.out())
        ward.wait(ward.out())
        ward.fail()
    assert ward.ejections("again") == 9
    for number, length in enumerate(lengths):
        nominal = min(5 * 2**number, 250)
        assert 0.8 * nominal <= length <= 1.2 * nominal
    assert len(set(lengths)) == 9  # never quite the same, so that POPs do not all come back at once


def test_after_a_success_a_single_failure_is_borne_again(ward) -> None:
    ward.fail(5)
    ward.wait(6)
    ward.health.ok("a")
    ward.fail()
    assert ward.out() == 0


def test_the_errors_that_put_it_out_are_not_held_against_it_again(ward) -> None:
    for _ in range(10):
        ward.health.ok("a")
        ward.fail()
    ward.wait(ward.out())
    ward.health.ok("a")
    ward.fail()
    assert ward.out() == 0


def test_after_a_good_while_it_starts_anew(ward) -> None:
    for _ in range(3):
        ward.fail(5)
        ward.wait(ward.out())
    ward.health.ok("a")
    ward.wait(250)
    ward.fail(5)
    assert ward.out() > 30  # not long enough ago
    ward.wait(ward.out())
    ward.health.ok("a")
    ward.wait(301)
    ward.fail(5)
    assert ward.out() <= 6


def lost(ward: Ward, answers: Callable[[int, float], bool], *, seconds: int, rate: int = 10) -> list[int]:
    """Requests that failed in each 10 minutes, of `rate` a second that go there whenever they may.

    Probes find it well whenever they may.
    """
    found, number, began = [0] * (seconds // 600), 0, ward.clock.monotonic()
    for step in range(seconds * rate):
        ward.clock.advance(1 / rate)
        if step % (5 * rate) == 0:
            ward.health.tick()
            ward.health.probed("a", ok=True)
        if not ward.health.is_out("a"):
            number += 1
            if answers(number, ward.clock.monotonic() - began):
                ward.health.ok("a")
            else:
                ward.fail()
                found[step // (600 * rate)] += 1
    return found


def test_one_whose_probes_lie_costs_a_request_every_few_minutes(ward) -> None:
    found = lost(ward, lambda _number, _at: False, seconds=3600)
    assert found[0] <= 5 + 8
    assert max(found[1:]) <= 4


def test_one_that_fails_every_other_request_costs_ever_fewer(ward) -> None:
    found = lost(ward, lambda number, _at: bool(number % 2), seconds=3600)
    assert found[0] < 100  # of 6000
    assert max(found[2:]) <= 4 * 10


def test_one_that_flaps_by_the_minute_is_out_most_of_the_time(ward) -> None:
    found = lost(ward, lambda _number, at: at % 60 < 30, seconds=3600)
    assert found[0] <= 5 * 7
    assert max(found[2:]) <= 5 * 4


# ---------------------------------------------------------------------------------------------- overload
def test_overload_is_not_down(ward) -> None:
    for _ in range(100):
        ward.health.overloaded("a", None)
    assert ward.out() == 0
    assert ward.busy() == 1.0  # all were sent at once
    assert ward.busy("b") == 0


@pytest.mark.parametrize(
    ("told", "rest"), [(7.0, 7), (3600.0, 60), (inf, 60), (0.0, 1), (-3.0, 1), (nan, 1), (None, 1)]
)
def test_retry_after_is_heeded_within_reason(ward, told, rest) -> None:
    ward.health.overloaded("a", told)
    assert ward.busy() == rest


def test_a_shorter_wish_does_not_undo_a_longer_one(ward) -> None:
    ward.health.overloaded("a", 7)
    ward.health.overloaded("a", 2)
    ward.health.overloaded("a", None)
    assert ward.busy() == 7


def test_repeated_overloads_make_for_longer_rests_until_a_success(ward) -> None:
    rests = []
    for _ in range(5):
        ward.health.overloaded("a", None)
        rests.append(ward.busy())
        ward.wait(ward.busy())
    assert rests == [1, 2, 4, 8, 8]
    ward.health.ok("a")
    ward.health.overloaded("a", None)
    assert ward.busy() == 1  # from the beginning: it had been well meanwhile


def test_a_success_that_was_sent_before_does_not_end_the_rest(ward) -> None:
    ward.health.overloaded("a", 30)
    ward.health.ok("a")
    assert ward.busy() == 30


# ---------------------------------------------------------------------------------------------- probes
def test_one_that_fails_its_first_probe_is_out_before_a_request_is_lost(ward) -> None:
    ward.health.probed("a", ok=False)
    assert 4 <= ward.out() <= 6
    assert ward.ejections("probe") == 1


def test_one_that_serves_may_miss_a_probe_but_not_two(ward) -> None:
    ward.health.ok("a")
    ward.health.probed("a", ok=False)
    ward.health.probed("a", ok=True)
    ward.health.probed("a", ok=False)
    assert ward.out() == 0
    ward.health.probed("a", ok=False)
    assert ward.out() > 0


def test_a_probe_grants_no_early_return(ward) -> None:
    ward.fail(5)
    before = ward.out()
    ward.health.probed("a", ok=True)
    assert ward.out() == before


def test_a_failed_probe_when_the_time_is_over_keeps_it_out_but_no_longer_each_time(ward) -> None:
    ward.health.probed("a", ok=False)
    for _ in range(20):
        ward.wait(ward.out() - LEAD)
        ward.health.probed("a", ok=False)
        assert LEAD + 4 <= ward.out() <= LEAD + 6
    assert ward.ejections("probe") == 1  # it was never back
    ward.wait(ward.out())
    assert ward.out() == 0


def test_a_failed_probe_long_before_that_changes_nothing(ward) -> None:
    ward.fail(5)
    before = ward.out()
    ward.health.probed("a", ok=False)
    assert ward.out() == before


def test_a_failed_probe_after_its_return_puts_it_out_again(ward) -> None:
    ward.fail(5)
    ward.wait(ward.out())
    ward.health.probed("a", ok=False)
    assert ward.out() > 0


def test_a_good_probe_does_not_make_up_for_failed_requests(ward) -> None:
    for _ in range(5):
        ward.fail()
        ward.health.probed("a", ok=True)
    assert ward.out() > 0


def test_probes_are_wanted_where_nobody_else_would_notice(ward) -> None:
    assert ward.health.wants_probe("a")  # never used
    ward.health.ok("a")
    assert not ward.health.wants_probe("a")
    ward.wait(IDLE)
    assert ward.health.wants_probe("a")
    ward.fail(5)
    assert not ward.health.wants_probe("a")  # out for a while yet
    ward.wait(ward.out() - LEAD)
    assert ward.health.wants_probe("a")
    ward.wait(LEAD)
    assert ward.health.wants_probe("a")  # back, and not proved
    ward.health.ok("a")
    assert not ward.health.wants_probe("a")
    assert not ward.health.wants_probe("nobody")


# ---------------------------------------------------------------------------------------------- names
async def test_what_is_known_survives_a_reload_and_is_forgotten_with_the_name(ward) -> None:
    ward.fail(5)
    left = ward.out()
    gone = ward.pool.replace(clients("c", "a"))
    assert ward.out() == left
    ward.wait(left)
    assert ward.ramp() == pytest.approx(0.1)
    ward.fail()
    assert 8 <= ward.out() <= 12  # the second time
    gone += ward.pool.replace(clients("c"))
    ward.health.tick()
    assert ("a",) not in ward.metrics.upstream_out._metrics
    gone += ward.pool.replace(clients("a"))
    ward.fail(4)
    assert ward.out() == 0
    for client in gone:
        await client.close()


def test_nobody_asks_about_those_who_are_gone(ward) -> None:
    ward.health.ok("gone")
    ward.health.failed("gone", "timeout")
    ward.health.overloaded("gone", 1.0)
    ward.health.probed("gone", ok=False)
    assert not ward.health.is_out("gone")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ok", "failed", "overloaded", "good", "bad", "tick", "reload"]),
        st.floats(0, 400),
        st.one_of(st.none(), st.floats()),
    ),
    max_size=60,
)


@given(EVENTS)
async def test_whatever_happens_nobody_is_out_or_busy_for_ever(events) -> None:
    clock = ManualClock()
    pool = Pool(clients("a"), clock=clock)
    retired = list(pool.clients)
    health = Health(pool, SETTINGS, clock=clock, rng=Random(1), metrics=Metrics())
    for event, seconds, told in events:
        if event == "overloaded":
            health.overloaded("a", told)
        elif event in {"good", "bad"}:
            health.probed("a", ok=event == "good")
        elif event == "tick":
            health.tick()
        elif event == "reload":
            retired += clients("a")
            pool.replace(retired[-1:])
        elif event == "ok":
            health.ok("a")
        else:
            health.failed("a", "x")
        now, board = clock.monotonic(), pool.board
        assert board.out[0] - now <= 300
        assert board.busy[0] - now <= 60
        assert 0.1 <= board.ramp[0] <= 1
        clock.advance(seconds)
    clock.advance(300)
    health.tick()
    assert pool.board.out[0] == 0
    clock.advance(30)
    health.tick()
    assert pool.board.ramp[0] == 1
    for client in retired:
        await client.close()
