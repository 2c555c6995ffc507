"""A command of WASI preview 1 as an HTTP handler, by CGI (RFC 3875): any language that has a standard input and output.

The request is in the variables, its body on the standard input; the program writes headers, a blank line and the body,
and ends with 0. Lines on the standard error are logged.

Beside `wasi_snapshot_preview1` it may import two functions of `edgecache`, to reach its host:

    uint32_t call(const char *op, uint32_t op_length, const void *argument, uint32_t length);
    void answer(void *buffer);

`call` asks (operations and framing: `hostcalls`) and returns the length of the answer; `answer` then copies it.
"""

from pathlib import Path

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import cgi, preview1
from edgecache.wasm.answer import check_body, encoded
from edgecache.wasm.base import Host, Kind, Limits, Request, Response, pack
from edgecache.wasm.engine import Engine
from edgecache.wasm.hostcalls import result
from edgecache.wasm.module import Exit, HostFunction, Module, Sandbox

_START = "_start"
_PART = 16 * 1024
"""Bytes of a streamed response that are gathered before they go out, unless the program waits."""
_MOST_LOGGED = 64 * 1024
"""Bytes of the standard error that become log lines."""
_LONGEST_LINE = 4096
_TAIL = 500
"""Bytes of the standard error that an error message repeats."""
_LONGEST_OP = 64


class CommandProgram:
    """A loaded command; see `base.Program`."""

    kind = Kind.COMMAND

    def __init__(self, engine: Engine, code: Path) -> None:
        """Raises FunctionFault (`load`)."""
        self._module = Module(engine, code, _IMPORTS)

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        """Run the program once. Raises FunctionFault."""
        with self._module.open(request, limits, host) as sandbox:
            streams = _Streams(sandbox)
            code = _exit_code(sandbox)
            streams.close()
            if code:
                raise FunctionFault(Fault.TRAP, f"exited with {code}{streams.tail()}")
            head, body = streams.response()
            return Response(head.status, head.headers, body, sandbox.finish())

    def close(self) -> None:
        """Give the code back."""
        self._module.close()


def _exit_code(sandbox: Sandbox) -> int:
    try:
        sandbox.call(_START)
    except Exit as end:
        return end.code
    return 0


class _Streams:
    """The standard streams of one call; they make the process of the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        request = sandbox.request
        self._sandbox = sandbox
        self._input = request.body
        self._at = 0
        self._more = request.reads
        self._output = bytearray()
        self._written = 0
        """Bytes of standard output in all."""
        self._head: cgi.Head | None = None
        """Sent already, where the response is streamed."""
        self._errors = bytearray()
        self._logged = 0
        self._last = b""
        sandbox.state = preview1.Process(
            sandbox,
            arguments=[b"function"],
            variables=cgi.variables(request),
            read=self._read,
            write=self._write,
            flush=self._flush,
        )

    def _read(self, most: int) -> bytes:
        while self._at == len(self._input) and self._more:
            self._flush()
            parts = result(self._sandbox.host_call("body.read", b""))
            self._more = bool(parts)
            self._input, self._at = b"".join(parts), 0
        data = self._input[self._at : self._at + most]
        self._at += len(data)
        return data

    def _write(self, descriptor: int, data: bytes) -> None:
        if descriptor == 2:
            self._log(data)
            return
        self._written += len(data)
        check_body(self._written, self._sandbox.limits)
        self._output += data
        if len(self._output) >= _PART:
            self._flush()

    def _flush(self) -> None:
        """Send what was written so far, where the response is streamed."""
        if not self._sandbox.request.writes or not self._output:
            return
        if self._head is None:
            found = cgi.split(self._output)
            if found is None:
                return
            self._head, rest = found
            self._output = bytearray(rest)
            fields = [encoded(text) for header in self._head.headers for text in header]
            result(self._sandbox.host_call("body.head", pack(b"%d" % self._head.status, *fields)))
        if self._output:
            part, self._output = bytes(self._output), bytearray()
            result(self._sandbox.host_call("body.write", pack(part)))

    def _log(self, data: bytes) -> None:
        self._last = (self._last + data[-_TAIL:])[-_TAIL:]
        if self._logged > _MOST_LOGGED:
            return
        self._errors += data[: _MOST_LOGGED + 1 - self._logged]
        self._logged += len(data)
        *lines, rest = bytes(self._errors).split(b"\n")
        if len(rest) >= _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._errors = bytearray(rest)
        if self._logged > _MOST_LOGGED:
            self._errors.clear()
            lines.append(b"(more than %d bytes of log: the rest is left out)" % _MOST_LOGGED)
        for line in lines:
            self._say(line)

    def _say(self, line: bytes) -> None:
        text = line[:_LONGEST_LINE].decode(errors="replace").strip()
        if text:
            self._sandbox.host_call("log", pack(b"info", text.encode()))

    def close(self) -> None:
        """What the program left unfinished is logged and sent."""
        self._say(bytes(self._errors))
        self._flush()

    def response(self) -> tuple[cgi.Head, bytes]:
        """What the program answered; the body is empty if it was streamed. Raises FunctionFault (`answer`)."""
        return (self._head, b"") if self._head else cgi.parse(self._output)

    def tail(self) -> str:
        """The end of the standard error, for a message."""
        text = self._last.decode(errors="replace").strip()
        return f": {text}" if text else ""


def _call(sandbox: Sandbox, op: int, op_length: int, argument: int, length: int) -> int:
    if op_length > _LONGEST_OP:
        raise FunctionFault(Fault.ANSWER, f"called the host with an operation of {op_length} bytes")
    name = sandbox.read(op, op_length).decode("latin-1")
    answer = sandbox.host_call(name, sandbox.read(argument, length))
    preview1.process(sandbox).answer = answer
    return len(answer)


def _answer(sandbox: Sandbox, buffer: int) -> None:
    sandbox.write(buffer, preview1.process(sandbox).answer)


_IMPORTS = {
    **preview1.IMPORTS,
    ("edgecache", "call"): HostFunction("iiii", "i", _call),
    ("edgecache", "answer"): HostFunction("i", "", _answer),
}
