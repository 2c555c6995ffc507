"""Log-odds and the cells that risks are counted in; that the structs survive being stored."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache.evidence import BINS, HIGH, LOW, Segment, Track, cell, logistic, logit

PROBABILITIES = st.floats(1e-5, 1 - 1e-5)


@given(PROBABILITIES)
def test_log_odds_and_back(p: float) -> None:
    assert logistic(logit(p)) == pytest.approx(p, rel=1e-6)


def test_certainty_is_kept_finite() -> None:
    assert logit(0.0) == pytest.approx(-logit(1.0))
    assert logistic(-1e6) == 0.0
    assert logistic(1e6) == 1.0


@given(PROBABILITIES, PROBABILITIES)
def test_cells_are_in_order_of_risk(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= cell(low) <= cell(high) < BINS


def test_a_cell_holds_its_own_middle() -> None:
    width = (HIGH - LOW) / BINS
    assert [cell(logistic(LOW + (i + 0.5) * width)) for i in range(BINS)] == list(range(BINS))


def test_what_is_below_or_above_all_cells_is_in_the_outermost() -> None:
    assert (cell(0.0), cell(1.0)) == (0, BINS - 1)


def test_both_records_survive_being_stored() -> None:
    segment, track = Segment(requests=3, offset=0.5), Track(right=1, seen=[(0.9, True)])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(segment), type=Segment) == segment
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(track), type=Track) == track


def test_no_two_segments_share_their_cells() -> None:
    one, other = Segment(), Segment()
    one.near[0] += 1
    assert other.near[0] == 0.0
