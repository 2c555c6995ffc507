import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.functions.tally import OK, Tally, Window, stats
from edgecache.wasm.base import Usage


def test_nothing_has_no_percentiles() -> None:
    window = Window()
    assert (window.p50, window.p99) == (0.0, 0.0)


def test_of_few_calls_the_longest_counts() -> None:
    window = Window()
    for seconds in (0.3, 0.1, 0.2):
        window.add(seconds)
        assert window.p99 == 0.3
    assert window.p50 == 0.2


def test_what_is_long_ago_is_forgotten() -> None:
    window = Window()
    for seconds in (9.0,) * 300 + (0.001,) * 256:
        window.add(seconds)
    assert window.p99 == 0.001


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=600))
def test_percentiles_are_those_of_the_latest_and_at_most_some_calls_old(durations: list[float]) -> None:
    window = Window()
    for seconds in durations:
        window.add(seconds)
    kept = sorted(durations[-256:])
    assert window.p50 in durations
    if len(durations) < 32:
        assert window.p50 == kept[(len(kept) - 1) // 2]
        assert window.p99 == kept[-1]
    assert window.p50 <= window.p99


def test_the_books_of_a_version_are_told() -> None:
    tally = Tally()
    tally.add("thread", OK, 0.002, Usage(cpu=0.001, wall=0.002, host_calls=3, memory=65536))
    tally.add("inline", "trap", 0.0005, None)
    told = stats(tally, "inline")
    assert (told.calls, told.outcomes, told.ran) == (2, {"ok": 1, "trap": 1}, {"thread": 1, "inline": 1})
    assert (told.p50_us, told.p99_us) == pytest.approx((500.0, 2000.0))
    assert (told.cpu_p99_us, told.host_calls, told.memory, told.where) == (1000.0, 3, 65536, "inline")
