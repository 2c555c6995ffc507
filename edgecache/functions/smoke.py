"""One trial call of a program before it is deployed, with a host that refuses everything.

What a function makes of a request that no phase sends is its own affair: it may answer anything, and trap. So only code
that cannot be loaded at all, or that takes its process along, is refused; a limit that is reached becomes a warning.
"""

from edgecache.errors import Fault, FunctionFault, FunctionRefused
from edgecache.wasm.base import Limits, NoHost, Program, Request

_FATAL = frozenset((Fault.LOAD, Fault.CRASH))
_TELLING = frozenset((Fault.CPU, Fault.WALL, Fault.MEMORY, Fault.STACK, Fault.SIZE))
"""A limit that an empty request reaches, real ones will reach too. Other faults may be due to its being empty."""


def smoke(program: Program, limits: Limits, now: float) -> str:
    """What is to be said of `program`, empty if nothing is; raises FunctionRefused. Blocks for `limits.wall` at most.

    `now` is the time that its clocks show, Unix s.
    """
    request = Request("GET", "/", (("x-edgecache-phase", "smoke"),), b"", int(now * 1e9), bytes(32))
    try:
        program.run(request, limits, NoHost())
    except FunctionFault as fault:
        if fault.fault in _FATAL:
            raise FunctionRefused(f"it cannot be run: {fault.message}", code=f"function_{fault.fault}") from fault
        if fault.fault in _TELLING:
            return f"an empty GET request to it ended in a fault: {fault.fault}: {fault.message}"
    return ""
