"""wasmtime's engine as every function of this POP shares it: compiler settings, the pool of sandboxes, epochs.

What a function is and how it is called is `module`'s and `component`'s part. Nothing of the host is ever linked here:
wasmtime's own WASI would bring real clocks, sleeps and sockets that no epoch can end.
"""

import ctypes
import faulthandler
import hashlib
import itertools
import mmap
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

from edgecache.clock import Clock, SystemClock
from edgecache.errors import ConfigError, Fault, FunctionFault, FunctionRefused
from edgecache.wasm import border, native, trap
from edgecache.wasm.ticker import Ticker

_SETTINGS: dict[str, int] = {
    "epoch_interruption": True,
    "cranelift_opt_level": 1,  # speed
    "max_wasm_stack": trap.STACK,
    "memory_may_move": False,
    "memory_reservation": 4 * 1024**3,
    # What toolchains emit.
    "wasm_reference_types": True,
    "wasm_bulk_memory": True,
    "wasm_multi_value": True,
    "wasm_simd": True,
    "wasm_tail_call": True,
    "wasm_component_model": True,
    # What none of them needs here is no surface to attack; relaxed SIMD differs from machine to machine.
    "wasm_relaxed_simd": False,
    "wasm_threads": False,
    "shared_memory": False,
    "wasm_memory64": False,
    "wasm_multi_memory": True,  # wasmtime itself joins components with it
    "wasm_function_references": False,
    "wasm_gc": False,
    "gc_support": False,
    "wasm_exceptions": False,
    "wasm_stack_switching": False,
    "wasm_wide_arithmetic": False,
    "wasm_custom_page_sizes": False,
    "wasm_component_model_async": False,
    "concurrency_support": False,
}
"""Of every engine, so that code compiled by one without a pool runs in one with it."""
INSTANCES = 100
"""Core instances in one sandbox; a Python component has dozens."""
TABLES = 100
"""Tables in one sandbox."""
MEMORIES = 5
"""Linear memories in one sandbox: the adapter's and the driver's, and what the component brings, commonly one. The
limit of bytes is of each."""
TABLE_ELEMENTS = 20_000
_RESERVED = 4 * 1024**3 + 64 * 1024**2
"""Address space that a linear memory reserves, so that compiled code needs no checks of bounds; not memory."""
_RESIDENT = 64 * 1024
"""Bytes of a slot that are wiped by hand, the rest being given back to the kernel, which costs a fault a page later."""
_WARM = 2 * 1024 * 1024
"""The same in the second pool, for interpreters: a script takes 260 us so, and 430 us with the other. A module that has
as much memory but touches little of it takes 48 us instead of 29, which is why there are two."""
_NEVER = 1 << 60
"""Epochs."""


class Engine:
    """One per process: compiles code, and holds the pools in which sandboxes live.

    `instances`: sandboxes at once. `memory`: most bytes that a linear memory may have. `tick`: s between two looks at
    the time of running functions; None for a process that only compiles: no pools, no ticker, no limits of time.
    `pool` and `warm` are engines of wasmtime with the same settings: `warm` is for modules that touch most of their
    memory in every call. Raises ConfigError where signals or the address space would not let it work.
    """

    def __init__(self, *, instances: int, memory: int, tick: float | None, clock: Clock | None = None) -> None:
        if not faulthandler.is_enabled():
            # Its handler of SIGSEGV has to be below wasmtime's: the other way round, an access out of bounds in a
            # sandbox, which wasmtime turns into a trap, ends this process.
            raise ConfigError("faulthandler has to be enabled before the WebAssembly engine is made")
        self.instances = instances
        self.memory = memory
        self.tick = tick
        self.clock = clock or SystemClock()
        if tick is None:
            self.pool = self.warm = _made({})
        else:
            _reserve(instances * (MEMORIES + 1) * _RESERVED)
            self.pool = _made(_pool(instances, memory))
            self.warm = _made(_pool(instances, memory, memories=1) | {"linear_memory_keep_resident": _WARM})
        self.alive: dict[int, Any] = {}
        """Sandboxes by the number that their store carries; its length is what `live` says."""
        self.late = border.epoch_callback(self.alive)
        """What C calls when a sandbox has run for as long as it was given."""
        self.keys = itertools.count(1)
        self.fingerprint = hashlib.sha256(self.compile_module(b"\0asm\x01\0\0\0")).hexdigest()
        """Differs whenever code compiled by another engine would not run here: wasmtime's version, every setting that
        matters and the CPU's features are in what it makes of the empty module."""
        self._ticker = Ticker(self._increment, self.alive, tick) if tick is not None else None
        self.awake = self._ticker.awake if self._ticker else _always()

    @property
    def live(self) -> int:
        """Sandboxes alive."""
        return len(self.alive)

    def compile_module(self, wasm: bytes) -> bytes:
        """The machine code of a core module; raises FunctionRefused. Takes long and much memory: not on a loop."""
        return self._compiled(wasm, native.module_new, native.module_serialize, native.module_delete)

    def compile_component(self, wasm: bytes) -> bytes:
        """The machine code of a component; raises FunctionRefused. Takes long and much memory: not on a loop."""
        return self._compiled(wasm, native.component_new, native.component_serialize, native.component_delete)

    def load(self, pool: native.Address, code: Path, load: native.Function) -> native.Address:
        """The module or component in a file of machine code, which is mapped; raises FunctionFault (`load`).

        `pool` is this engine's `pool` or `warm`. The code is run as it is: only files that this POP wrote itself may
        come here.
        """
        if not pool:
            raise FunctionFault(Fault.LOAD, "cannot be loaded: the engine was closed")
        found = ctypes.c_void_p()  # alive until C has written to it
        error = load(pool, str(code).encode(), ctypes.addressof(found))
        if error:
            raise FunctionFault(Fault.LOAD, f"cannot be loaded: {trap.one_line(trap.error_text(error))}")
        return found.value or 0

    def ticks(self, seconds: float) -> int:
        """Epochs after which `seconds` have passed for certain, and at most two more."""
        return _NEVER if self.tick is None else int(seconds / self.tick) + 2

    def close(self) -> None:
        """Stop the ticker and give the engine back; no sandbox may be alive, and none can be opened any more."""
        self.instances = 0
        if self._ticker is not None:
            self._ticker.close()
        for pool in {self.pool, self.warm} - {0}:
            native.engine_delete(pool)
        self.pool = self.warm = 0

    def _increment(self) -> None:
        native.engine_increment_epoch(self.pool)
        native.engine_increment_epoch(self.warm)

    def _compiled(
        self, wasm: bytes, new: native.Function, serialize: native.Function, delete: native.Function
    ) -> bytes:
        if not wasm.startswith(b"\0asm"):  # wasmtime would take WebAssembly's text form for a component
            raise FunctionRefused("not WebAssembly", code="invalid_wasm")
        found = ctypes.c_void_p()  # alive until C has written to it
        error = new(self.pool, wasm, len(wasm), ctypes.addressof(found))
        if error:
            raise FunctionRefused(
                f"not valid WebAssembly: {trap.one_line(trap.error_text(error))}", code="invalid_wasm"
            )
        try:
            vector = native.ByteVec()
            error = serialize(found, ctypes.addressof(vector))
            if error:
                raise FunctionRefused(trap.one_line(trap.error_text(error)), code="invalid_wasm")
            code = bytes((ctypes.c_char * vector.size).from_address(vector.data or 0))
            native.byte_vec_delete(ctypes.addressof(vector))
            return code
        finally:
            delete(found)


def _made(pool: Mapping[str, int]) -> native.Address:
    """A new engine of wasmtime, with a pool of these options; with none, its memory is made when it is needed."""
    config = native.config_new()
    for name, value in _SETTINGS.items():
        native.config_set(config, name, value)
    if pool:
        pooling = native.pooling_new()
        for name, value in pool.items():
            native.pooling_set(pooling, name, value)
        native.pooling_use(config, pooling)
        native.pooling_delete(pooling)  # the configuration has a copy
    made: int = native.engine_new(config)  # the engine has the configuration now
    return made


def _pool(instances: int, memory: int, memories: int = MEMORIES) -> dict[str, int]:
    return {
        "total_component_instances": instances,
        "total_core_instances": instances * INSTANCES,
        "total_memories": instances * memories,
        "total_tables": instances * TABLES,
        "total_stacks": 0,
        "total_gc_heaps": 0,
        "max_core_instances_per_component": INSTANCES,
        "max_memories_per_component": MEMORIES,
        "max_tables_per_component": TABLES,
        "max_tables_per_module": TABLES,
        "max_component_instance_size": 8 * 1024**2,
        "max_core_instance_size": 1024**2,
        "max_memory_size": memory,
        "table_elements": TABLE_ELEMENTS,
        "linear_memory_keep_resident": _RESIDENT,
        "table_keep_resident": _RESIDENT,
    }


def _reserve(size: int) -> None:
    """Raise ConfigError if `size` bytes of address space cannot be had: wasmtime would end the process."""
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"the pool of sandboxes reserves {size / 1024**3:.0f} GiB of address space (not memory) and cannot:"
            f" {error}; lower functions.instances, or raise the limit (ulimit -v)"
        ) from error


def _always() -> Event:
    event = Event()
    event.set()
    return event
