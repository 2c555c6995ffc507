import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import ManualClock
from edgecache.config.tree import Functions
from edgecache.errors import Fault, FunctionFault
from edgecache.functions.budget import Budget
from edgecache.functions.grants import granted
from edgecache.functions.manifest import Manifest, Quotas


def budget(**quotas: int) -> Budget:
    clock = ManualClock()
    return Budget(granted(Manifest(name="f", limits=Quotas(**quotas)), Functions()), clock, clock.monotonic() + 2.0)


def test_calls_are_counted() -> None:
    spent = budget(host_calls=2)
    spent.call()
    spent.call()
    with pytest.raises(FunctionFault, match=r"3 host calls, of at most 2 \(limits\.host_calls\)") as caught:
        spent.call()
    assert caught.value.fault is Fault.BUDGET
    assert spent.calls == 3


def test_none_may_be_made_with_none_granted() -> None:
    with pytest.raises(FunctionFault, match="1 host calls, of at most 0"):
        budget(host_calls=0).call()


def test_bytes_are_counted() -> None:
    spent = budget(host_bytes=100)
    spent.move(60)
    assert spent.bytes_left == 40
    spent.move(40)
    with pytest.raises(FunctionFault, match=r"101 bytes through host calls, of at most 100 \(limits\.host_bytes\)"):
        spent.move(1)
    assert spent.bytes_left == 0


@given(st.lists(st.integers(0, 400), max_size=40))
def test_log_lines_beyond_the_budget_are_dropped_and_counted(sizes: list[int]) -> None:
    spent = budget(log_bytes=1000)
    kept = [size for size in sizes if spent.log(size)]
    assert spent.logged == sum(kept) <= 1000
    assert spent.dropped == len(sizes) - len(kept)


def test_time_runs_out() -> None:
    clock = ManualClock()
    spent = Budget(granted(Manifest(name="f"), Functions()), clock, clock.monotonic() + 2.0)
    assert spent.time_left == pytest.approx(2.0)
    clock.advance(1.5)
    assert spent.time_left == pytest.approx(0.5)
    clock.advance(1.5)
    assert spent.time_left == 0.0
