import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.functions.canary import Trial, Watch, count_canary, count_stable, verdict, wilson

CALLS, MARGIN = 50, 0.02


def after(stable: tuple[int, int], canary: tuple[int, int]) -> str | None:
    """The verdict on (failures, calls) of each, well mixed: failures come at even distances."""
    watch = Watch()
    for failures, calls, count in ((*stable, count_stable), (*canary, None)):
        for call in range(calls):
            ok = (call * failures) % calls >= failures if failures else True
            if count is not None:
                count(watch, ok=ok)
            else:
                count_canary(watch, ok=ok, calls=CALLS, margin=MARGIN)
    return verdict(watch, calls=CALLS, margin=MARGIN)


def calls_until(stable: float, canary: float, *, seed: int, weight: float = 0.1, most: int = 3000) -> int | None:
    """Calls of a canary until it goes, where both fail by chance at these rates; None if it may stay."""
    chance, watch, count = random.Random(seed), Watch(), 0
    while count < most:
        if chance.random() >= weight:
            count_stable(watch, ok=chance.random() >= stable)
            continue
        count += 1
        ok = chance.random() >= canary
        count_canary(watch, ok=ok, calls=CALLS, margin=MARGIN)
        if not ok and verdict(watch, calls=CALLS, margin=MARGIN):
            return count
    return None


@pytest.mark.parametrize(
    ("stable", "canary", "goes"),
    [
        ((0, 500), (0, 500), False),
        ((0, 500), (1, 50), False),  # 2 %: not more than the margin
        ((0, 500), (5, 49), False),  # not enough calls yet
        ((0, 500), (5, 50), True),
        ((5, 500), (3, 50), False),  # 5 % more, which chance explains
        ((250, 500), (30, 50), False),
        ((250, 500), (45, 50), True),
        ((50, 500), (20, 100), False),
        ((50, 500), (30, 100), True),
        ((0, 3), (5, 50), False),  # too little is known of the stable version
        ((500, 500), (50, 50), False),
        ((0, 2000), (9, 900), False),  # surely more, by less than the margin
    ],
)
def test_a_canary_goes_when_it_fails_more_by_the_margin_and_by_more_than_chance(stable, canary, goes) -> None:
    assert (after(stable, canary) is not None) == goes


def test_the_verdict_gives_numbers() -> None:
    assert after((5, 500), (10, 100)) == (
        "fails too often: 10 of 100 calls of the canary failed, 5 of 500 of the stable version, 9.0% more, "
        "of at most 2.0% (functions.canary_margin)"
    )


@pytest.mark.parametrize(("stable", "most"), [((0, 500), 5), ((0, 0), 6), ((25, 500), 6), ((250, 500), 40)])
def test_a_flood_is_not_waited_out(stable: tuple[int, int], most: int) -> None:
    calls = next(calls for calls in range(1, 100) if after(stable, (calls, calls)))
    assert calls <= most
    assert "a flood of failures" in (after(stable, (calls, calls)) or "")


def test_a_flood_is_noticed_after_a_long_time_without_failures() -> None:
    watch = Watch()
    for _ in range(20_000):
        count_stable(watch, ok=True)
        count_canary(watch, ok=True, calls=CALLS, margin=MARGIN)
    assert watch.canary < 20 * CALLS
    for failures in range(1, 10):
        count_canary(watch, ok=False, calls=CALLS, margin=MARGIN)
        if verdict(watch, calls=CALLS, margin=MARGIN):
            assert failures <= 6
            return
    pytest.fail("it was not noticed")


def test_a_slow_change_for_the_worse_is_noticed_after_a_long_time() -> None:
    watch, chance = Watch(), random.Random(1)
    for _ in range(20_000):
        count_stable(watch, ok=True)
        count_canary(watch, ok=True, calls=CALLS, margin=MARGIN)
    for calls in range(3000):
        count_stable(watch, ok=True)
        count_canary(watch, ok=chance.random() >= 0.08, calls=CALLS, margin=MARGIN)
        if verdict(watch, calls=CALLS, margin=MARGIN):
            assert calls < 1000
            return
    pytest.fail("it was not noticed")


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "most"), [(0.0, 0), (0.001, 2), (0.01, 8), (0.05, 12), (0.3, 12)])
def test_a_canary_that_is_no_worse_seldom_goes(rate: float, most: int) -> None:
    """Of a hundred canaries over 2000 calls each: what looking after every failure costs."""
    assert sum(calls_until(rate, rate, seed=seed, most=2000) is not None for seed in range(100)) <= most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stable", "canary", "typical"), [(0.0, 1.0, 6), (0.0, 0.5, 15), (0.0, 0.1, 70), (0.01, 0.05, 200), (0.3, 0.5, 80)]
)
def test_a_worse_canary_goes_soon(stable: float, canary: float, typical: int) -> None:
    needed = [calls_until(stable, canary, seed=seed) for seed in range(40)]
    assert None not in needed
    assert sorted(each or 0 for each in needed)[20] <= typical


@given(st.integers(0, 200), st.integers(1, 200))
def test_an_interval_holds_its_share(count: int, total: int) -> None:
    count = min(count, total)
    low, high = wilson(count, total)
    assert 0 <= low <= count / total + 1e-12
    assert count / total - 1e-12 <= high <= 1


def test_a_trial_condemns_once_however_many_threads_see_it() -> None:
    said: list[str] = []
    trial = Trial(2, calls=CALLS, margin=MARGIN, condemned=said.append)

    def work(number: int) -> None:
        for _ in range(300):
            trial.observe(number, ok=number == 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 1, 2, 2, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1


def test_failures_of_the_stable_version_condemn_nobody() -> None:
    said: list[str] = []
    trial = Trial(2, calls=CALLS, margin=MARGIN, condemned=said.append)
    for _ in range(500):
        trial.observe(1, ok=False)
        trial.observe(2, ok=True)
    assert said == []
