"""Epochs follow the clock while something runs, and rest when nothing does."""

import threading

import pytest

from edgecache.clock import SystemClock
from edgecache.wasm.ticker import Ticker


class Counter:
    """Counts, and lets a test wait for a number."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = threading.Condition()

    def increment(self) -> None:
        with self.changed:
            self.count += 1
            self.changed.notify_all()

    def wait(self, number: int, timeout: float = 10.0) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.count >= number, timeout)


def test_it_ticks_while_something_is_alive() -> None:
    counter, clock = Counter(), SystemClock()
    begun = clock.monotonic()
    ticker = Ticker(counter.increment, [1], 0.001)
    assert counter.wait(50)
    elapsed = clock.monotonic() - begun
    ticker.close()
    assert elapsed >= 0.049
    assert counter.count <= elapsed / 0.001 + 50  # never ahead of the clock (closing takes a moment)


def test_missed_ticks_are_made_up_for() -> None:
    """A tick that takes 20 ms, as when another thread holds the interpreter, does not slow the epochs down."""
    counter, clock = Counter(), SystemClock()
    gate = threading.Event()

    def increment() -> None:
        if counter.count == 0:
            gate.wait(0.02)
        counter.increment()

    ticker = Ticker(increment, [1], 0.001)
    begun = clock.monotonic()
    assert counter.wait(20)
    assert clock.monotonic() - begun < 5.0
    ticker.close()


@pytest.mark.slow
def test_it_rests_when_nothing_is_alive_and_wakes() -> None:
    counter = Counter()
    alive: list[int] = []
    ticker = Ticker(counter.increment, alive, 0.001)
    awake = ticker.awake
    deadline = SystemClock().monotonic() + 10
    while awake.is_set() or not _rests(counter):
        assert SystemClock().monotonic() < deadline
    alive.append(1)
    awake.set()
    assert counter.wait(counter.count + 3)
    ticker.close()


def _rests(counter: Counter) -> bool:
    before = counter.count
    return not counter.wait(before + 1, timeout=0.05)


def test_close_ends_the_thread_and_may_be_repeated() -> None:
    counter = Counter()
    ticker = Ticker(counter.increment, [1], 0.001)
    ticker.close()
    before = counter.count
    assert not counter.wait(before + 1, timeout=0.02)
    ticker.close()
    assert not [each for each in threading.enumerate() if each is ticker._thread]
