"""Which fault the words of wasmtime are."""

import ctypes

import pytest

from edgecache.errors import Fault
from edgecache.wasm import native, trap
from edgecache.wasm.base import Limits

LIMITS = Limits(cpu=0.05, wall=1.0)
TRACE = """error while executing at wasm backtrace:
    0:     0x32 - guest.wasm!inner
    1:     0x36 - <unknown>!outer name

Caused by:
    """


@pytest.mark.parametrize(
    ("cause", "fault", "words"),
    [
        (
            "wasm trap: wasm `unreachable` instruction executed",
            Fault.TRAP,
            "`unreachable` instruction executed (in inner",
        ),
        ("wasm trap: call stack exhausted", Fault.STACK, "call stack exhausted"),
        ("memory minimum size of 60000 pages exceeds memory limits", Fault.MEMORY, "60000 pages"),
        ("table minimum size of 1 elements exceeds table limits", Fault.MEMORY, "table"),
        ("resource limit exceeded: instance count too high at 101", Fault.MEMORY, "instance count"),
        ("maximum concurrent limit of 4 for core instances reached", Fault.POOL, "limit of 4"),
        (
            "0: memory fault at wasm address 0xfffffffc\n    1: wasm trap: out of bounds memory access",
            Fault.TRAP,
            "0xff",
        ),
    ],
)
def test_a_cause_is_a_fault(cause, fault, words) -> None:
    found = trap.fault(TRACE + cause)
    assert found.fault == fault
    assert words in found.message


def test_the_innermost_functions_are_named() -> None:
    found = trap.fault(TRACE + "wasm trap: integer divide by zero")
    assert found.message == "integer divide by zero (in inner < outer name)"


@pytest.mark.parametrize(
    ("wall", "fault", "message"),
    [
        (True, Fault.WALL, "took more than its 1000 ms in all, host calls included"),
        (False, Fault.CPU, "took more than its 50 ms in the sandbox"),
    ],
)
def test_too_long_is_told_with_the_limit(wall, fault, message) -> None:
    found = trap.overtime(LIMITS, wall=wall)
    assert (found.fault, found.message) == (fault, message)


def test_a_function_that_is_called_like_a_cause_is_none() -> None:
    text = TRACE.replace("inner", "wasm trap: interrupt") + "wasm trap: integer divide by zero"
    assert trap.fault(text).fault == Fault.TRAP


def test_text_without_a_trace_is_the_cause() -> None:
    found = trap.fault("component imports `x`\n\nCaused by:\n    implementation is missing")
    assert (found.fault, found.message) == (Fault.LOAD, "component imports `x`: implementation is missing")


def test_errors_and_traps_are_read_and_given_back() -> None:
    assert trap.error_text(native.error_new(b"something went wrong")) == "something went wrong"
    assert trap.trap_text(native.trap_new(b"out", 3)) == "out"
    vector = native.ByteVec()
    assert ctypes.sizeof(vector) == 16


def test_one_line_of_many() -> None:
    assert trap.one_line("invalid\n\nCaused by:\n    0: a\n    1: b\n") == "invalid: a: b"
    assert len(trap.one_line("x" * 5000)) == 1000
