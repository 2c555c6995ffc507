"""Composed components, and what a hostile one can try. The fixture stands in for what `compose` makes."""

import concurrent.futures
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache.clock import SystemClock
from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Kind, Limits, pack, unpack
from edgecache.wasm.component import ComponentProgram
from tests.wasm.conftest import LIMITS, Scripted, component, request

ECHO = "(call $give (i32.const 256) (i32.const 6) (local.get 2) (local.get 3))"
META = "(call $give (i32.const 256) (i32.const 6) (local.get 0) (local.get 1))"
OK = '(data (i32.const 256) "3:200,")'


@pytest.fixture
def load(engine, compiled):
    """Loads a component whose `handle` is given in text form."""

    def load(handle, **more) -> ComponentProgram:
        return ComponentProgram(engine, compiled(component(handle, **more)))

    return load


@pytest.fixture
def echo(load) -> ComponentProgram:
    return load(ECHO, before=OK)


def meta(text: str) -> dict[str, str]:
    """A component with this head and no body."""
    quoted = "".join(f"\\{byte:02x}" for byte in text.encode())
    return {
        "handle": f"(call $give (i32.const 256) (i32.const {len(text.encode())}) (i32.const 0) (i32.const 0))",
        "before": f'(data (i32.const 256) "{quoted}")',
    }


def fault_of(program: ComponentProgram, limits: Limits = LIMITS, host=None, body: bytes = b"") -> FunctionFault:
    with pytest.raises(FunctionFault) as fault:
        program.run(request(body), limits, host)
    return fault.value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(body=st.binary(max_size=5000))
def test_any_bytes_go_in_and_come_out(echo, body) -> None:
    assert echo.run(request(body), LIMITS).body == body


def test_a_large_body(echo) -> None:
    body = bytes(range(256)) * 4096
    found = echo.run(request(body), LIMITS)
    assert found.body == body
    assert echo.kind == Kind.COMPONENT


def test_the_head_that_goes_in(load) -> None:
    made = request(b"", (("x-user", "Ää"), ("x-b", "")), scheme="https", authority="a.example", reads=True)
    program = load(META, before=OK)
    now = b"1700000000000000000"
    assert unpack(program.run(made, LIMITS).body) == [
        *(b"POST", b"/v1/chat/completions", b"https", b"a.example", now, now, b"00" * 32, b"r"),
        *(b"x-user", "Ää".encode(), b"x-b", b""),
    ]
    both = program.run(request(writes=True, reads=True), LIMITS)
    assert unpack(both.body)[7] == b"rw"


def test_the_head_that_comes_out(load) -> None:
    found = load(**meta("3:404,6:X-User,3: a ,1:b,0:,")).run(request(), LIMITS)
    assert (found.status, found.headers, found.body) == (404, (("x-user", "a"), ("b", "")), b"")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("1:0,", "the handler never answered"),
        ("2:-1,", "the handler answered with an error code"),
        ("2:-1,5:error,4:why!,", "why!"),
        ("3:100,", "the status '100'"),
        ("", "a head that is none"),
        ("200", "a head that is none"),
        ("3:200,1:a,3:b\r\n,", "a header a with the value"),
        ("3:200,3:a b,0:,", "a header with the name 'a b'"),
        ("3:200,1:€,0:,", "a string that carries no bytes"),
    ],
)
def test_a_head_that_is_none(load, head, words) -> None:
    found = fault_of(load(**meta(head)))
    assert found.fault == Fault.ANSWER
    assert words in found.message


def test_a_header_without_value_is_left_out(load) -> None:
    assert load(**meta("3:200,1:a,")).run(request(), LIMITS).headers == ()


def test_a_huge_head(load) -> None:
    handle = (
        "(drop (memory.grow (i32.const 2))) (call $give (i32.const 1000) (i32.const 65537) (i32.const 0) (i32.const 0))"
    )
    found = fault_of(load(handle))
    assert (found.fault, found.message) == (Fault.SIZE, "answered a head of 65537 bytes, 1 more than it may have")


def test_a_body_above_the_limit(echo) -> None:
    assert echo.run(request(b"x" * 1000), Limits(response=1000)).status == 200
    found = fault_of(echo, Limits(response=999), body=b"x" * 1000)
    assert (found.fault, found.message) == (Fault.SIZE, "answered 1000 bytes, 1 more than the 999 that it may answer")
    assert fault_of(echo, Limits(response=999), body=b"\xff" * 1000).fault == Fault.SIZE


@pytest.mark.parametrize("size", [2**31, 2**32 - 1, 70_000])
def test_strings_that_are_not_in_its_memory(load, size) -> None:
    """2 GB announced: refused before anything is copied."""
    found = fault_of(load(f"(call $give (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {size}))"))
    assert found.fault == Fault.TRAP


def test_a_string_that_is_no_text(load) -> None:
    handle = """(i32.store8 (i32.const 300) (i32.const 255))
      (call $give (i32.const 256) (i32.const 6) (i32.const 300) (i32.const 1))"""
    assert fault_of(load(handle, before=OK)).fault == Fault.TRAP


@pytest.mark.parametrize("pointer", [65536, 65530, 17, 2**32 - 4])
def test_a_result_that_is_not_in_its_memory_or_not_aligned(load, pointer) -> None:
    assert fault_of(load(f"(i32.const {pointer})")).fault == Fault.TRAP


CALLS = """(call $call (i32.const 400) (i32.const 6) (local.get 2) (local.get 3) (i32.const 512))
  (call $give (i32.const 256) (i32.const 6) (i32.load (i32.const 512)) (i32.load (i32.const 516)))"""
KV = OK + '(data (i32.const 400) "kv.get")'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(argument=st.binary(max_size=500), answer=st.binary(max_size=500))
def test_a_host_call_carries_any_bytes_both_ways(asking, argument, answer) -> None:
    host = Scripted(lambda _op, _argument: answer)
    found = asking.run(request(argument), LIMITS, host)
    assert host.asked == [("kv.get", argument)]
    assert found.body == answer
    assert found.usage.host_calls == 1


@pytest.fixture
def asking(load) -> ComponentProgram:
    return load(CALLS, before=KV)


def test_without_a_host_it_is_refused(asking) -> None:
    assert asking.run(request(), LIMITS).body == b"!denied\nkv.get is not granted to this function"


@pytest.mark.parametrize("error", [FunctionFault(Fault.BUDGET, "spent"), ValueError("x"), KeyboardInterrupt()])
def test_an_exception_of_the_host_arrives_as_it_is(asking, error) -> None:
    def fails(_op, _argument) -> bytes:
        raise error

    with pytest.raises(type(error)) as raised:
        asking.run(request(), LIMITS, Scripted(fails))
    assert raised.value is error


def test_an_argument_that_carries_no_bytes(load) -> None:
    """A code point above U+00FF, which the adapter never makes."""
    euro = CALLS.replace("(local.get 2) (local.get 3)", "(i32.const 600) (i32.const 3)")
    found = fault_of(load(euro, before=KV + '(data (i32.const 600) "\\e2\\82\\ac")'))
    assert found.fault == Fault.TRAP


LOOP = "(loop (br 0))"


@pytest.mark.parametrize(
    "where",
    [
        {"handle": f"{LOOP} (i32.const 0)"},
        {"handle": "(i32.const 0)", "start": LOOP},
        {
            "handle": """(loop (call $call (i32.const 400) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 512))
              (br 0)) (i32.const 0)""",
            "before": KV,
        },
    ],
    ids=["handle", "start", "host calls"],
)
def test_an_endless_loop_ends_in_time(load, where) -> None:
    program = load(**where)
    # Between host calls CPU time is counted, in one go the epochs follow the clock.
    now = time.thread_time if "$call" in where["handle"] else SystemClock().monotonic
    late = []
    for _ in range(5):
        begun = now()
        found = fault_of(program, Limits(cpu=0.01, wall=2.0), Scripted())
        assert found.fault == Fault.CPU
        assert found.message == "took more than its 10 ms in the sandbox"
        late.append(now() - begun - 0.01)
    assert min(late) < 0.05  # how late exactly is for bench/micro to say: other processes may hold the machine


@pytest.mark.parametrize(
    ("handle", "fault"),
    [
        ("unreachable", Fault.TRAP),
        ("(i32.load (i32.const -4))", Fault.TRAP),
        ("(i32.div_s (i32.const 1) (i32.const 0))", Fault.TRAP),
        ("(call $deep)", Fault.STACK),
    ],
)
def test_traps(load, handle, fault) -> None:
    program = load(handle, before="(func $deep (result i32) (i32.add (call $deep) (i32.const 1)))")
    for _ in range(20):
        assert fault_of(program).fault == fault


def test_memory_ends_at_its_limit(load, echo) -> None:
    assert fault_of(echo, Limits(memory=1000)).fault == Fault.MEMORY
    flood = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"
    assert fault_of(load(flood), Limits(memory=2**20)).fault == Fault.TRAP


def test_every_call_is_fresh(load) -> None:
    handle = """(i32.store8 (i32.const 300) (i32.add (i32.load8_u (i32.const 300)) (i32.const 65)))
      (memory.fill (i32.const 9000) (i32.const 88) (i32.const 30000))
      (call $give (i32.const 256) (i32.const 6) (i32.const 300) (i32.const 2))"""
    program = load(handle, before=OK)
    assert {program.run(request(), LIMITS).body for _ in range(50)} == {b"A\0"}


def test_the_bytes_of_a_request_are_not_kept(echo) -> None:
    echo.run(request(b"secret" * 100), LIMITS)
    (cell,) = echo.cells
    assert [argument.data for argument in cell.arguments] == [None, None]


@pytest.mark.slow
def test_many_threads_share_a_program(asking) -> None:
    def one(number: int) -> None:
        said = b"\xff%d" % number

        def answer(_op, argument) -> bytes:
            assert argument == said
            if number % 7 == 0:
                raise FunctionFault(Fault.BUDGET, str(number))
            return said

        try:
            assert asking.run(request(said), Limits(cpu=5.0, wall=60.0), Scripted(answer)).body == said
        except FunctionFault as fault:
            assert number % 7 == 0
            assert fault.message == str(number)  # noqa: PT017 - nothing raised is fine as well

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(1600)))
    assert asking.engine.live == 0


def test_a_component_that_is_not_composed_cannot_be_loaded(engine, compiled) -> None:
    with pytest.raises(FunctionFault, match="does not export handle") as fault:
        ComponentProgram(engine, compiled("(component)"))
    assert fault.value.fault == Fault.LOAD


def test_another_import_is_not_served(engine, compiled) -> None:
    text = component(ECHO, before=OK).replace("edgecache:adapter/host@0.1.0", "wasi:cli/exit@0.2.0")
    program = ComponentProgram(engine, compiled(text))
    found = fault_of(program)
    assert found.fault == Fault.LOAD
    assert "wasi:cli/exit" in found.message


@pytest.mark.parametrize(
    "result",
    ["(result string)", "(result (tuple string string string))", "(result (tuple string u32))", "(result u32)", ""],
)
def test_a_component_whose_handle_gives_something_else(engine, compiled, result) -> None:
    text = component("(i32.const 256)", before=OK).replace("(result (tuple string string))\n", f"{result}\n")
    if "(result" not in result:
        text = text.replace("(param i32 i32 i32 i32) (result i32) (i32.const 256))", "(param i32 i32 i32 i32))")
    assert fault_of(ComponentProgram(engine, compiled(text))).fault in (Fault.LOAD, Fault.TRAP)


def test_close_gives_the_code_back(echo) -> None:
    echo.run(request(), LIMITS)
    echo.close()
    echo.close()
    with pytest.raises(FunctionFault, match="was closed"):
        echo.run(request(), LIMITS)


def test_handle_has_to_be_a_function(engine, compiled) -> None:
    text = '(component (component $c) (instance $i (instantiate $c)) (export "handle" (instance $i)))'
    found = fault_of(ComponentProgram(engine, compiled(text)))
    assert (found.fault, found.message) == (Fault.LOAD, "is no composed component: handle is no function")


def test_netstrings_of_a_head_are_whole() -> None:
    assert pack(b"200", b"a", b"") == b"3:200,1:a,0:,"
