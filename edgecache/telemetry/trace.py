"""The stages of one request and how long each took: for `Server-Timing`, the stage histogram and the access log."""

from types import TracebackType

from edgecache.clock import Clock

STAGES = ("parse", "key", "exact", "embed", "ann", "verify", "score", "wasm", "upstream")
"""The stage names in use; the label values of `edgecache_stage_duration_seconds`. `score`,
waiting for the pair verifier, is a part of `verify`; `wasm` is time that functions took."""


class Trace:
    """Stage timings of one request, in seconds. `upstream` is the time to the upstream's first byte."""

    __slots__ = ("_clock", "stages", "started")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started = clock.monotonic()
        self.stages: dict[str, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` towards `stage`."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def stage(self, name: str) -> "_Stage":
        """Time the block as `name`, whether it ends well or not."""
        return _Stage(self, name, self._clock)

    def elapsed(self) -> float:
        """Seconds since the request began."""
        return self._clock.monotonic() - self.started

    def overhead(self) -> float:
        """Seconds spent here so far, without waiting for the upstream."""
        return self.elapsed() - self.stages.get("upstream", 0.0)

    def server_timing(self) -> str:
        """The value of `Server-Timing` (W3C): milliseconds by stage."""
        return ", ".join([f"{name};dur={seconds * 1000:.3f}" for name, seconds in self.stages.items()])


class _Stage:
    """A class rather than a generator: it is entered several times a request, and this costs a third."""

    __slots__ = ("_begun", "_clock", "_name", "_trace")

    def __init__(self, trace: Trace, name: str, clock: Clock) -> None:
        self._trace = trace
        self._name = name
        self._clock = clock
        self._begun = 0.0

    def __enter__(self) -> None:
        self._begun = self._clock.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._trace.add(self._name, self._clock.monotonic() - self._begun)
