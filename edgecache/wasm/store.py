"""The store of one call: its limits, its time, and the way out to its host. What runs in it is the subclass's part.

A store belongs to one call and one thread. It is found from inside by the number that it carries (`Engine.alive`),
never by what thread it runs on.
"""

import time
from types import TracebackType
from typing import Any, Self

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import native, trap
from edgecache.wasm.base import Host, Limits, NoHost, Request, Usage
from edgecache.wasm.engine import INSTANCES, MEMORIES, TABLE_ELEMENTS, TABLES, Engine

_cpu = time.thread_time
"""CPU time of this thread, which waiting for the interpreter lock or for other processes does not spend. No time of
day, so nothing that a test would hold still."""


class Store:
    """A wasmtime store with its limits; valid inside its `with` only, and gone after it.

    `state` is free for whoever opened it. Everything may raise FunctionFault.
    """

    __slots__ = (
        "_begun",
        "_key",
        "_mark",
        "_spent",
        "_store",
        "context",
        "depth",
        "engine",
        "error",
        "host",
        "host_calls",
        "limits",
        "pool",
        "request",
        "state",
    )

    large = False
    """Wiping its memory takes so long that other threads had better run meanwhile."""

    def __init__(
        self, engine: Engine, pool: native.Address, request: Request, limits: Limits, host: Host | None
    ) -> None:
        self.engine = engine
        self.pool = pool
        self.request = request
        self.limits = limits
        self.host = host or NoHost()
        self.state: Any = None
        self.host_calls = 0
        self.depth = 0
        """Host functions in progress."""
        self.error: BaseException | None = None
        """What a host function raised: it ended the sandbox by a trap, and goes on to whoever called it."""

    def __enter__(self) -> Self:
        engine, limits = self.engine, self.limits
        if len(engine.alive) >= engine.instances:
            raise FunctionFault(Fault.POOL, f"{engine.instances} functions run already, which is all of this POP's")
        key = self._key = next(engine.keys)
        self._spent = 0.0
        self._begun = engine.clock.monotonic()
        self._mark = _cpu()
        store = self._store = native.store_new(self.pool, key, None)
        self.context: native.Address = native.store_context(store)
        engine.alive[key] = self
        if not engine.awake.is_set():
            engine.awake.set()
        try:
            native.store_epoch_callback(store, engine.late, None, None)
            native.store_limiter(store, limits.memory, TABLE_ELEMENTS, INSTANCES, TABLES, MEMORIES)
            self._arm(limits.cpu, limits.wall)
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _open(self) -> None:
        """Instantiate what is to run; when this raises, `_close` follows."""
        raise NotImplementedError

    def _close(self) -> None:
        """Delete the store, with everything that lives in it."""
        if self.depth:
            raise RuntimeError("a sandbox was closed from inside")
        del self.engine.alive[self._key]
        del self.context  # whatever would use it now fails in Python, not in C
        (native.store_delete_large if self.large else native.store_delete)(self._store)

    def host_call(self, op: str, argument: bytes) -> bytes:
        """Ask the host. The time it takes does not count as `cpu`, but as `wall`."""
        self._spent += _cpu() - self._mark
        if self._spent > self.limits.cpu:
            raise trap.overtime(self.limits, wall=False)
        self.check_wall()
        self.host_calls += 1
        answer = self.host.call(op, argument)
        self._arm(self.limits.cpu - self._spent, self.check_wall())
        self._mark = _cpu()
        return answer

    def late(self) -> int:
        """Epochs for which it may go on although its last ones are over; raises FunctionFault if it may not.

        Epochs pass too while its thread waits for the interpreter lock or for a processor, which is not its doing.
        """
        left = self.limits.cpu - self._spent - (_cpu() - self._mark)
        if left <= 0.0:
            raise trap.overtime(self.limits, wall=False)
        return self.engine.ticks(min(left, self.check_wall())) - 1  # a little early: it is asked again

    def check_wall(self) -> float:
        """The s of wall time that are left; raises FunctionFault if none are."""
        left = self.limits.wall - (self.engine.clock.monotonic() - self._begun)
        if left <= 0.0:
            raise trap.overtime(self.limits, wall=True)
        return left

    @property
    def memory_size(self) -> int:
        """Bytes of its linear memory; 0 where it cannot be seen from outside."""
        return 0

    def finish(self) -> Usage:
        """What it took; raises FunctionFault if that was too long."""
        wall = self.engine.clock.monotonic() - self._begun
        if wall > self.limits.wall:
            raise trap.overtime(self.limits, wall=True)
        return Usage(self._spent + _cpu() - self._mark, wall, self.host_calls, self.memory_size)

    def _arm(self, cpu: float, wall: float) -> None:
        native.context_set_epoch_deadline(self.context, self.engine.ticks(min(cpu, wall)))

    def failed(self, text: str) -> BaseException:
        """What to raise after wasmtime said `text`: the exception of a host function if that is why, else the fault."""
        error, self.error = self.error, None
        return error if error is not None else trap.fault(text)
