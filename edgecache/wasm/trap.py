"""What went wrong in wasmtime, in the words of our error tree. Owns the texts of wasmtime 50, and nothing else.

Errors and traps that C hands over are given back here, exactly once, whatever becomes of their text.
"""

import ctypes
import re

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import native
from edgecache.wasm.base import Limits

MIB = 1024 * 1024
STACK = MIB
"""Bytes of stack that nested calls may take."""
_EXHAUSTED = "call stack exhausted"
_CAUSES = (
    (f"wasm trap: {_EXHAUSTED}", Fault.STACK),
    ("wasm trap: allocation size too large", Fault.MEMORY),
    ("exceeds memory limits", Fault.MEMORY),
    ("exceeds table limits", Fault.MEMORY),
    ("resource limit exceeded", Fault.MEMORY),
    ("maximum concurrent", Fault.POOL),
    ("implementation is missing", Fault.LOAD),
    ("not found in the linker", Fault.LOAD),
    ("fuel allocated for hostcalls", Fault.SIZE),
)
"""What the last cause of an error holds, and which fault it is; all else is a trap."""
_RUNNING = "error while executing"
"""How errors in a function's own code begin; others are told whole."""
_NUMBER = re.compile(r"^ *\d+: ", re.MULTILINE)
_FRAME = re.compile(r"^ +\d+: +(?:0x[0-9a-f]+ - )?[^!\n]*!([^\n]{1,100})", re.MULTILINE)


def error_text(error: native.Address) -> str:
    """What a `wasmtime_error_t` says; it is given back."""
    return _taken(error, native.error_message, native.error_delete)


def trap_text(trap: native.Address) -> str:
    """What a `wasm_trap_t` says; it is given back."""
    return _taken(trap, native.trap_message, native.trap_delete).rstrip("\0")


def _taken(thing: native.Address, message: native.Function, delete: native.Function) -> str:
    vector = native.ByteVec()
    at = ctypes.addressof(vector)  # `vector` is a local: alive until this returns
    message(thing, at)
    text = ctypes.string_at(vector.data or 0, vector.size) if vector.size else b""
    native.byte_vec_delete(at)
    delete(thing)
    return text.decode(errors="replace")


def fault(text: str) -> FunctionFault:
    """The fault that `text` of wasmtime describes.

    A function's own names come before the last `Caused by:`, so they cannot pass for a cause.
    """
    trace, _, causes = text.rpartition("\nCaused by:\n")
    cause = one_line(causes if trace.startswith(_RUNNING) else text)
    found = next((each for words, each in _CAUSES if words in cause), Fault.TRAP)
    where = _FRAME.findall(trace)[:3]
    said = cause.replace("wasm trap: ", "")
    if found is Fault.STACK:
        said = said.replace(_EXHAUSTED, f"{_EXHAUSTED}: calls nested so deep take more than their {STACK / MIB:g} MiB")
    return FunctionFault(found, said + (f" (in {' < '.join(where)})" if where else ""))


def overtime(limits: Limits, *, wall: bool) -> FunctionFault:
    """The fault of a call that took longer than it may."""
    if wall:
        return FunctionFault(Fault.WALL, f"took more than its {limits.wall * 1000:g} ms in all, host calls included")
    return FunctionFault(Fault.CPU, f"took more than its {limits.cpu * 1000:g} ms in the sandbox")


def one_line(text: str) -> str:
    """An error of wasmtime with its causes, in one line of bearable length."""
    lines = _NUMBER.sub("", text.replace("Caused by:", "")).splitlines()
    return ": ".join(line.strip() for line in lines if line.strip())[:1000]
