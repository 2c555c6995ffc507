"""What calls of a function take: by the clock and of the CPU, and how long an endless loop is let run."""

import math
import time
from collections.abc import Callable

import msgspec

from edgecache.clock import Clock
from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Host, Limits, Program, Request

LOOP = bytes.fromhex(
    "0061736d01000000010c0260017f017f60027f7f017e03030200010503010001071b03066d656d6f7279020005616c6c6f6300000668616e"
    "646c6500010a100205004180080b080003400c000b000b"
)
"""A core module whose `handle` is `(loop br 0)`: what an endless loop costs is measured with it."""
_WARM = 5
"""Calls before those that count."""
_KILLS = 20


class Timings(msgspec.Struct, frozen=True):
    """Calls of one request: times in us, `cpu` on average of the calling thread's; `memory` bytes of linear memory."""

    calls: int
    p50: float
    p90: float
    p99: float
    cpu: float
    memory: int

    @property
    def per_core(self) -> float:
        """Calls that one core can make in a second."""
        return 1e6 / self.cpu if self.cpu else math.inf


def measure(
    program: Program, request: Request, limits: Limits, host: Callable[[], Host], *, calls: int, clock: Clock
) -> Timings:
    """Call `program` again and again; each call has a new host. Blocks. Raises FunctionFault if a call fails."""
    for _ in range(_WARM):
        program.run(request, limits, host())
    took, memory = [], 0
    begun = time.thread_time()
    for _ in range(calls):
        started = clock.monotonic()
        answered = program.run(request, limits, host())
        took.append(clock.monotonic() - started)
        memory = max(memory, answered.usage.memory)
    cpu = (time.thread_time() - begun) / calls
    p50, p90, p99 = (1e6 * share(took, each) for each in (0.5, 0.9, 0.99))
    return Timings(calls, p50, p90, p99, 1e6 * cpu, memory)


def share(values: list[float], part: float) -> float:
    """The smallest of `values` that at least `part` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def killed(loop: Program, request: Request, *, cpu: float, clock: Clock) -> list[float]:
    """For some calls of an endless loop, s from the moment it should have ended to when it did."""
    late = []
    for _ in range(_KILLS):
        started = clock.monotonic()
        try:
            loop.run(request, Limits(cpu=cpu, wall=10.0))
        except FunctionFault as fault:
            if fault.fault is not Fault.CPU:
                raise
        late.append(clock.monotonic() - started - cpu)
    return late
