"""A plain JavaScript file as a function: QuickJS as it was after the file was evaluated, woken for one call.

`snapshot` makes the module, and says where in it the prelude's functions are; `quickjs/prelude` is the other side of
what happens here. Promises are driven until the handler has answered; timers do not wait.
"""

from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import answer
from edgecache.wasm.base import Headers, Host, Kind, Limits, Request, Response, pack
from edgecache.wasm.engine import Engine
from edgecache.wasm.interpreter import IMPORTS, Interpreter, Places
from edgecache.wasm.module import Module
from edgecache.wasm.parts import in_parts


class _Ended(IntEnum):
    """How a call ended: the first number of the prelude's state; then whether a timer ran, and what is waited for."""

    PENDING = 0
    TEXT = 1
    BINARY = 2
    THREW = 3
    NO_ANSWER = 4


_TICKED, _WAITING = 4, 8
"""Offsets of the other two numbers."""
_FAULTS = {"InternalError: out of memory": Fault.MEMORY, "RangeError: Maximum call stack": Fault.STACK}
"""Exceptions that are QuickJS' way to say that a limit was hit."""


class ScriptProgram:
    """A loaded script; see `base.Program`. `extra` is what `snapshot.build` gave with the module."""

    kind = Kind.SCRIPT

    def __init__(self, engine: Engine, code: Path, extra: dict[str, Any]) -> None:
        """Raises FunctionFault (`load`)."""
        try:
            self._places = msgspec.convert(extra, Places)
        except msgspec.ValidationError as error:
            raise FunctionFault(Fault.LOAD, f"cannot be loaded: {error}") from error
        self._module = Module(engine, code, IMPORTS, warm=True)

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        """Call the handler in a fresh sandbox. Raises FunctionFault."""
        with self._module.open(request, limits, host) as sandbox:
            js = Interpreter(sandbox, self._places)
            if request.reads or request.writes:
                return in_parts(sandbox, lambda _sandbox, body: _handle(js, body))
            status, headers, body = _handle(js, request.body)
            return Response(status, headers, body, sandbox.finish())

    def close(self) -> None:
        """Give its code back."""
        self._module.close()


def _handle(js: Interpreter, body: bytes) -> tuple[int, Headers, bytes]:
    sandbox, places = js.sandbox, js.places
    value = js.invoke(places.enter, js.text_in(_meta(sandbox.request)), _body_in(js, body))
    ended = sandbox.read_u32(places.state)
    if ended == _Ended.PENDING:
        ended = _driven(js, value)
        value = js.invoke(places.take)
    if sandbox.read_u32(places.state + _WAITING):
        _finish(js)
    if ended == _Ended.TEXT:
        return _parsed(js.text_out(value), sandbox.limits)
    if ended == _Ended.BINARY:
        status, headers, _ = _parsed(js.text_out(value), sandbox.limits)
        content = js.bytes_out(js.invoke(places.take))
        answer.check_body(len(content), sandbox.limits)
        return status, headers, content
    raise _fault(js, ended, js.text_out(value).decode(errors="replace"))


def _meta(request: Request) -> bytes:
    """Method, URL, time in ms, then name and value of each header: one a line."""
    lines = [request.method, f"{request.scheme}://{request.authority}{request.target}", str(request.now // 1_000_000)]
    for header in request.headers:
        lines += header
    text = "\n".join(lines)
    try:
        return text.encode()
    except UnicodeEncodeError:  # bytes that were no text when they came in
        return answer.encoded(text).decode(errors="replace").encode()


def _body_in(js: Interpreter, body: bytes) -> int:
    if not body:
        return js.places.undefined
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return js.bytes_in(body)
    return js.text_in(body)


def _driven(js: Interpreter, value: int) -> int:
    """How it ended, after jobs and timers were run until then. Raises FunctionFault (`answer`) if it never does."""
    sandbox, state = js.sandbox, js.places.state
    if js.failed(value):  # not even the prelude could go on
        raise _fault(js, _Ended.THREW, "\n".join(js.thrown()))
    while not (ended := sandbox.read_u32(state)):
        if not js.run_job() and not _timer(js):
            raise FunctionFault(Fault.ANSWER, "never answered: its promise waits for something that cannot happen")
    return ended


def _finish(js: Interpreter) -> None:
    """Run on until what was given to `waitUntil` is done, or nothing is left to do."""
    while js.sandbox.read_u32(js.places.state + _WAITING) and (js.run_job() or _timer(js)):
        pass


def _timer(js: Interpreter) -> bool:
    js.invoke(js.places.tick)
    return js.sandbox.read_u32(js.places.state + _TICKED) != 0


def _parsed(data: bytes, limits: Limits) -> tuple[int, Headers, bytes]:
    """Lines: the status, how many lines follow, name and value of each header; then the body."""
    try:
        status, count, rest = data.split(b"\n", 2)
        *fields, body = rest.split(b"\n", int(count))
        complete = len(fields) == int(count)
    except ValueError:
        complete = False
    if not complete:
        raise FunctionFault(Fault.ANSWER, "answered with a head that cannot be read: it changed built-in objects")
    answer.check_head(len(data) - len(body))
    answer.check_body(len(body), limits)
    return answer.status_of(status), answer.headers_of(zip(fields[::2], fields[1::2], strict=False)), body


def _fault(js: Interpreter, ended: int, text: str) -> FunctionFault:
    """The fault that `text` describes, logged for the developer too."""
    js.sandbox.host_call("log", pack(b"error", text.encode(errors="replace")))
    if ended == _Ended.NO_ANSWER:
        return FunctionFault(Fault.ANSWER, text)
    if js.full:
        return FunctionFault(Fault.MEMORY, f"ran out of its {js.sandbox.limits.memory:,} bytes of memory: {text}")
    found = next((fault for begins, fault in _FAULTS.items() if text.startswith(begins)), Fault.TRAP)
    return FunctionFault(found, text)
