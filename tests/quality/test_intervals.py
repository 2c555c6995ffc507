import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.quality.intervals import Share, difference, together


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_share_lies_within_its_interval_and_that_within_0_and_1(count: int, more: int) -> None:
    share = Share(count, count + more)
    assert 0.0 <= share.low <= share.rate + 1e-12
    assert share.rate - 1e-12 <= share.high <= 1.0


def test_the_interval_is_the_known_one() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148.
    assert (round(Share(81, 263).low, 4), round(Share(81, 263).high, 4)) == (0.2553, 0.3662)
    assert (round(Share(15, 148).low, 4), round(Share(15, 148).high, 4)) == (0.0624, 0.1605)


def test_nothing_of_nothing_is_known() -> None:
    assert (Share(0, 0).rate, Share(0, 0).low, Share(0, 0).high) == (0.0, 0.0, 1.0)


def test_the_interval_of_a_difference_is_the_known_one() -> None:
    # Newcombe 1998 (Interval estimation for the difference), table II, method 10: 56/70 - 48/80.
    low, high = difference(Share(56, 70), Share(48, 80))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_a_difference_of_equals_straddles_nothing() -> None:
    low, high = difference(Share(10, 100), Share(10, 100))
    assert low < 0 < high
    assert low == pytest.approx(-high)


def test_counts_add_up() -> None:
    assert together([Share(1, 10), Share(2, 20)]) == Share(3, 30)


def test_a_share_tells_itself() -> None:
    assert Share(1, 4).to_dict()["rate"] == 0.25
    assert str(Share(1, 4)).startswith("25.00% [")
