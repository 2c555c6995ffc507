"""From a JavaScript file to a core module: QuickJS evaluates it once, and its memory becomes the module's data.

Runs where uploads are compiled. The clock stands at 1970 and the randomness is fixed meanwhile, so the same file gives
the same bytes; what the file's top level may do is bounded by how often QuickJS asks whether to go on.
"""

import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from edgecache.errors import FunctionFault, FunctionRefused
from edgecache.wasm.base import Limits, Request
from edgecache.wasm.binary import Reader, leb, section, sections, sleb, vec
from edgecache.wasm.engine import Engine
from edgecache.wasm.hostcalls import Code, answered, refused
from edgecache.wasm.interpreter import FOLDER, IMPORTS, NATIVES, WINDOW, Interpreter, Places
from edgecache.wasm.module import Module, Sandbox

PRELUDE: Final = ("text", "url", "http", "host", "entry")
"""Files of `quickjs/prelude`, in this order."""
FILE: Final = "function.js"
"""What messages call the developer's file."""
_HANDLERS = "export default { fetch(request) { return new Response(...) } }"
_PATIENCE = 10_000
"""Times that the top level may be asked whether to go on: some s."""
_STACK = 256 * 1024
"""Bytes of stack that scripts may use; RangeError beyond, where the engine's own limit would be a trap."""
_ROOM = 512 * 1024
"""Bytes of memory that are ready before it has to grow, which takes a system call."""
_PAGE = 4096
_CHUNK = 1024 * 1024
_LIMITS = Limits(cpu=60.0, wall=60.0, memory=64 * 1024 * 1024)
_REQUEST = Request("GET", "/", (), b"", now=0, seed=bytes(32))
_MODULE, _STRIP_SOURCE, _STRIP_DEBUG = 1, 16, 32
"""Flags of QuickJS."""
_FULFILLED, _REJECTED = 1, 2
_DATA, _DATA_COUNT, _MEMORY, _CUSTOM = 11, 12, 5, 0
"""Sections of a module."""
_NO_MODULE = "could not load module"
"""What QuickJS says of every import."""
_AT = re.compile(rf"{re.escape(FILE)}:(\d+):(\d+)")


class _Host:
    """Answers while the top level runs: nothing but the log is there."""

    def call(self, op: str, argument: bytes) -> bytes:  # noqa: ARG002 - the protocol has it
        """An answer, or a refusal."""
        if op == "log":
            return answered()
        return refused(Code.DENIED, f"{op} can be called by the handler only, not while {FILE} is loaded")


class _Program(NamedTuple):
    """A compiled file."""

    bytecode: bytes
    module: bool


def build(engine: Engine, source: str) -> tuple[bytes, dict[str, Any]]:
    """The core module that answers as `source` says, and what `ScriptProgram` needs to call it.

    Raises FunctionRefused (`script`) with what is wrong, and where.
    """
    wasm = (FOLDER / "quickjs.wasm").read_bytes()
    with _loaded(engine, wasm) as quickjs:
        try:
            with quickjs.open(_REQUEST, _LIMITS, _Host()) as sandbox:
                js = _started(sandbox)
                prelude = _compiled(js, _prelude(), "edgecache", _STRIP_SOURCE | _STRIP_DEBUG)
                program = _program(js, source.removeprefix("\ufeff"))
            with quickjs.open(_REQUEST, _LIMITS, _Host()) as sandbox:
                places = _evaluated(_started(sandbox), prelude, program)
                image = _image(sandbox)
        except FunctionFault as fault:
            raise FunctionRefused(f"{FILE}: its top level {fault.message}", code="script") from fault
    return _with_image(wasm, image), msgspec.to_builtins(places)


def _prelude() -> str:
    parts = [(FOLDER / "prelude" / f"{name}.js").read_text() for name in PRELUDE]
    return '(function (native) {\n"use strict";\n' + "\n".join(parts) + "\n})"


@contextmanager
def _loaded(engine: Engine, wasm: bytes) -> Iterator[Module]:
    """QuickJS as it comes; its machine code is in memory only where the system can do that."""
    code = engine.compile_module(wasm)
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("quickjs")
        file = Path(f"/proc/self/fd/{descriptor}")
    else:  # pragma: no cover - not on Linux
        descriptor, name = tempfile.mkstemp(suffix=".cwasm")
        file = Path(name)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as opened:
            opened.write(code)
        module = Module(engine, file, IMPORTS)
        try:
            yield module
        finally:
            module.close()
    finally:
        os.close(descriptor)
        if not hasattr(os, "memfd_create"):  # pragma: no cover - not on Linux
            file.unlink()


def _started(sandbox: Sandbox) -> Interpreter:
    js = Interpreter(sandbox, Places(0, 0, 0), patience=_PATIENCE)
    sandbox.call("_initialize")
    if sandbox.call("qjs_init"):
        raise FunctionRefused("QuickJS did not start", code="script")
    sandbox.call("qjs_set_max_stack_size", _STACK)
    window = js.place(bytes(WINDOW))
    js.places = Places(js.place(bytes(32)), window, sandbox.call("qjs_get_undefined"))
    return js


def _compiled(js: Interpreter, source: str, name: str, strip: int, kind: int = 0) -> bytes:
    """Bytecode; raises FunctionRefused if `source` is not JavaScript."""
    code, file, length = js.place(source.encode() + b"\0"), js.place(name.encode() + b"\0"), js.place(bytes(4))
    address = js.sandbox.call("qjs_compile", code, len(source.encode()), file, kind, strip, length)
    if address == 0:
        raise _error(*js.thrown())
    return js.sandbox.read(address, js.sandbox.read_u32(length))


def _program(js: Interpreter, source: str) -> _Program:
    """`source` as a script, or else as a module. Of the two errors, the one further down is what was meant."""
    try:
        return _Program(_compiled(js, source, FILE, _STRIP_SOURCE), module=False)
    except FunctionRefused as as_script:
        try:
            return _Program(_compiled(js, source, FILE, _STRIP_SOURCE, _MODULE), module=True)
        except FunctionRefused as as_module:
            raise max(as_module, as_script, key=_place) from None


def _place(error: FunctionRefused) -> tuple[float, int]:
    if _NO_MODULE in error.message:  # it was understood to its end
        return math.inf, 0
    found = _AT.search(error.message)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _error(text: str, stack: str) -> FunctionRefused:
    found = _AT.search(stack)
    if _NO_MODULE in text:
        text = f"{text}: one file is uploaded, with all that it imports bundled into it (for example by esbuild)"
    return FunctionRefused(f"{FILE}:{found[1]}:{found[2]}: {text}" if found else f"{FILE}: {text}", code="script")


def _evaluated(js: Interpreter, prelude: bytes, program: _Program) -> Places:
    """Run the top level, and find the handler. Raises FunctionRefused."""
    sandbox = js.sandbox
    native = sandbox.call("qjs_new_object")
    for name in NATIVES:
        address = js.place(name.encode() + b"\0")
        function = sandbox.call("qjs_new_host_function", address, len(name), 0)
        sandbox.call("qjs_set_prop_string", native, address, function)
    entries = js.invoke(_run(js, prelude), native)
    if js.failed(entries):
        raise _error(*js.thrown())
    while js.run_job():  # it warms up
        pass
    sandbox.call("qjs_set_interrupt_handler", 1)
    exported = _run(js, program.bytecode)
    exported = _settled(js, exported) if program.module else js.places.undefined
    found = js.invoke(js.member(entries, "setup"), exported)
    if js.failed(found):
        raise _error(*js.thrown())
    if not sandbox.call("qjs_get_bool", found):
        raise FunctionRefused(
            f"{FILE} has no handler: write `{_HANDLERS}`, or export a function fetch, handleRequest or onRequest,"
            " or call addEventListener('fetch', ...)",
            code="script",
        )
    sandbox.call("qjs_set_interrupt_handler", 0)
    state = sandbox.call("qjs_get_array_buffer", js.member(entries, "state"), js.places.scratch)
    functions = {name: js.member(entries, name) for name in ("enter", "take", "tick")}
    places = msgspec.structs.replace(js.places, state=state, **functions)
    sandbox.call("qjs_run_gc")
    sandbox.call("wasm_free", sandbox.call("wasm_malloc", _ROOM))
    sandbox.write(places.window, bytes(WINDOW))
    return places


def _run(js: Interpreter, bytecode: bytes) -> int:
    address = js.place(bytecode)
    value = js.sandbox.call("qjs_eval_bytecode", address, len(bytecode))
    js.sandbox.write(address, bytes(len(bytecode)))  # leaves no trace in the image
    js.sandbox.call("wasm_free", address)
    if js.failed(value):
        raise _error(*js.thrown())
    return value


def _settled(js: Interpreter, promise: int) -> int:
    """What a module exports, after its top level has come to its end."""
    while js.run_job():
        pass
    state = js.sandbox.call("qjs_promise_state", promise)
    if state == _FULFILLED:
        return js.sandbox.call("qjs_promise_result", promise)
    if state == _REJECTED:
        raise _error(*js.described(js.sandbox.call("qjs_promise_result", promise)))
    raise FunctionRefused(f"{FILE}: its top level waits for a promise that is never kept", code="script")


def _image(sandbox: Sandbox) -> bytes:
    size = sandbox.memory_size
    return b"".join(sandbox.read(at, min(_CHUNK, size - at)) for at in range(0, size, _CHUNK))


def _with_image(wasm: bytes, image: bytes) -> bytes:
    """The module `wasm` with `image` as what its memory begins with; only pages that are not empty are written down."""
    parts = [wasm[:8]]
    segments = [_segment(start, image[start:end]) for start, end in _filled(image)]
    for number, start, end in sections(wasm):
        content = wasm[start:end]
        if number == _MEMORY:
            content = _memory(Reader(wasm, start, end), len(image) // 65536)
        elif number == _DATA:
            content = vec(segments)
        elif number == _DATA_COUNT:
            content = leb(len(segments))
        if number != _CUSTOM:
            parts.append(section(number, content))
    return b"".join(parts)


def _memory(reader: Reader, pages: int) -> bytes:
    """The one memory, at least `pages` large."""
    reader.u32()
    bounded = reader.byte() & 1
    reader.u32()
    return b"\x01" + (b"\x01" + leb(pages) + leb(reader.u32()) if bounded else b"\x00" + leb(pages))


def _filled(image: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each run of pages that are not all zero."""
    empty, begun = bytes(_PAGE), None
    for at in range(0, len(image) + _PAGE, _PAGE):
        page = image[at : at + _PAGE]
        if page and page != empty:
            begun = at if begun is None else begun
        elif begun is not None:
            yield begun, at
            begun = None


def _segment(start: int, data: bytes) -> bytes:
    """An active data segment: where it goes, and what."""
    return b"\x00\x41" + sleb(start) + b"\x0b" + leb(len(data)) + data
