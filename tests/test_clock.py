import time

from edgecache.clock import ManualClock, SystemClock


def test_the_system_clock_tells_unix_time_and_never_goes_back() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time()) < 5  # noqa: TID251 - compared with the real thing
    assert clock.monotonic() <= clock.monotonic()


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(100.0)
    before = clock.now(), clock.monotonic()
    clock.advance(2.5)
    assert before == (100.0, 100.0)
    assert (clock.now(), clock.monotonic()) == (102.5, 102.5)
