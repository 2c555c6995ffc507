from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import ManualClock
from edgecache.config import Hedging
from edgecache.router.retries import Hedges, Retries


def taken(budget, settings: Hedging, tries: int) -> int:
    return sum(budget.take(settings) for _ in range(tries))


def test_a_few_retries_are_allowed_whatever_the_number_of_requests_and_come_back_in_ten_seconds(clock) -> None:
    settings, retries = Hedging(retries=0.0, burst=10), Retries(clock)
    assert taken(retries, settings, 50) == 10
    clock.advance(5)
    assert taken(retries, settings, 50) == 5
    clock.advance(100)
    assert taken(retries, settings, 50) == 10


def test_requests_earn_retries_which_are_forgotten(clock) -> None:
    settings, retries = Hedging(retries=0.2, burst=1), Retries(clock)
    for _ in range(1000):
        retries.earn(settings)
    assert taken(retries, settings, 500) in {200, 201}  # 200, as far as floats can count, and the burst
    for _ in range(1000):
        retries.earn(settings)
    clock.advance(30)
    assert taken(retries, settings, 500) in {10, 11}  # 200 / e³, and the burst


@given(st.lists(st.sampled_from(["request", "retry", "second"]), max_size=400))
def test_retries_never_exceed_their_share_and_the_burst(steps) -> None:
    clock = ManualClock()
    settings, retries = Hedging(retries=0.2, burst=3), Retries(clock)
    requests = made = seconds = 0
    for step in steps:
        if step == "request":
            retries.earn(settings)
            requests += 1
        elif step == "retry":
            made += retries.take(settings)
        else:
            clock.advance(1.0)
            seconds += 1
        assert made <= 0.2 * requests + 3 * (1 + seconds / 10) + 1e-6


@given(st.lists(st.booleans(), max_size=600), st.floats(0.01, 0.5))
def test_hedges_never_exceed_their_share_of_requests_by_more_than_one(steps, ratio) -> None:
    settings, hedges = Hedging(ratio=ratio, burst=10), Hedges()
    requests = sent = 0
    for request in steps:
        if request:
            hedges.earn(settings)
            requests += 1
        else:
            sent += hedges.take(settings)
        assert sent <= 1 + ratio * requests + 1e-6


def test_hedges_are_saved_up_to_the_burst_and_none_are_sent_where_none_are_wanted() -> None:
    settings, hedges = Hedging(ratio=0.05, burst=4), Hedges()
    for _ in range(1000):
        hedges.earn(settings)
    assert taken(hedges, settings, 50) == 4
    assert taken(Hedges(), Hedging(ratio=0.0), 5) == 0
