"""The fast lane, and what a hostile module of it can try."""

import concurrent.futures
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache.clock import SystemClock
from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Kind, Limits, pack, unpack
from edgecache.wasm.core import CoreProgram
from edgecache.wasm.hostcalls import answered
from tests.wasm.conftest import LIMITS, Scripted, core, request

ECHO = "(call $answer (local.get 0) (local.get 1))"
HEADERS = (("x-user", "Ada"), ("content-type", "text/plain"))
CALL = '(import "edgecache" "call" (func $call (param i32 i32 i32 i32) (result i64)))'


@pytest.fixture
def load(engine, compiled):
    """Loads a program whose `handle` is given in text form."""

    def load(handle, **more) -> CoreProgram:
        return CoreProgram(engine, compiled(core(handle, **more)))

    return load


def constant(answer: bytes) -> dict[str, str]:
    """A program that answers so."""
    text = "".join(f"\\{byte:02x}" for byte in answer)
    return {
        "handle": f"(call $answer (i32.const 8192) (i32.const {len(answer)}))",
        "before": f'(data (i32.const 8192) "{text}")',
    }


def fault_of(program: CoreProgram, limits: Limits = LIMITS, host=None, body: bytes = b"body") -> FunctionFault:
    with pytest.raises(FunctionFault) as fault:
        program.run(request(body), limits, host)
    return fault.value


def test_the_request_arrives_as_lines_and_body(load) -> None:
    """A guest that answers with what it got after a head."""
    handle = """
      (i32.store (i32.const 512) (i32.const 0x0a303032)) (i32.store8 (i32.const 516) (i32.const 10))
      (memory.copy (i32.const 517) (local.get 0) (local.get 1))
      (call $answer (i32.const 512) (i32.add (local.get 1) (i32.const 5)))"""
    program = load(handle)
    assert program.kind == Kind.CORE
    found = program.run(request(b"\0\xff{}", HEADERS), LIMITS)
    assert found.status == 200
    assert found.body == b"POST /v1/chat/completions\nx-user: Ada\ncontent-type: text/plain\n\n\0\xff{}"
    assert found.usage.memory == 65536
    assert found.usage.host_calls == 0


def test_the_answer_is_head_and_body(load) -> None:
    found = load(**constant(b"201\nContent-Type: text/html\nx-a:b\n\nbody\n\nmore")).run(request(), LIMITS)
    assert (found.status, found.headers) == (201, (("content-type", "text/html"), ("x-a", "b")))
    assert found.body == b"body\n\nmore"


def test_nothing_is_unchanged(load) -> None:
    found = load("(i64.const 0)").run(request(b"x"), LIMITS)
    assert (found.status, found.headers, found.body) == (204, (), b"")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"200", "without a blank line"),
        (b"\n\n", "the status ''"),
        (b"hello\n\n", "the status 'hello'"),
        (b"200 OK\n\n", "the status '200 OK'"),
        (b"200\nno colon\n\n", "a header with the name 'no colon'"),
        (b"200\nx: a\rb\n\n", "a header x with the value"),
        (b"200\r\nx: a\r\n\r\n", "without a blank line"),
    ],
)
def test_an_answer_that_is_none(load, answer, words) -> None:
    found = fault_of(load(**constant(answer)))
    assert found.fault == Fault.ANSWER
    assert words in found.message


def test_a_head_without_end(load) -> None:
    found = fault_of(load("(call $answer (i32.const 0) (i32.const 131072))", memory="2"))
    assert found.fault == Fault.ANSWER


@pytest.mark.parametrize(
    ("size", "fault"),
    [(2**31, Fault.SIZE), (2**32 - 1, Fault.SIZE), (5 * 2**20, Fault.SIZE), (70_000, Fault.ANSWER)],
)
def test_a_huge_answer_is_not_even_copied(load, size, fault) -> None:
    """2 GB announced; and lengths that are below the limit, but not in its memory."""
    found = fault_of(load(f"(call $answer (i32.const 0) (i32.const {size}))"), Limits(response=2**20))
    assert found.fault == fault


def test_an_answer_above_the_limit_says_by_how_much(load) -> None:
    program = load(**constant(b"200\n\n" + b"x" * 1000))
    assert len(program.run(request(), Limits(response=1000)).body) == 1000
    found = fault_of(program, Limits(response=990))
    assert found.message == "answered 1000 bytes, 10 more than the 990 that it may answer"


@pytest.mark.parametrize("pointer", [65536, 2**32 - 1, 65530])
def test_an_answer_outside_of_its_memory(load, pointer) -> None:
    found = fault_of(load(f"(call $answer (i32.const {pointer}) (i32.const 100))"))
    assert found.fault == Fault.ANSWER
    assert "not in its memory of 65536 bytes" in found.message


@pytest.mark.parametrize("pointer", [65536, 2**32 - 1])
def test_room_outside_of_its_memory(load, pointer) -> None:
    assert fault_of(load(ECHO, alloc=f"(return (i32.const {pointer}))")).fault == Fault.ANSWER


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    value=st.one_of(
        st.integers(0, 2**64 - 1), st.builds(lambda p, n: p << 32 | n, st.integers(0, 70_000), st.integers(0, 9))
    )
)
def test_whatever_number_comes_back_nothing_but_a_fault_comes_of_it(adversary, value) -> None:
    """The guest returns the last 8 bytes of the body as pointer and length."""
    body = struct.pack("<Q", value)
    try:
        found = adversary.run(request(body), Limits(response=4096))
    except FunctionFault as fault:
        assert fault.fault in (Fault.ANSWER, Fault.SIZE)  # noqa: PT017 - it need not be raised
    else:
        assert found.status == 204 or found.body


@pytest.fixture
def adversary(load) -> CoreProgram:
    return load("(i64.load (i32.add (local.get 0) (i32.sub (local.get 1) (i32.const 8))))")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(values=st.tuples(*[st.one_of(st.integers(0, 100), st.integers(65_500, 65_600), st.integers(0, 2**32 - 1))] * 4))
def test_whatever_a_guest_hands_to_its_host_stays_in_its_memory(caller, values) -> None:
    host = Scripted()
    try:
        caller.run(request(struct.pack("<4I", *values)), LIMITS, host)
    except FunctionFault as fault:
        assert fault.fault in (Fault.TRAP, Fault.ANSWER)  # noqa: PT017 - it need not be raised
    for _, argument in host.asked:
        assert len(argument) == values[3] <= 65536


@pytest.fixture
def caller(load) -> CoreProgram:
    at = "(i32.load (i32.add (local.get 0) (i32.sub (local.get 1) (i32.const {}))))"
    arguments = " ".join(at.format(back) for back in (16, 12, 8, 4))
    return load(f"(drop (call $call {arguments})) (i64.const 0)", before=CALL)


@pytest.mark.parametrize(
    ("export", "missing"),
    [
        ('(func (export "handle") (param i32 i32) (result i64) (i64.const 0))', "memory and alloc"),
        ('(memory (export "memory") 1)', "alloc and handle"),
        ("", "memory and alloc and handle"),
        (
            '(memory (export "memory") 1) (func (export "alloc") (param f32)) (func (export "handle") (param v128))',
            "alloc and handle",
        ),
        (
            '(func (export "memory")) (memory (export "alloc") 1) (global (export "handle") i32 (i32.const 1))',
            "memory and alloc and handle",
        ),
        (
            """(memory (export "memory") 1) (func (export "alloc") (param i32) (result i64) (i64.const 0))
            (func (export "handle") (param i32 i64) (result i64) (i64.const 0))""",
            "alloc and handle",
        ),
    ],
)
def test_what_a_module_has_to_export(engine, compiled, export, missing) -> None:
    with pytest.raises(FunctionFault, match=f"does not export {missing} \\(") as fault:
        CoreProgram(engine, compiled(f"(module {export})"))
    assert fault.value.fault == Fault.LOAD


@pytest.mark.parametrize(
    "name", ['(import "env" "x" (func))', '(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))']
)
def test_no_other_import_is_served(load, name) -> None:
    with pytest.raises(FunctionFault, match="cannot be linked: unknown import"):
        load("(i64.const 0)", before=name)


def asks(op: str, argument: str) -> dict[str, str]:
    """A program that makes one host call, and answers with the answer as the body."""
    return {
        "before": f"""{CALL} (data (i32.const 64) "{op}") (data (i32.const 128) "{argument}")
          (data (i32.const 512) "200\\0a\\0a")""",
        "handle": f"""(local $got i64)
          (local.set $got (call $call (i32.const 64) (i32.const {len(op)}) (i32.const 128) (i32.const {len(argument)})))
          (memory.copy (i32.const 517) (i32.wrap_i64 (i64.shr_u (local.get $got) (i64.const 32)))
            (i32.wrap_i64 (local.get $got)))
          (call $answer (i32.const 512) (i32.add (i32.const 5) (i32.wrap_i64 (local.get $got))))""",
    }


def test_a_host_call(load) -> None:
    host = Scripted(lambda _op, _argument: b"=\0\xff")
    found = load(**asks("kv.get", "abc")).run(request(), LIMITS, host)
    assert host.asked == [("kv.get", b"abc")]
    assert found.body[-3:] == b"=\0\xff"
    assert found.usage.host_calls == 1


def test_without_a_host_it_is_refused(load) -> None:
    assert (
        load(**asks("fetch", ""))
        .run(request(), LIMITS)
        .body.endswith(b"!denied\nfetch is not granted to this function")
    )


def test_a_fault_of_the_host_ends_the_call_as_it_is(load) -> None:
    spent = FunctionFault(Fault.BUDGET, "more than its 100 host calls")

    def refuse(_op, _argument) -> bytes:
        raise spent

    assert fault_of(load(**asks("log", "x")), host=Scripted(refuse)) is spent


def test_a_long_name_of_an_operation(load) -> None:
    found = fault_of(load(**asks("x" * 65, "")))
    assert (found.fault, found.message) == (Fault.TRAP, "called an operation with a name of 65 bytes")


LOOP = "(loop (br 0))"


@pytest.mark.parametrize(
    "where",
    [
        {"handle": f"{LOOP} (i64.const 0)"},
        {"handle": "(i64.const 0)", "start": LOOP},
        {"handle": "(i64.const 0)", "alloc": LOOP},
        {
            "handle": """(loop (drop (call $call (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0))) (br 0))
              (i64.const 0)""",
            "before": CALL,
            "alloc": "(return (i32.const 8))",
        },
        {
            "handle": "(call $call (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0))",
            "before": CALL + "(global $n (mut i32) (i32.const 0))",
            "alloc": """(global.set $n (i32.add (global.get $n) (i32.const 1)))
              (if (i32.gt_u (global.get $n) (i32.const 1)) (then (loop (br 0))))""",
        },
    ],
    ids=["handle", "start", "alloc", "host calls", "alloc for the answer of a host call"],
)
def test_an_endless_loop_ends_in_time_wherever_it_is(load, where) -> None:
    program = load(**where)
    # Between host calls CPU time is counted, in one go the epochs follow the clock.
    now = time.thread_time if "$call" in where["handle"] else SystemClock().monotonic
    late = []
    for _ in range(5):
        begun = now()
        assert fault_of(program, Limits(cpu=0.01, wall=2.0)).fault == Fault.CPU
        late.append(now() - begun - 0.01)
    assert min(late) < 0.05  # how late exactly is for bench/micro to say: other processes may hold the machine


def test_a_loop_is_stopped_by_its_wall_time_where_that_is_less(load) -> None:
    assert fault_of(load(f"{LOOP} (i64.const 0)"), Limits(cpu=5.0, wall=0.01)).fault == Fault.WALL


@pytest.mark.parametrize(
    ("handle", "fault"),
    [
        ("unreachable", Fault.TRAP),
        ("(i64.load (i32.const -8))", Fault.TRAP),
        ("(i64.div_s (i64.const 1) (i64.const 0))", Fault.TRAP),
        ("(call $alloc (i32.const 1)) (drop) (call $deep)", Fault.STACK),
    ],
)
def test_traps(load, handle, fault) -> None:
    program = load(
        handle, before="(func $deep (result i64) (i64.add (call $deep) (i64.const 1)))" if "deep" in handle else ""
    )
    assert fault_of(program).fault == fault


def test_a_request_that_does_not_fit_into_its_memory(load) -> None:
    found = fault_of(load(ECHO), body=b"x" * 100_000)
    assert found.fault == Fault.ANSWER


def test_the_same_request_gives_the_same_answer_and_nothing_is_kept(load) -> None:
    """A counter in memory and a stain all over it: both are gone at the next call."""
    handle = """
      (i32.store8 (i32.const 520) (i32.add (i32.load8_u (i32.const 520)) (i32.const 65)))
      (memory.fill (i32.const 30000) (i32.const 88) (i32.const 30000))
      (i32.store (i32.const 512) (i32.const 0x0a303032)) (i32.store8 (i32.const 516) (i32.const 10))
      (memory.copy (i32.const 517) (i32.const 20000) (i32.const 3))
      (call $answer (i32.const 512) (i32.const 9))"""
    program = load(handle)
    assert {program.run(request(), LIMITS).body for _ in range(50)} == {b"\0\0\0A"}


@pytest.mark.slow
def test_many_threads_share_a_program(load) -> None:
    program = load(**asks("kv.get", "x"))

    def one(number: int) -> None:
        said = b"%d" % number

        def answer(_op, _argument) -> bytes:
            if number % 7 == 0:
                raise FunctionFault(Fault.BUDGET, str(number))
            return said

        try:
            assert program.run(request(), Limits(cpu=5.0, wall=60.0), Scripted(answer)).body == said
        except FunctionFault as fault:
            assert number % 7 == 0
            assert fault.message == str(number)  # noqa: PT017 - nothing raised is fine as well

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(1600)))


def test_a_body_in_parts_is_handled_in_one_sandbox(load) -> None:
    """The guest counts its calls: the sandbox stays for the request."""
    handle = """(global.set $n (i32.add (global.get $n) (i32.const 1)))
      (i32.store (i32.const 512) (i32.const 0x0a303032)) (i32.store8 (i32.const 516) (i32.const 10))
      (i32.store8 (i32.const 517) (i32.add (i32.const 48) (global.get $n)))
      (call $answer (i32.const 512) (i32.const 6))"""
    parts = iter([answered(b"one"), answered(b"two"), answered()])
    host = Scripted(lambda op, _argument: next(parts) if op == "body.read" else answered())
    program = load(handle, before="(global $n (mut i32) (i32.const 0))")
    found = program.run(request(reads=True, writes=True), LIMITS, host)
    assert (found.status, found.body) == (200, b"")
    told = [(op, unpack(argument)) for op, argument in host.asked if op != "body.read"]
    assert told == [("body.head", [b"200"]), ("body.write", [b"1"]), ("body.write", [b"2"])]
    assert host.asked[0] == ("body.read", pack())


def test_close_gives_the_code_back(load) -> None:
    program = load("(i64.const 0)")
    program.run(request(), LIMITS)
    program.close()
    program.close()
    with pytest.raises(FunctionFault, match="was closed"):
        program.run(request(), LIMITS)


@pytest.mark.slow
def test_the_guest_in_c(engine, tmp_path) -> None:
    """The benchmark's guest, built as its first lines say."""
    pytest.importorskip("ziglang")
    source, wasm = Path(__file__).parent / "guests" / "redact.c", tmp_path / "redact.wasm"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-O2", "-nostdlib"]
    command += ["-mbulk-memory", "-Wl,--no-entry", "-Wl,-z,stack-size=8192", "-s", "-o", str(wasm), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    (tmp_path / "code").write_bytes(engine.compile_module(wasm.read_bytes()))
    program = CoreProgram(engine, tmp_path / "code")
    found = program.run(request(b"Hi {{name}}: a.b@c.de, 0044791112345 or 12345.", HEADERS), LIMITS)
    assert found.body == b"Hi Ada: [email], [number] or 12345."
    assert found.usage.memory == 65536
    large = program.run(request(b"12345678901 " * 50_000, HEADERS), LIMITS)
    assert large.body == b"[number] " * 50_000
