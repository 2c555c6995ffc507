"""WASI preview 1: all of it is there, and nothing of it reaches out."""

import struct

import pytest

from edgecache.errors import FunctionFault
from edgecache.wasm import preview1
from edgecache.wasm.base import Limits
from edgecache.wasm.module import Exit, Module
from tests.wasm.conftest import request

TYPES = {"i": "i32", "I": "i64"}
SUCCESS, BADF, INVAL, NOSYS, NOTSUP, SPIPE, NOTCAPABLE = 0, 8, 28, 52, 58, 70, 76


def every_function() -> str:
    """A module that imports all of WASI and exports each function again, as it is."""
    lines = []
    for (module, name), given in preview1.IMPORTS.items():
        params = " ".join(TYPES[each] for each in given.params)
        results = f"(result {TYPES[given.results]})" if given.results else ""
        lines.append(f'(import "{module}" "{name}" (func ${name} (param {params}) {results}))')
    exports = []
    for (_, name), given in preview1.IMPORTS.items():
        params = " ".join(TYPES[each] for each in given.params)
        results = f"(result {TYPES[given.results]})" if given.results else ""
        arguments = " ".join(f"(local.get {index})" for index in range(len(given.params)))
        exports.append(f'(func (export "{name}") (param {params}) {results} (call ${name} {arguments}))')
    return f'(module {" ".join(lines)} (memory (export "memory") 2) {" ".join(exports)})'


@pytest.fixture
def sandbox(engine, compiled):
    module = Module(engine, compiled(every_function()), preview1.IMPORTS)
    with module.open(request(), Limits(cpu=1.0), None) as opened:
        yield opened
    module.close()


@pytest.fixture
def streams(sandbox):
    """A process with an input, and what it put out."""
    left, out = bytearray(b"some input"), []

    def read(most):
        taken = bytes(left[:most])
        del left[:most]
        return taken

    sandbox.state = preview1.Process(
        sandbox,
        arguments=[b"function", b"-v"],
        variables=[b"A=1", b"B=\xff"],
        read=read,
        write=lambda descriptor, data: out.append((descriptor, data)),
        flush=lambda: out.append("flush"),
    )
    return out


def vectors(sandbox, at, *parts):
    """Parts of a buffer, as (address, length), written at `at`."""
    sandbox.write(at, b"".join(struct.pack("<II", *part) for part in parts))
    return at, len(parts)


def test_all_46_functions_of_the_specification_are_there():
    assert len(preview1.NAMES) == 46
    assert {"fd_write", "path_open", "poll_oneoff", "proc_exit", "sock_accept"} <= preview1.NAMES


@pytest.mark.parametrize("name", sorted(preview1.NAMES - {"proc_exit"}))
@pytest.mark.parametrize("value", [0, 1, 3, 0xFFFF_FFFF])
def test_no_arguments_of_any_function_do_more_than_an_error_or_a_trap(sandbox, name, value):
    given = preview1.IMPORTS[preview1.MODULE, name]
    try:
        assert 0 <= sandbox.call(name, *[value] * len(given.params)) < 77
    except FunctionFault as fault:
        assert "not in its memory" in fault.message  # noqa: PT017 - most calls return


@pytest.mark.parametrize("name", sorted(name for name in preview1.NAMES if name.startswith("path_")))
def test_there_are_no_files(sandbox, name):
    given = preview1.IMPORTS[preview1.MODULE, name]
    assert sandbox.call(name, *[3] * len(given.params)) == BADF
    assert sandbox.call(name, *[0] * len(given.params)) == NOTCAPABLE


def test_there_are_no_folders_sockets_or_signals(sandbox):
    assert [sandbox.call("fd_prestat_get", each, 0) for each in range(5)] == [BADF] * 5
    assert sandbox.call("sock_accept", 3, 0, 0) == NOTSUP
    assert sandbox.call("proc_raise", 9) == NOSYS


def test_arguments_and_variables_are_laid_out_as_c_wants_them(sandbox, streams):
    assert sandbox.call("args_sizes_get", 0, 4) == SUCCESS
    assert struct.unpack("<II", sandbox.read(0, 8)) == (2, 12)
    assert sandbox.call("args_get", 0, 100) == SUCCESS
    assert struct.unpack("<II", sandbox.read(0, 8)) == (100, 109)
    assert sandbox.read(100, 12) == b"function\0-v\0"
    assert sandbox.call("environ_sizes_get", 0, 4) == SUCCESS
    assert struct.unpack("<II", sandbox.read(0, 8)) == (2, 8)
    assert sandbox.call("environ_get", 0, 100) == SUCCESS
    assert sandbox.read(100, 8) == b"A=1\0B=\xff\0"


def test_clocks_stand_still_but_for_each_look(sandbox):
    def look(clock):
        assert sandbox.call("clock_time_get", clock, 0, 0) == SUCCESS
        return struct.unpack("<Q", sandbox.read(0, 8))[0]

    assert look(0) - request().now == 1000
    assert look(0) - request().now == 2000
    assert [look(1), look(2), look(3)] == [3000, 4000, 5000]
    assert sandbox.call("clock_time_get", 4, 0, 0) == INVAL
    assert sandbox.call("clock_res_get", 0, 0) == SUCCESS
    assert look(1) == 6000


def subscription(user, kind, clock=0, time=0, flags=0):
    return struct.pack("<QB7xI4xQQH6x", user, kind, clock, time, 0, flags)


def test_a_sleep_is_over_at_once_and_moves_the_clock(sandbox, streams):
    sandbox.write(0, subscription(7, 0, clock=1, time=2_000_000_000))
    assert sandbox.call("poll_oneoff", 0, 100, 1, 200) == SUCCESS
    assert sandbox.read_u32(200) == 1
    assert struct.unpack("<QHB", sandbox.read(100, 11)) == (7, 0, 0)
    assert sandbox.state.elapsed == 2_000_000_000
    assert streams == ["flush"]


def test_a_sleep_until_then_ends_then(sandbox):
    sandbox.write(0, subscription(1, 0, clock=0, time=request().now + 5_000_000, flags=1))
    assert sandbox.call("poll_oneoff", 0, 100, 1, 200) == SUCCESS
    assert sandbox.state.elapsed == 5_000_000


def test_waiting_for_a_stream_does_not_take_the_time_of_its_timeout(sandbox):
    sandbox.write(0, subscription(1, 0, time=10**15) + subscription(2, 1))
    assert sandbox.call("poll_oneoff", 0, 200, 2, 400) == SUCCESS
    assert sandbox.read_u32(400) == 2
    assert sandbox.state.elapsed < 10**6
    assert sandbox.call("poll_oneoff", 0, 200, 0, 400) == INVAL
    assert sandbox.call("poll_oneoff", 0, 200, 1 << 20, 400) == INVAL


def test_input_is_read_into_all_parts(sandbox, streams):
    at, count = vectors(sandbox, 0, (100, 4), (200, 0), (300, 100))
    assert sandbox.call("fd_read", 0, at, count, 50) == SUCCESS
    assert sandbox.read_u32(50) == 10
    assert (sandbox.read(100, 4), sandbox.read(300, 6)) == (b"some", b" input")
    assert sandbox.call("fd_read", 0, at, count, 50) == SUCCESS
    assert sandbox.read_u32(50) == 0
    assert sandbox.call("fd_read", 1, at, count, 50) == BADF


def test_output_is_gathered_from_all_parts(sandbox, streams):
    sandbox.write(100, b"hello world")
    at, count = vectors(sandbox, 0, (100, 6), (106, 5))
    assert sandbox.call("fd_write", 1, at, count, 50) == SUCCESS
    assert sandbox.call("fd_write", 2, at, 1, 60) == SUCCESS
    assert streams == [(1, b"hello "), (1, b"world"), (2, b"hello ")]
    assert (sandbox.read_u32(50), sandbox.read_u32(60)) == (11, 6)
    assert sandbox.call("fd_write", 0, at, count, 50) == BADF
    assert sandbox.call("fd_write", 1, at, 5000, 50) == INVAL


def test_closed_streams_are_gone(sandbox, streams):
    assert sandbox.call("fd_close", 1) == SUCCESS
    assert sandbox.call("fd_close", 1) == BADF
    assert sandbox.call("fd_write", 1, 0, 0, 50) == BADF
    assert sandbox.call("fd_fdstat_get", 1, 0) == BADF
    assert sandbox.call("fd_close", 7) == BADF


def test_streams_say_what_they_are(sandbox, streams):
    assert sandbox.call("fd_fdstat_get", 1, 0) == SUCCESS
    kind, _, rights = struct.unpack_from("<BxHxxxxQ", sandbox.read(0, 24))
    assert (kind, rights >> 6 & 1, rights >> 1 & 1) == (0, 1, 0)
    assert sandbox.call("fd_filestat_get", 0, 0) == SUCCESS
    assert sandbox.call("fd_seek", 1, 0, 0, 0) == SPIPE
    assert sandbox.call("fd_sync", 1) == SUCCESS
    assert streams == ["flush"]


def test_randomness_is_keyed_by_the_request_and_never_repeats(sandbox, engine, compiled):
    def draw(opened, length=32):
        assert opened.call("random_get", 0, length) == SUCCESS
        return opened.read(0, length)

    first, second = draw(sandbox), draw(sandbox)
    assert first != second
    module = Module(engine, compiled(every_function()), preview1.IMPORTS)
    with module.open(request(), Limits(), None) as again:
        assert (draw(again), draw(again)) == (first, second)
    module.close()
    assert sandbox.call("random_get", 0, 1 << 21) == INVAL


def test_the_program_may_end_itself(sandbox):
    with pytest.raises(Exit) as ended:
        sandbox.call("proc_exit", 3)
    assert ended.value.code == 3
