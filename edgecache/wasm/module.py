"""A core module and its sandboxes: call what it exports, reach its memory, serve what it imports.

Knows numbers and bytes; which exports mean what is the business of `core`, `script` and `command`.
"""

import ctypes
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import native, trap
from edgecache.wasm.base import Host, Limits, Request
from edgecache.wasm.border import HostFunction, module_callback
from edgecache.wasm.engine import Engine
from edgecache.wasm.exports import Export, function_type, read_exports
from edgecache.wasm.store import Store

__all__ = ["Exit", "HostFunction", "Module", "Sandbox"]

_MEMORY = "memory"
_MASKS = {"": 0, "i": 0xFFFFFFFF, "I": 0xFFFFFFFFFFFFFFFF}
"""The bits that a result has."""
_LARGEST = 2**31 - 1
"""Bytes read or written at once: ctypes takes lengths as C's int."""


class Exit(Exception):
    """Raised by a host function to end the sandbox on purpose; comes out of `Sandbox.call`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Module:
    """A core module that was compiled, with what it may import; sandboxes of it can be opened from any thread.

    `code` is a file that `Engine.compile_module` made. Raises FunctionFault (`load`) if it is not, or imports what is
    not in `imports`. `warm`: each call touches most of its memory, a MiB or two.
    """

    def __init__(
        self, engine: Engine, code: Path, imports: Mapping[tuple[str, str], HostFunction], *, warm: bool = False
    ) -> None:
        self.engine = engine
        self.pool = engine.warm if warm else engine.pool
        module = engine.load(self.pool, code, native.module_load)
        linker = native.linker_new(self.pool)
        try:
            # C keeps the addresses of these for as long as `pre` lives, which is as long as this object.
            self._callbacks = [_define(linker, engine, name, given) for name, given in imports.items()]
            self.exports = read_exports(module)
            self.pre = _linked(linker, module)
        finally:
            native.linker_delete(linker)  # `pre` has what it needs of both
            native.module_delete(module)
        self.cells: list[_Cell] = []
        """Those that no sandbox uses at the moment."""
        self._release = weakref.finalize(self, native.instance_pre_delete, self.pre)
        self._release.atexit = False

    def open(self, request: Request, limits: Limits, host: Host | None) -> "Sandbox":
        """A sandbox, which lives in the `with` of the result. Raises FunctionFault (`load`) after `close`."""
        if not self.pre:
            raise FunctionFault(Fault.LOAD, "was closed")
        return Sandbox(self, request, limits, host)

    def close(self) -> None:
        """Give the code back; no sandbox of it may be open."""
        self.pre = 0
        self._release()


class _Slot:
    """Where C finds and leaves what a call of one exported function needs, in one cell.

    Words of 64 bits: the extern, then room for arguments and result.
    """

    __slots__ = ("address", "arity", "count", "export", "extern", "found", "mask", "values", "words")

    VALUES = native.EXTERN // 8

    def __init__(self, export: Export) -> None:
        self.export = export
        self.arity = len(export.params)
        self.mask = _MASKS[export.results]
        self.count = max(self.arity, 1)
        self.words = (ctypes.c_uint64 * (self.VALUES + self.count * native.RAW // 8))()
        self.extern = ctypes.addressof(self.words)
        self.address = self.extern + native.EXTERN_OF
        self.values = self.extern + native.EXTERN
        self.found = 0
        """The number of the sandbox whose instance the extern is of."""


class _Cell:
    """The memory in which C writes for one sandbox, kept from call to call: making it takes longer than using it.

    Words of 64 bits: the instance (2), a trap. A sandbox has the cell to itself, and holds it until its store is
    deleted: every address in it, and in the slots of the exports that were used, is good for so long.
    """

    __slots__ = ("instance", "slots", "trap", "words")

    TRAP = 2

    def __init__(self) -> None:
        self.words = (ctypes.c_uint64 * 3)()
        self.instance = ctypes.addressof(self.words)
        self.trap = self.instance + 8 * self.TRAP
        self.slots: dict[str, _Slot] = {}


class Sandbox(Store):
    """A fresh instance of a module, gone at the end of its `with`."""

    __slots__ = ("_base", "_cell", "_memory", "_size", "module")

    def __init__(self, module: Module, request: Request, limits: Limits, host: Host | None) -> None:
        super().__init__(module.engine, module.pool, request, limits, host)
        self.module = module  # keeps code and callbacks alive while this runs
        self._size = 0
        """Bytes of memory when last looked at: it may have grown since."""

    def _open(self) -> None:
        module = self.module
        try:
            cell = self._cell = module.cells.pop()
        except IndexError:
            cell = self._cell = _Cell()
        self._memory = 0
        error = native.instance_pre_instantiate(module.pre, self.context, cell.instance, cell.trap)
        if error or cell.words[cell.TRAP]:
            raise self._failed(error)
        memory = module.exports.get(_MEMORY)
        if memory is not None and memory.memory:
            slot = cell.slots.get(_MEMORY) or self._slot(_MEMORY)
            self._find(slot)
            self._memory = slot.address
            self._base: native.Address = native.memory_data(self.context, self._memory) or 0

    @property
    def large(self) -> bool:  # type: ignore[override] # read only
        """True for those with more than a MiB."""
        return self._size > trap.MIB

    def _close(self) -> None:
        super()._close()
        self.module.cells.append(self._cell)

    def call(self, export: str, *args: int) -> int:
        """Call an exported function; i32 and i64 as unsigned numbers, 0 for no result.

        Raises FunctionFault, and whatever a host function raised meanwhile.
        """
        cell = self._cell
        slot = cell.slots.get(export) or self._slot(export)
        if slot.export.memory or len(args) != slot.arity:
            raise FunctionFault(Fault.ANSWER, f"exports no function {export} of {len(args)} numbers")
        if slot.found != self._key:
            self._find(slot)
        # A host function may call the same export again: C has read the arguments by then, and writes the result last.
        words, index = slot.words, slot.VALUES
        for arg in args:
            words[index] = arg
            index += 2
        error = native.func_call(self.context, slot.address, slot.values, slot.count, cell.trap)
        if error or cell.words[cell.TRAP]:
            raise self._failed(error)
        return words[slot.VALUES] & slot.mask

    def read(self, pointer: int, length: int) -> bytes:
        """A copy of `length` bytes of its memory."""
        if not length:
            return b""
        return ctypes.string_at(self._at(pointer, length), length)

    def write(self, pointer: int, data: bytes) -> None:
        """Copy `data` into its memory."""
        ctypes.memmove(self._at(pointer, len(data)), data, len(data))

    def read_u32(self, pointer: int) -> int:
        """A number of 4 bytes, little-endian."""
        return ctypes.c_uint32.from_address(self._at(pointer, 4)).value

    def write_u32(self, pointer: int, value: int) -> None:
        """The same, written."""
        ctypes.c_uint32.from_address(self._at(pointer, 4)).value = value

    def write_u64(self, pointer: int, value: int) -> None:
        """A number of 8 bytes, little-endian."""
        ctypes.c_uint64.from_address(self._at(pointer, 8)).value = value

    @property
    def memory_size(self) -> int:
        """Bytes of its linear memory; 0 if it exports none."""
        if self._memory:
            self._size = native.memory_data_size(self.context, self._memory)
        return self._size

    def _at(self, pointer: int, length: int) -> native.Address:
        """Where `length` bytes at `pointer` are.

        Memory never shrinks, and never moves: the engine reserves the address space of all that it may become.
        """
        if pointer + length > self._size or pointer < 0 or length > _LARGEST:
            size = self.memory_size
            if pointer + length > size or pointer < 0 or length > _LARGEST:
                raise FunctionFault(
                    Fault.TRAP if self.depth else Fault.ANSWER,
                    f"gave {length} bytes at {pointer}, which are not in its memory of {size} bytes",
                )
        return self._base + pointer

    def _slot(self, name: str) -> _Slot:
        """The slot of an export that this cell was not used for yet."""
        export = self.module.exports.get(name)
        if export is None:
            raise FunctionFault(Fault.ANSWER, f"exports no function {name}")
        slot = self._cell.slots[name] = _Slot(export)
        return slot

    def _find(self, slot: _Slot) -> None:
        """Let C write to `slot` where its export is in this instance."""
        name = slot.export.name
        if not native.instance_export_get(self.context, self._cell.instance, name, len(name), slot.extern):
            raise FunctionFault(Fault.LOAD, f"has no export {name.decode()}")
        slot.found = self._key

    def _failed(self, error: native.Address | None) -> BaseException:
        words = self._cell.words
        trapped, words[_Cell.TRAP] = words[_Cell.TRAP], 0
        text = trap.error_text(error) if error else trap.trap_text(trapped)
        return self._explained(self.failed(text))

    def _explained(self, error: BaseException) -> BaseException:
        """`error`; as one of memory if it had nearly all of its memory when it gave up: guests trap where they fail."""
        size, limit = self.memory_size, self.limits.memory
        if isinstance(error, FunctionFault) and error.fault == Fault.TRAP and size and size > limit - limit // 8:
            return FunctionFault(
                Fault.MEMORY,
                f"gave up with {size / trap.MIB:.1f} of its {limit / trap.MIB:g} MiB of memory in use: {error.message}",
            )
        return error


def _define(linker: native.Address, engine: Engine, name: tuple[str, str], given: HostFunction) -> Any:
    """Define one import; the result is the callback, to be kept for as long as what was linked with it."""
    callback = module_callback(engine.alive, given)
    module, field = (part.encode() for part in name)
    kind = function_type(given.params, given.results)
    error = native.linker_define(
        *(linker, module, len(module), field, len(field), kind, callback, None, None)
    )  # the linker copies the names and the type
    native.functype_delete(kind)
    if error:
        raise FunctionFault(Fault.LOAD, trap.error_text(error))
    return callback


def _linked(linker: native.Address, module: native.Address) -> native.Address:
    """The module with its imports resolved."""
    found = ctypes.c_void_p()  # alive until C has written to it
    error = native.linker_instantiate_pre(linker, module, ctypes.addressof(found))
    if error:
        raise FunctionFault(Fault.LOAD, f"cannot be linked: {trap.one_line(trap.error_text(error))}")
    return found.value or 0
