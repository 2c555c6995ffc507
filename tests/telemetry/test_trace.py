import pytest

from edgecache.clock import ManualClock
from edgecache.telemetry.trace import Trace


def test_stages_add_up_and_are_told_in_milliseconds() -> None:
    clock = ManualClock(0.0)
    trace = Trace(clock)
    for seconds in (0.001, 0.002):
        with trace.stage("key"):
            clock.advance(seconds)
    trace.add("upstream", 0.25)
    assert trace.server_timing() == "key;dur=3.000, upstream;dur=250.000"


def test_a_failing_stage_is_timed_too() -> None:
    clock = ManualClock(0.0)
    trace = Trace(clock)
    with pytest.raises(ValueError, match="broken"), trace.stage("embed"):
        clock.advance(0.5)
        raise ValueError("broken")
    assert trace.stages == {"embed": pytest.approx(0.5)}


def test_the_overhead_is_what_is_not_the_upstream() -> None:
    clock = ManualClock(0.0)
    trace = Trace(clock)
    with trace.stage("upstream"):
        clock.advance(1.0)
    clock.advance(0.002)
    assert trace.elapsed() == pytest.approx(1.002)
    assert trace.overhead() == pytest.approx(0.002)
