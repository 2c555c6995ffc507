r"""The fast lane: a core module with `memory`, `alloc` and `handle`, for hooks where microseconds count.

`alloc(n: i32) -> i32` gives room for the request; `handle(pointer: i32, length: i32) -> i64` answers with pointer << 32
| length, or 0 for 204 (unchanged). Both ways a message is its head in lines, a blank line and the body:

    POST /v1/chat/completions\n          200\n
    x-edgecache-phase: hit\n             content-type: application/json\n
    \n                                   \n
    {...                                  {...

It may import `edgecache.call(op, op_length, argument, argument_length) -> i64`: the host's answer as pointer << 32 |
length, in room from its own `alloc`. Nothing else.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import answer
from edgecache.wasm.base import Headers, Host, Kind, Limits, Request, Response
from edgecache.wasm.engine import Engine
from edgecache.wasm.exports import Export
from edgecache.wasm.module import HostFunction, Module, Sandbox
from edgecache.wasm.parts import in_parts

_EXPORTS = (Export(b"memory", True), Export(b"alloc", False, "i", "i"), Export(b"handle", False, "ii", "I"))
_LOW = 0xFFFFFFFF


class CoreProgram:
    """A core module that was loaded. `code` is what `Engine.compile_module` made; raises FunctionFault (`load`)."""

    kind = Kind.CORE

    def __init__(self, engine: Engine, code: Path) -> None:
        self._module = Module(engine, code, {("edgecache", "call"): HostFunction("iiii", "I", _call)})
        lacks = [each.name.decode() for each in _EXPORTS if self._module.exports.get(each.name.decode()) != each]
        if lacks:
            raise FunctionFault(Fault.LOAD, f"does not export {' and '.join(lacks)} (with the types of the fast lane)")

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        """Call it in a fresh sandbox. Raises FunctionFault."""
        with self._module.open(request, limits, host) as sandbox:
            if request.reads or request.writes:
                return in_parts(sandbox, _handle)
            status, headers, body = _handle(sandbox, request.body)
            return Response(status, headers, body, sandbox.finish())

    def close(self) -> None:
        """Give its code back."""
        self._module.close()


def _handle(sandbox: Sandbox, body: bytes) -> tuple[int, Headers, bytes]:
    message = _message(sandbox.request, body)
    size = len(message)
    pointer = sandbox.call("alloc", size)
    sandbox.write(pointer, message)
    found = sandbox.call("handle", pointer, size)
    if not found:
        return 204, (), b""
    length = found & _LOW
    answer.check_message(length, sandbox.limits)  # before anything is copied
    return _parsed(sandbox.read(found >> 32, length), sandbox.limits)


def _message(request: Request, body: bytes) -> bytes:
    head = "".join([f"{name}: {value}\n" for name, value in request.headers])
    return answer.encoded(f"{request.method} {request.target}\n{head}\n") + body


def _parsed(message: bytes, limits: Limits) -> tuple[int, Headers, bytes]:
    end = message.find(b"\n\n", 0, answer.HEAD + 2)
    if end < 0:
        raise FunctionFault(Fault.ANSWER, "answered without a blank line after the head")
    answer.check_body(len(message) - end - 2, limits)
    return *_head(message[:end]), message[end + 2 :]


@lru_cache(maxsize=256)
def _head(head: bytes) -> tuple[int, Headers]:
    """Status and fields. Remembered: a function has few heads, and reading one costs a quarter of a call."""
    status, *lines = head.split(b"\n")
    return answer.status_of(status), answer.headers_of(_fields(lines))


def _fields(lines: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for line in lines:
        name, _, value = line.partition(b":")
        yield name, value


def _call(sandbox: Sandbox, op: int, op_length: int, argument: int, length: int) -> int:
    """The import: everything that a module asks of its host."""
    if op_length > 64:
        raise FunctionFault(Fault.TRAP, f"called an operation with a name of {op_length} bytes")
    name = sandbox.read(op, op_length).decode(errors="replace")
    result = sandbox.host_call(name, sandbox.read(argument, length))
    pointer = sandbox.call("alloc", len(result))
    sandbox.write(pointer, result)
    return pointer << 32 | len(result)
