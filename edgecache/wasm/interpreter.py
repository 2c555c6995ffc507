"""QuickJS in a sandbox: values in and out through its exports, and the functions that it finds on our side.

Knows JavaScript values by their handles: addresses that are valid in one sandbox and never given back, since all ends
with the call. What a function's handler is, and how it is called, is `script`'s part.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import preview1
from edgecache.wasm.answer import check_message
from edgecache.wasm.hostcalls import HostRefused, result
from edgecache.wasm.module import HostFunction, Sandbox

FOLDER: Final = Path(__file__).parent / "quickjs"
WINDOW: Final = 64 * 1024
"""Bytes of the place where values are put on their way in."""
_ARGUMENTS, _LENGTH = 0, 16
"""What is where in the 32 bytes of `Places.scratch`: arguments of a call, and the length of a result."""
_MOST_RANDOM = 65536
_STEPS = 10_000
"""Loops and calls between two times that QuickJS asks whether to go on, roughly."""
_WASI = ("clock_time_get", "fd_close", "fd_fdstat_get", "fd_seek", "fd_write", "random_get")


class Places(msgspec.Struct, frozen=True):
    """Where things are in the memory of a script: addresses, and handles of JavaScript values."""

    scratch: int
    """Address of 32 bytes."""
    window: int
    """Address of `WINDOW` bytes."""
    undefined: int
    state: int = 0
    """Address of the three numbers that the prelude sets: see `script`."""
    enter: int = 0
    take: int = 0
    tick: int = 0
    """Functions of the prelude."""


class Interpreter(preview1.Process):
    """QuickJS in `sandbox`, whose process it is. Whatever runs in it may raise FunctionFault.

    `patience`: how often it may ask whether to go on, which it does about every `_STEPS` loops and calls; only where
    `qjs_set_interrupt_handler` was called, for machines without a ticker.
    """

    def __init__(self, sandbox: Sandbox, places: Places, *, patience: int = 0) -> None:
        super().__init__(sandbox)
        self.sandbox = sandbox
        self.places = places
        self.steps = patience * _STEPS
        self.patience = patience
        sandbox.state = self

    def text_in(self, data: bytes) -> int:
        """A string; `data` is valid UTF-8."""
        return self._made("qjs_new_string", data)

    def bytes_in(self, data: bytes) -> int:
        """An ArrayBuffer."""
        return self._made("qjs_new_array_buffer", data)

    def _made(self, export: str, data: bytes) -> int:
        size = len(data)
        if size <= WINDOW:
            address = self.places.window
            self.sandbox.write(address, data)
            return self.sandbox.call(export, address, size)
        address = self.place(data)
        handle = self.sandbox.call(export, address, size)
        self.sandbox.call("wasm_free", address)
        return handle

    def place(self, data: bytes) -> int:
        """The address of a copy of `data`; raises FunctionFault (`memory`) when there is no room."""
        address = self.sandbox.call("wasm_malloc", len(data) or 1)
        if address == 0:
            raise FunctionFault(Fault.MEMORY, f"has no room for the {len(data)} bytes that it is called with")
        self.sandbox.write(address, data)
        return address

    def invoke(self, function: int, *arguments: int) -> int:
        """What `function` returns; at most four arguments."""
        sandbox, places = self.sandbox, self.places
        for index, argument in enumerate(arguments):
            sandbox.write_u32(places.scratch + _ARGUMENTS + 4 * index, argument)
        return sandbox.call("qjs_call", function, places.undefined, len(arguments), places.scratch + _ARGUMENTS)

    def text_out(self, handle: int) -> bytes:
        """The UTF-8 of a value as a string; raises FunctionFault (`size`) if it is larger than a response may be."""
        address = self.sandbox.call("qjs_get_string_len", handle, self.places.scratch + _LENGTH)
        if address == 0:
            raise FunctionFault(Fault.MEMORY, "has no memory left for its answer")
        return self._read(address)

    def bytes_out(self, handle: int) -> bytes:
        """The content of an ArrayBuffer; raises FunctionFault (`size`) if it is larger than a response may be."""
        self.sandbox.write_u32(self.places.scratch + _LENGTH, 0)
        return self._read(self.sandbox.call("qjs_get_array_buffer", handle, self.places.scratch + _LENGTH))

    def _read(self, address: int) -> bytes:
        length = self.sandbox.read_u32(self.places.scratch + _LENGTH)
        check_message(length, self.sandbox.limits)  # before anything is copied
        return self.sandbox.read(address, length)

    def value_out(self, handle: int) -> bytes:
        """The bytes of a string or an ArrayBuffer."""
        return self.text_out(handle) if self.sandbox.call("qjs_is_string", handle) else self.bytes_out(handle)

    def member(self, handle: int, name: str) -> int:
        """The property `name` of an object."""
        address = self.places.window
        self.sandbox.write(address, name.encode() + b"\0")
        return self.sandbox.call("qjs_get_prop_string", handle, address)

    @property
    def full(self) -> bool:
        """True if it has nearly all the memory that it may have: there may be none left for an error of its own."""
        most = self.sandbox.limits.memory
        return self.sandbox.memory_size > most - most // 8

    def failed(self, handle: int) -> bool:
        """True if `handle` stands for an exception that was thrown."""
        return handle == 0 or self.sandbox.call("qjs_is_exception", handle) != 0

    def thrown(self) -> tuple[str, str]:
        """What was thrown last, as text, and where."""
        return self.described(self.sandbox.call("qjs_get_exception"))

    def described(self, error: int) -> tuple[str, str]:
        """A thrown value as text, and its stack."""
        if self.full:
            return "InternalError: out of memory", ""
        stack = self.text_out(self.member(error, "stack")) if self.sandbox.call("qjs_is_error", error) else b""
        return self.text_out(error).decode(errors="replace"), stack.decode(errors="replace")

    def run_job(self) -> bool:
        """Run the next job of a promise; False if there is none."""
        return self.sandbox.call("qjs_execute_pending_job") != 0


# -- The functions that the prelude gets. Their arguments are strings and ArrayBuffers, never anything else.


def _call(js: Interpreter, form: int, op: int, *fields: int) -> int:
    name = js.text_out(op).decode()
    packed = b"".join([b"%d:%b," % (len(field), field) for field in map(js.value_out, fields)])
    answer = js.sandbox.host_call(name, packed)
    if js.text_out(form) == b"bytes" and answer[:1] == b"=":
        return js.bytes_in(answer)
    return js.text_in(answer if answer.isascii() else _as_text(answer))


def _as_text(answer: bytes) -> bytes:
    """An answer whose fields are text: framed by their lengths in JavaScript's units (UTF-16)."""
    try:
        fields = [field.decode(errors="replace") for field in result(answer)]
    except HostRefused:
        return answer.decode(errors="replace").encode()
    return b"=" + b"".join([b"%d:%b," % (len(field.encode("utf-16-le")) // 2, field.encode()) for field in fields])


def _encode(js: Interpreter, text: int) -> int:
    return js.bytes_in(js.text_out(text))


def _decode(js: Interpreter, data: int, mode: int) -> int:
    raw = js.bytes_out(data)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return js.places.undefined if js.text_out(mode) else js.text_in(raw.decode(errors="replace").encode())
    return js.text_in(raw)


def _random(js: Interpreter, length: int) -> int:
    return js.bytes_in(js.draw(min(int(js.text_out(length)), _MOST_RANDOM)))


NATIVES: Final[dict[str, tuple[int, Callable[..., int]]]] = {
    "call": (2, _call),
    "encode": (1, _encode),
    "decode": (2, _decode),
    "random": (1, _random),
}
"""Name, fewest arguments, and what it does."""
_BY_NAME = {name.encode(): native for name, native in NATIVES.items()}


def _host_call(sandbox: Sandbox, name: int, length: int, _this: int, count: int, arguments: int) -> int:
    fewest, native = _BY_NAME[sandbox.read(name, min(length, 16))]
    if not fewest <= count <= 1024:
        raise FunctionFault(Fault.ANSWER, f"called the host with {count} values")
    handles = [sandbox.read_u32(arguments + 4 * index) for index in range(count)]
    return native(sandbox.state, *handles)


def _interrupt(sandbox: Sandbox) -> int:
    js: Interpreter = sandbox.state
    js.patience -= 1
    if js.patience < 0:
        raise FunctionFault(Fault.CPU, f"took more than about {js.steps:,} loops and calls")
    return 0


def _none(_sandbox: Sandbox, *_: int) -> int:
    return 0


def _nothing(_sandbox: Sandbox, *_: int) -> None:
    return None


IMPORTS: Final = {
    ("env", "host_call"): HostFunction("iiiii", "i", _host_call),
    ("env", "host_interrupt"): HostFunction("", "i", _interrupt),
    ("env", "host_get_timezone_offset"): HostFunction("ii", "i", _none),  # UTC
    ("env", "host_promise_rejection"): HostFunction("iii", "", _nothing),
    ("env", "host_module_normalize"): HostFunction("ii", "i", _none),
    ("env", "host_module_load"): HostFunction("ii", "i", _none),
    **{(preview1.MODULE, name): preview1.IMPORTS[preview1.MODULE, name] for name in _WASI},
}
"""All that quickjs.wasm asks for."""
