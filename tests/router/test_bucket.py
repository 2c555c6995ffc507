"""Rates a minute that refill all the time."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from edgecache.router.bucket import Bucket


def test_a_minutes_worth_may_be_taken_at_once_and_comes_back_bit_by_bit() -> None:
    bucket = Bucket(60, 0.0)
    bucket.take(60, 0.0)
    assert bucket.left(0.0) == 0
    assert bucket.left(1.0) == 1
    assert bucket.left(30.0) == 30
    assert bucket.left(300.0) == 60


def test_it_says_how_long_until_there_is_enough() -> None:
    bucket = Bucket(120, 0.0)
    bucket.take(100, 0.0)
    assert bucket.delay(20, 0.0) == 0.0
    assert bucket.delay(30, 0.0) == 5.0
    assert bucket.delay(30, 4.0) == 1.0
    assert bucket.delay(30, 5.0) == 0.0
    assert bucket.delay(121, 1000.0) == inf


def test_it_says_how_long_until_nothing_is_used() -> None:
    bucket = Bucket(60, 0.0)
    assert bucket.full(0.0) == 0.0
    bucket.take(12, 0.0)
    assert (bucket.full(0.0), bucket.full(10.0), bucket.full(13.0)) == (12.0, 2.0, 0.0)


def test_without_a_limit_there_is_always_enough() -> None:
    bucket = Bucket(0, 0.0)
    bucket.take(10**9, 0.0)
    assert (bucket.left(0.0), bucket.delay(10**9, 0.0), bucket.full(0.0)) == (inf, 0.0, 0.0)


def test_more_may_be_taken_than_there_is_and_given_back_no_more_than_was_used() -> None:
    bucket = Bucket(60, 0.0)
    bucket.take(90, 0.0)
    assert (bucket.left(0.0), bucket.delay(1, 0.0)) == (-30, 31.0)
    bucket.take(-500, 0.0)
    assert bucket.left(0.0) == 60


def test_a_new_limit_changes_nothing_about_what_was_used() -> None:
    bucket = Bucket(60, 0.0)
    bucket.take(50, 0.0)
    bucket.resize(600, 10.0)
    assert bucket.left(10.0) == 600 - 40
    assert bucket.left(12.0) == 600 - 20
    bucket.resize(10, 12.0)
    assert bucket.left(12.0) == -10
    bucket.resize(0, 12.0)
    assert bucket.left(12.0) == inf
    bucket.resize(60, 13.0)
    assert bucket.left(13.0) == 60


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(60, 100.0)
    bucket.take(30, 100.0)
    assert bucket.left(50.0) == 30
    assert bucket.left(101.0) == 31


@given(
    st.integers(1, 100_000),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 2000)), min_size=1, max_size=60),
)
def test_in_no_time_more_is_taken_than_the_limit_and_what_has_refilled(
    limit: int, asked: list[tuple[float, int]]
) -> None:
    bucket, now, taken = Bucket(limit, 0.0), 0.0, 0
    for passed, amount in asked:
        now += passed
        if not bucket.delay(amount, now):
            bucket.take(amount, now)
            taken += amount
        assert taken <= limit + limit / 60 * now + 1e-3


@given(st.integers(1, 1_000_000), st.floats(0, 3), st.floats(0, 1), st.floats(0, 1e6))
def test_who_waits_as_long_as_it_was_told_gets_what_it_wants(
    limit: int, used: float, wanted: float, now: float
) -> None:
    bucket = Bucket(limit, now)
    bucket.take(used * limit, now)
    delay = bucket.delay(wanted * limit, now)
    if delay > 0.01:
        assert bucket.delay(wanted * limit, now + delay - 0.01) > 0
    assert bucket.delay(wanted * limit, now + delay) == 0.0
