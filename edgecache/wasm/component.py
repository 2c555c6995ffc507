"""A composed component: the developer's `wasi:http/incoming-handler`, our adapter around it, and one way out.

What crosses is strings: `handle(meta, body) -> tuple<string, string>` in, `call(op, argument) -> string` out. They
carry bytes as Latin-1 (a byte is the code point of its number): ASCII costs nothing, and everything else is safe.
`compose` makes such components, `adapter/` says what happens inside.
"""

import ctypes
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import answer, native, trap
from edgecache.wasm.base import Headers, Host, Kind, Limits, Request, Response, pack, unpack
from edgecache.wasm.border import component_callback
from edgecache.wasm.engine import Engine
from edgecache.wasm.store import Store

_HOST = b"edgecache:adapter/host@0.1.0"
_CALL = b"call"
_HANDLE = b"handle"
_DIED = {b"0": "the handler never answered", b"-1": "the handler answered with an error code"}
"""Statuses of the adapter that are none."""


class ComponentProgram:
    """A composed component that was loaded. `code` is what `Engine.compile_component` made.

    Raises FunctionFault (`load`).
    """

    kind = Kind.COMPONENT

    def __init__(self, engine: Engine, code: Path) -> None:
        self.engine = engine
        self.component = engine.load(engine.pool, code, native.component_load)
        self.linker = native.component_linker_new(engine.pool)
        self.handle = native.component_export_index(self.component, None, _HANDLE, len(_HANDLE))
        self._release = weakref.finalize(self, _delete, self.component, self.linker, self.handle)
        self._release.atexit = False
        # C keeps the address of this for as long as the linker lives, which is as long as this object.
        self._callback = component_callback(engine.alive)
        _define(self.linker, self._callback)
        if not self.handle:
            raise FunctionFault(Fault.LOAD, "is no composed component: it does not export handle")
        self.cells: list[_Cell] = []
        """Those that no call uses at the moment."""

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        """Call it in a fresh sandbox. Raises FunctionFault."""
        if not self.component:
            raise FunctionFault(Fault.LOAD, "was closed")
        with _Call(self, request, limits, host) as call:
            meta, body = call.handle(_meta(request), request.body)
            status, headers = _head(meta)
            return Response(status, headers, body, call.finish())

    def close(self) -> None:
        """Give its code back."""
        self.component = 0
        self._release()


class _String(ctypes.Structure):
    """A string of the component model, as an argument. Assigning `data` keeps the bytes referenced."""

    _fields_ = (
        ("kind", ctypes.c_uint64),
        ("size", ctypes.c_size_t),
        ("data", ctypes.c_char_p),
        ("_rest", ctypes.c_uint64),
    )
    kind: int
    size: int
    data: bytes | None


class _Cell:
    """The memory in which C reads and writes for one call, kept from call to call.

    A call has it to itself, and holds it until its store is deleted: every address in it is good for so long.
    """

    __slots__ = ("arguments", "arguments_at", "func_at", "instance_at", "result", "result_at", "words")

    def __init__(self) -> None:
        instance, func = native.COMPONENT_INSTANCE // 8, native.COMPONENT_FUNC // 8
        self.words = (ctypes.c_uint64 * (instance + func))()
        self.instance_at = ctypes.addressof(self.words)
        self.func_at = self.instance_at + 8 * instance
        self.arguments = (_String * 2)(_String(native.STRING), _String(native.STRING))
        self.arguments_at = ctypes.addressof(self.arguments)
        self.result = (ctypes.c_uint64 * (native.COMPONENT_VAL // 8))()
        self.result_at = ctypes.addressof(self.result)


class _Call(Store):
    """A fresh instance of a component, gone at the end of its `with`."""

    __slots__ = ("_cell", "program")
    large = True

    def __init__(self, program: ComponentProgram, request: Request, limits: Limits, host: Host | None) -> None:
        super().__init__(program.engine, program.engine.pool, request, limits, host)
        self.program = program  # keeps code and callback alive while this runs

    def _open(self) -> None:
        program = self.program
        try:
            cell = self._cell = program.cells.pop()
        except IndexError:
            cell = self._cell = _Cell()
        error = native.component_instantiate(program.linker, self.context, program.component, cell.instance_at)
        if error:
            raise self.failed(trap.error_text(error))
        if not native.component_instance_func(cell.instance_at, self.context, program.handle, cell.func_at):
            raise FunctionFault(Fault.LOAD, "is no composed component: handle is no function")

    def _close(self) -> None:
        super()._close()
        for argument in self._cell.arguments:
            argument.data = None
        self.program.cells.append(self._cell)

    def handle(self, meta: bytes, body: bytes) -> tuple[bytes, bytes]:
        """The exported function, bytes in and out."""
        cell = self._cell
        for argument, given in zip(cell.arguments, (meta, body), strict=True):
            text = given if given.isascii() else given.decode("latin-1").encode()
            argument.size, argument.data = len(text), text
        error = native.component_func_call(cell.func_at, self.context, cell.arguments_at, 2, cell.result_at, 1)
        if error:
            raise self.failed(trap.error_text(error))
        try:
            return self._taken(cell.result)
        finally:
            native.component_val_delete(cell.result_at)

    def _taken(self, result: Any) -> tuple[bytes, bytes]:
        """The two strings of a result, which is still C's."""
        kind, size, data, _ = result
        if kind & 0xFF != native.TUPLE or size != 2:
            raise FunctionFault(Fault.LOAD, "is no composed component: handle gives no pair")
        pair = (ctypes.c_uint64 * (2 * native.COMPONENT_VAL // 8)).from_address(data)
        if pair[0] & 0xFF != native.STRING or pair[4] & 0xFF != native.STRING:
            raise FunctionFault(Fault.LOAD, "is no composed component: handle gives no strings")
        # A byte takes at most two of UTF-8; nothing is copied before its size is known to be bearable.
        answer.check_head((pair[1] + 1) // 2)
        answer.check_body((pair[5] + 1) // 2, self.limits)
        meta, body = _bytes(pair[2], pair[1]), _bytes(pair[6], pair[5])
        answer.check_head(len(meta))
        answer.check_body(len(body), self.limits)
        return meta, body


def _bytes(address: int, size: int) -> bytes:
    raw = ctypes.string_at(address, size) if size else b""
    if raw.isascii():
        return raw
    try:
        return raw.decode().encode("latin-1")
    except UnicodeError as error:
        raise FunctionFault(Fault.ANSWER, "answered a string that carries no bytes") from error


def _meta(request: Request) -> bytes:
    now = b"%d" % request.now
    flags = b"r" * request.reads + b"w" * request.writes
    fixed = (request.method, request.target, request.scheme, request.authority)
    return pack(
        *[answer.encoded(each) for each in fixed],
        *(now, now, request.seed.hex().encode(), flags),
        *[answer.encoded(part) for header in request.headers for part in header],
    )


def _head(meta: bytes) -> tuple[int, Headers]:
    try:
        status, *fields = unpack(meta)
    except ValueError as error:
        raise FunctionFault(Fault.ANSWER, f"answered a head that is none: {error}") from error
    if status in _DIED:
        # The adapter may say more than the status does.
        said = fields[1].decode(errors="replace") if len(fields) == 2 else _DIED[status]
        raise FunctionFault(Fault.ANSWER, said)
    return answer.status_of(status), answer.headers_of(_pairs(fields))


def _pairs(fields: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(fields[::2], fields[1::2], strict=False)


def _define(linker: native.Address, callback: Any) -> None:
    """Define the one import there is."""
    found = ctypes.c_void_p()  # alive until C has written to it
    root = native.component_linker_root(linker)
    error = native.component_linker_add_instance(root, _HOST, len(_HOST), ctypes.addressof(found))
    if not error:
        error = native.component_linker_add_func(found, _CALL, len(_CALL), callback, None, None)
        native.component_linker_instance_delete(found)  # borrows from the root: goes first
    native.component_linker_instance_delete(root)  # before anything else touches the linker
    if error:
        raise FunctionFault(Fault.LOAD, trap.error_text(error))


def _delete(component: native.Address, linker: native.Address, handle: native.Address | None) -> None:
    if handle:
        native.component_export_index_delete(handle)
    native.component_linker_delete(linker)
    native.component_delete(component)
