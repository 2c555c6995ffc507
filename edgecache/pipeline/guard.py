"""Never worse than no cache: whatever fails on the cache side is counted, logged and treated as a miss."""

import logging
from types import TracebackType
from typing import Self

from edgecache.clock import Clock
from edgecache.errors import CacheSideError, TextTooLong
from edgecache.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_LOG_EVERY = 1.0
"""Seconds between two log lines of one step: a broken disk must not fill another one with log lines."""


class CacheSide:
    """Makes guarded blocks: `with cache_side.step("exact"): …` never raises an ordinary exception."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._logged: dict[str, float] = {}

    def step(self, name: str) -> "_Step":
        """Guard the block as `name`, the label of `edgecache_cache_side_errors_total`."""
        return _Step(self, name)

    def failed(self, name: str, error: Exception) -> None:
        """Count `error`, and log it unless this step did so within the last second."""
        if isinstance(error, TextTooLong):
            return  # nothing failed: such a text is for the exact tier only
        self._metrics.cache_side_errors.labels(name).inc()
        now = self._clock.monotonic()
        if now - self._logged.get(name, -_LOG_EVERY) < _LOG_EVERY:
            return
        self._logged[name] = now
        expected = isinstance(error, CacheSideError)
        log.warning("cache step %s failed, going on as a miss: %s", name, error, exc_info=None if expected else error)


class _Step:
    """A class rather than a generator: it is entered several times a request, and this costs a third."""

    __slots__ = ("_name", "_side", "error")

    def __init__(self, side: CacheSide, name: str) -> None:
        self._side = side
        self._name = name
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.error = error
        self._side.failed(self._name, error)
        return True
