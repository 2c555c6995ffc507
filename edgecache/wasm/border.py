"""Host functions as C sees them: the border that no exception may cross.

An exception has no way through compiled code. It is caught here, whatever it is, kept in the store, and a trap ends
the sandbox; the caller of the sandbox raises it again (`Store.failed`), so that it arrives where it would have.
"""

import struct
from collections.abc import Callable, Mapping
from ctypes import c_uint8, c_uint64, string_at
from typing import TYPE_CHECKING, Any, NamedTuple

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import native

if TYPE_CHECKING:
    from edgecache.wasm.store import Store

_DEEPEST = 8
"""Host functions in progress in one sandbox, each called by what the one before it called."""
_STRINGS = struct.Struct("<B7xQQ8xB7xQQ8x")
"""Two strings of the component model: kind, length and address of each."""


class HostFunction(NamedTuple):
    """What a core module may import: types of parameters and results (`i` = i32, `I` = i64), and what it does.

    `function` gets the sandbox and unsigned numbers, and returns one if there is a result.
    """

    params: str
    results: str
    function: Callable[..., int | None]


def module_callback(alive: Mapping[int, Any], given: HostFunction) -> Any:
    """`given` for C. Whoever gives its address to C keeps the result for as long as C may call it."""
    function, size = given.function, native.RAW * len(given.params)
    unpack = struct.Struct("<" + "".join({"i": "I12x", "I": "Q8x"}[kind] for kind in given.params)).unpack

    def enter(_env: int, caller: int, values: int, _count: int) -> int | None:
        store: Store = alive[native.context_get_data(native.caller_context(caller))]
        store.depth += 1
        try:
            _check_depth(store)
            result = function(store, *unpack(string_at(values, size)))
            if result is not None:
                c_uint64.from_address(values).value = result  # C owns the values, and waits for us
        except BaseException as error:  # noqa: BLE001 - the border
            store.error = error
            return native.trap_new(b"host", 4)  # type: ignore[no-any-return] # C takes it
        finally:
            store.depth -= 1
        return None

    return native.ModuleCallback(enter)


def component_callback(alive: Mapping[int, Any]) -> Any:
    """The adapter's `call: func(op: string, arg: string) -> string` for C; kept by whoever gives it to C.

    Bytes are carried as Latin-1: each is the code point of its number.
    """

    def enter(_env: int, context: int, _type: int, arguments: int, count: int, results: int, out: int) -> int | None:
        store: Store = alive[native.context_get_data(context)]
        store.depth += 1
        try:
            op, argument = _strings(arguments, count, out)
            answer = store.host_call(op.decode(), _bytes(argument))
            text = answer if answer.isascii() else answer.decode("latin-1").encode()
            native.byte_vec_new(results + 8, len(text), text)  # a copy, which C takes
            c_uint8.from_address(results).value = native.STRING  # last: only now is there something to give back
        except BaseException as error:  # noqa: BLE001 - the border
            store.error = error
            return native.error_new(b"host")  # type: ignore[no-any-return] # C takes it
        finally:
            store.depth -= 1
        return None

    return native.ComponentCallback(enter)


def epoch_callback(alive: Mapping[int, Any]) -> Any:
    """For C, when the epoch of a sandbox is over: it goes on as long as `Store.late` says."""

    def enter(context: int, _data: int, epochs: int, _kind: int) -> int | None:
        store: Store = alive[native.context_get_data(context)]
        try:
            c_uint64.from_address(epochs).value = store.late()  # how to go on is 0 already: at once
        except BaseException as error:  # noqa: BLE001 - the border
            store.error = error
            return native.error_new(b"late")  # type: ignore[no-any-return] # C takes it
        return None

    return native.EpochCallback(enter)


def _check_depth(store: "Store") -> None:
    if store.depth > _DEEPEST:
        raise FunctionFault(Fault.STACK, f"{store.depth} host functions nested, more than the {_DEEPEST} that may be")


def _strings(arguments: int, count: int, out: int) -> tuple[bytes, bytes]:
    """Two strings that C holds; what a component imports by the name of our host need not be our host."""
    if (count, out) == (2, 1):
        first, size, at, second, more, after = _STRINGS.unpack(string_at(arguments, _STRINGS.size))
        if first == second == native.STRING:
            return string_at(at, size), string_at(after, more)
    raise FunctionFault(Fault.LOAD, "is no composed component: it imports another `call`")


def _bytes(text: bytes) -> bytes:
    if text.isascii():
        return text
    try:
        return text.decode().encode("latin-1")
    except UnicodeEncodeError as error:
        raise FunctionFault(Fault.TRAP, "called its host with a string that carries no bytes") from error
