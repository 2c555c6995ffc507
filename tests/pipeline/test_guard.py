import logging

import pytest

from edgecache.clock import ManualClock
from edgecache.errors import StoreFull, TextTooLong
from edgecache.pipeline.guard import CacheSide
from edgecache.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache_side(clock: ManualClock, metrics: Metrics) -> CacheSide:
    return CacheSide(clock=clock, metrics=metrics)


@pytest.mark.parametrize("error", [StoreFull("full"), ValueError("a bug of ours")], ids=["expected", "unexpected"])
def test_a_failing_step_is_a_miss_and_is_counted(cache_side: CacheSide, metrics: Metrics, error: Exception) -> None:
    with cache_side.step("exact") as step:
        raise error
    assert step.error is error
    assert b'edgecache_cache_side_errors_total{step="exact"} 1.0' in metrics.render()


def test_a_step_that_works_has_no_error(cache_side: CacheSide) -> None:
    with cache_side.step("exact") as step:
        pass
    assert step.error is None


def test_a_text_too_long_to_embed_is_no_failure(cache_side: CacheSide, metrics: Metrics) -> None:
    with cache_side.step("embed") as step:
        raise TextTooLong("long")
    assert step.error is not None
    assert b'edgecache_cache_side_errors_total{step="embed"}' not in metrics.render()


def test_cancellation_is_not_swallowed(cache_side: CacheSide) -> None:
    with pytest.raises(KeyboardInterrupt), cache_side.step("exact"):
        raise KeyboardInterrupt


def test_a_step_that_fails_all_the_time_logs_once_a_second(
    cache_side: CacheSide, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            with cache_side.step("exact"):
                raise StoreFull("full")
            clock.advance(0.4)
    assert [record.getMessage().count("full") for record in caplog.records] == [1, 1]


def test_only_a_bug_is_logged_with_its_traceback(cache_side: CacheSide, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        with cache_side.step("exact"):
            raise StoreFull("full")
        with cache_side.step("semantic"):
            raise ValueError("bug")
    assert [record.exc_info is not None for record in caplog.records] == [False, True]
