"""Sandboxes of a core module: fresh, bounded, and nothing gets out or stays behind."""

import concurrent.futures
import gc
import struct

import pytest
from wasmtime import wat2wasm

from edgecache.clock import ManualClock, SystemClock
from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import native
from edgecache.wasm.base import Limits
from edgecache.wasm.engine import Engine
from edgecache.wasm.module import Exit, HostFunction, Module
from tests.wasm.conftest import LIMITS, TICK, Scripted, request

MEMORY = '(memory (export "memory") 1)'


@pytest.fixture
def opened(engine, compiled):
    """Opens sandboxes of a module in text form."""

    def opened(text, imports=None, limits=LIMITS, host=None):
        return Module(engine, compiled(text), imports or {}).open(request(), limits, host)

    return opened


def fault_of(opened, text: str, *args: int, limits: Limits = LIMITS, **more) -> FunctionFault:
    """How calling the export `f` fails."""
    with pytest.raises(FunctionFault) as fault, opened(text, limits=limits, **more) as sandbox:
        sandbox.call("f", *args)
    return fault.value


def test_numbers_go_in_and_come_out_unsigned(opened) -> None:
    text = """(module
      (func (export "add") (param i32 i64) (result i64) (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1)))
      (func (export "minus") (result i32) (i32.const -1))
      (func (export "nothing")))"""
    with opened(text) as sandbox:
        assert sandbox.call("add", 2, 40) == 42
        assert sandbox.call("add", 0xFFFFFFFF, 0) == 2**64 - 1
        assert sandbox.call("add", -1, 0) == 2**64 - 1
        assert sandbox.call("minus") == 0xFFFFFFFF
        assert sandbox.call("nothing") == 0


@pytest.mark.parametrize(("name", "args"), [("g", ()), ("f", (1,)), ("memory", ()), ("float", (1,))])
def test_what_is_not_exported_so_cannot_be_called(opened, name, args) -> None:
    text = f'(module {MEMORY} (func (export "f")) (func (export "float") (param f32)))'
    with opened(text) as sandbox, pytest.raises(FunctionFault, match=f"exports no function {name}"):
        sandbox.call(name, *args)


def test_memory_is_read_and_written_inside_its_bounds_only(opened) -> None:
    with opened(f"(module {MEMORY})") as sandbox:
        assert sandbox.memory_size == 65536
        sandbox.write(65533, b"abc")
        assert sandbox.read(65533, 3) == b"abc"
        assert sandbox.read(65536, 0) == b""
        sandbox.write_u32(8, 0xDEADBEEF)
        sandbox.write_u64(16, 2**64 - 2)
        assert sandbox.read_u32(8) == 0xDEADBEEF
        assert sandbox.read(16, 8) == struct.pack("<Q", 2**64 - 2)
        for pointer, length in ((65534, 3), (65537, 0), (-1, 1), (0, 2**31), (2**32 - 1, 2), (2**63, 1)):
            with pytest.raises(FunctionFault, match="not in its memory of 65536 bytes") as fault:
                sandbox.read(pointer, length or 1)
            assert fault.value.fault == Fault.ANSWER
        for write in (lambda: sandbox.write_u32(65533, 1), lambda: sandbox.write_u64(65529, 1)):
            with pytest.raises(FunctionFault):
                write()


def test_memory_that_grew_can_be_reached(opened) -> None:
    grow = '(func (export "grow") (result i32) (memory.grow (i32.const 2)))'
    with opened(f"(module {MEMORY} {grow})") as sandbox:
        with pytest.raises(FunctionFault):
            sandbox.read(65536, 1)
        assert sandbox.call("grow") == 1
        sandbox.write(3 * 65536 - 1, b"x")
        assert sandbox.memory_size == 3 * 65536


def test_without_a_memory_nothing_can_be_read(opened) -> None:
    with opened("(module)") as sandbox:
        assert sandbox.memory_size == 0
        with pytest.raises(FunctionFault):
            sandbox.read(0, 1)


def test_every_sandbox_is_fresh(engine, compiled) -> None:
    """Memory, globals and tables of a slot of the pool: nothing is left of the call before."""
    text = f"""(module {MEMORY}
      (table (export "t") 2 funcref) (elem (i32.const 1) func $count)
      (global $n (mut i32) (i32.const 0))
      (func $count (export "count") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
      (func (export "grow") (result i32) (table.grow (ref.null func) (i32.const 3)))
      (func (export "wipe") (table.set (i32.const 1) (ref.null func)))
      (func (export "through") (result i32) (call_indirect (result i32) (i32.const 1)))
      (func (export "more") (result i32) (memory.grow (i32.const 4))))"""
    module = Module(engine, compiled(text), {})
    for _ in range(engine.instances * 2):
        with module.open(request(), LIMITS, None) as sandbox:
            assert sandbox.call("through") == 1
            assert sandbox.call("count") == 2
            assert sandbox.call("grow") == 2
            sandbox.call("wipe")
            assert sandbox.call("more") == 1
            assert sandbox.read(0, 5 * 65536) == bytes(5 * 65536)
            sandbox.write(0, b"SECRET" * 50_000)
    assert engine.live == 0


@pytest.mark.parametrize(
    ("body", "fault", "words"),
    [
        ("unreachable", Fault.TRAP, "unreachable"),
        ("(drop (i32.load (i32.const -4)))", Fault.TRAP, "out of bounds memory access"),
        ("(call 0)", Fault.STACK, "call stack exhausted"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", Fault.TRAP, "integer divide by zero"),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", Fault.TRAP, "integer overflow"),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", Fault.TRAP, "invalid conversion to integer"),
        ("(call_indirect (i32.const 0))", Fault.TRAP, "uninitialized element"),
        ("(call_indirect (i32.const 9))", Fault.TRAP, "out of bounds"),
        ("(call_indirect (param i32) (i32.const 1) (i32.const 1))", Fault.TRAP, "indirect call type mismatch"),
        ("(drop (table.get (i32.const 7)))", Fault.TRAP, "out of bounds table access"),
        ("(loop (br 0))", Fault.CPU, "took more than its 20 ms in the sandbox"),
    ],
)
def test_a_trap_ends_the_call_and_nothing_else(opened, body, fault, words) -> None:
    text = f'(module {MEMORY} (func $f (export "f") {body}) (table 2 funcref) (elem (i32.const 1) $f))'
    found = fault_of(opened, text, limits=Limits(cpu=0.02, memory=1 << 20))
    assert found.fault == fault
    assert words in found.message
    with opened('(module (func (export "f") (result i32) (i32.const 7)))') as sandbox:
        assert sandbox.call("f") == 7


@pytest.mark.parametrize(
    "text",
    [
        '(module (func (export "f") (loop (br 0))))',
        '(module (func $f (loop (br 0))) (func (export "f")) (start $f))',
        '(module (func $f (export "f") (return_call $g)) (func $g (return_call $f)))',
    ],
    ids=["in a function", "in start", "in tail calls"],
)
def test_an_endless_loop_ends_in_time(opened, text) -> None:
    clock = SystemClock()
    late = []
    for _ in range(5):
        begun = clock.monotonic()
        assert fault_of(opened, text, limits=Limits(cpu=0.01)).fault == Fault.CPU
        late.append(clock.monotonic() - begun - 0.01)
    assert min(late) >= 0.0
    assert min(late) < 0.005  # the best of five: other processes may hold the machine


def test_memory_ends_at_its_limit(opened) -> None:
    """memory.grow says no, and a guest that gives up then is told of its memory."""
    text = f"""(module {MEMORY} (func (export "f") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "flood")
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable))"""
    limits = Limits(memory=1 << 20)
    with opened(text, limits=limits) as sandbox:
        assert sandbox.call("f", 15) == 1
        assert sandbox.call("f", 1) == 0xFFFFFFFF
    with opened(text, limits=limits) as sandbox, pytest.raises(FunctionFault) as fault:
        sandbox.call("flood")
    assert fault.value.fault == Fault.MEMORY
    assert fault.value.message.startswith("gave up with 1.0 of its 1 MiB of memory in use: wasm `unreachable`")


def test_initial_memory_above_the_limit(opened, engine, compiled) -> None:
    found = fault_of(opened, '(module (memory 17) (func (export "f")))', limits=Limits(memory=1 << 20))
    assert found.fault == Fault.MEMORY
    assert "17 pages exceeds memory limits" in found.message


def test_initial_memory_above_what_the_pool_has_cannot_even_be_loaded(engine, compiled, tmp_path) -> None:
    compiler = Engine(instances=1, memory=1, tick=None)
    wasm = b"\0asm\x01\0\0\0\x05\x05\x01\x00\xe0\xd4\x03"  # (memory 60000): 3.9 GB
    (tmp_path / "code").write_bytes(compiler.compile_module(wasm))
    compiler.close()
    with pytest.raises(FunctionFault, match="60000") as fault:
        Module(engine, tmp_path / "code", {})
    assert fault.value.fault == Fault.LOAD


def test_tables_end_at_their_limit(opened) -> None:
    text = """(module (table 1 funcref) (func (export "f") (param i32) (result i32)
        (table.grow (ref.null func) (local.get 0))))"""
    with opened(text) as sandbox:
        assert sandbox.call("f", 19_999) == 1
        assert sandbox.call("f", 1) == 0xFFFFFFFF
        assert sandbox.call("f", 10_000_000) == 0xFFFFFFFF


def test_a_module_whose_table_is_too_large_cannot_be_loaded(engine, tmp_path) -> None:
    compiler = Engine(instances=1, memory=1, tick=None)
    wasm = bytes(wat2wasm("(module (table 20001 funcref))"))
    (tmp_path / "code").write_bytes(compiler.compile_module(wasm))
    compiler.close()
    with pytest.raises(FunctionFault, match="20001 which exceeds the limit of 20000") as fault:
        Module(engine, tmp_path / "code", {})
    assert fault.value.fault == Fault.LOAD


def test_an_import_that_is_not_served_cannot_be_loaded(engine, compiled) -> None:
    for text in ('(module (import "env" "x" (func)))', '(module (import "wasi_snapshot_preview1" "fd_write" (func)))'):
        with pytest.raises(FunctionFault, match="cannot be linked: unknown import") as fault:
            Module(engine, compiled(text), {})
        assert fault.value.fault == Fault.LOAD


def test_an_import_of_another_type_cannot_be_loaded(engine, compiled) -> None:
    with pytest.raises(FunctionFault, match="cannot be linked: incompatible import type"):
        Module(
            engine,
            compiled('(module (import "a" "b" (func (param i64))))'),
            {("a", "b"): HostFunction("i", "", lambda _sandbox, _number: None)},
        )


def test_host_functions_get_sandbox_and_numbers_and_give_one(opened) -> None:
    text = f"""(module
      (import "host" "mix" (func $mix (param i32 i64 i32) (result i64)))
      (import "host" "put" (func $put (param i32)))
      {MEMORY}
      (func (export "f") (result i64)
        (call $put (i32.const 3)) (call $mix (i32.const -1) (i64.const -2) (i32.const 5))))"""
    seen = []

    def mix(sandbox, a, b, c) -> int:
        seen.append((a, b, c, sandbox.state))
        return b - 1

    def put(sandbox, pointer) -> None:
        sandbox.write(pointer, b"!")

    imports = {("host", "mix"): HostFunction("iIi", "I", mix), ("host", "put"): HostFunction("i", "", put)}
    with opened(text, imports) as sandbox:
        sandbox.state = "mine"
        assert sandbox.call("f") == 2**64 - 3
        assert sandbox.read(3, 1) == b"!"
    assert seen == [(0xFFFFFFFF, 2**64 - 2, 5, "mine")]


CALLS = '(module (import "h" "f" (func $h (result i32))) (func (export "f") (result i32) (call $h)))'


@pytest.mark.parametrize(
    "error",
    [FunctionFault(Fault.BUDGET, "spent"), Exit(3), ValueError("x"), KeyboardInterrupt(), SystemExit(1)],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_of_a_host_function_arrives_at_the_caller(opened, error) -> None:
    def fails(_sandbox) -> int:
        raise error

    with pytest.raises(type(error)) as raised, opened(CALLS, {("h", "f"): HostFunction("", "i", fails)}) as sandbox:
        sandbox.call("f")
    assert raised.value is error


def test_exceptions_do_not_stay_in_the_sandbox(opened) -> None:
    turns = iter([ValueError("first"), None, FunctionFault(Fault.BUDGET, "third")])

    def fails(_sandbox) -> int:
        error = next(turns)
        if error is not None:
            raise error
        return 5

    with opened(CALLS, {("h", "f"): HostFunction("", "i", fails)}) as sandbox:
        with pytest.raises(ValueError, match="first"):
            sandbox.call("f")
        assert sandbox.call("f") == 5
        with pytest.raises(FunctionFault, match="third"):
            sandbox.call("f")
        assert sandbox.error is None


def test_bad_pointers_to_a_host_function_are_traps(opened) -> None:
    text = f"""(module (import "h" "f" (func $h (param i32 i32))) {MEMORY}
      (func (export "f") (call $h (i32.const 65530) (i32.const 100))))"""
    imports = {("h", "f"): HostFunction("ii", "", lambda sandbox, at, size: sandbox.read(at, size) and None)}
    assert fault_of(opened, text, imports=imports).fault == Fault.TRAP


def test_a_host_function_may_call_the_sandbox_again(opened) -> None:
    text = """(module (import "h" "f" (func $h (param i32) (result i32)))
      (func (export "f") (param i32) (result i32) (i32.add (i32.const 100) (call $h (local.get 0)))))"""

    def again(sandbox, number) -> int:
        return sandbox.call("f", number - 1) if number else 7

    with opened(text, {("h", "f"): HostFunction("i", "i", again)}) as sandbox:
        assert sandbox.call("f", 3) == 407
        with pytest.raises(FunctionFault, match="9 host functions nested, more than the 8") as fault:
            sandbox.call("f", 1000)
        assert fault.value.fault == Fault.STACK


def test_a_loop_inside_a_nested_call_ends(opened) -> None:
    text = """(module (import "h" "f" (func $h)) (func (export "f") (call $h)) (func (export "g") (loop (br 0))))"""
    imports = {("h", "f"): HostFunction("", "", lambda sandbox: sandbox.call("g") and None)}
    assert fault_of(opened, text, imports=imports, limits=Limits(cpu=0.01)).fault == Fault.CPU


def test_a_sandbox_cannot_be_closed_from_inside(opened) -> None:
    imports = {("h", "f"): HostFunction("", "i", lambda sandbox: sandbox.__exit__(None, None, None))}
    with pytest.raises(RuntimeError, match="closed from inside"), opened(CALLS, imports) as sandbox:
        sandbox.call("f")


def test_after_its_end_a_sandbox_fails_in_python(opened) -> None:
    with opened(f'(module {MEMORY} (func (export "f")))') as sandbox:
        sandbox.call("f")
    with pytest.raises(AttributeError):
        sandbox.call("f")
    with pytest.raises(AttributeError):
        sandbox.read(0, 1)
    with pytest.raises(AttributeError):
        assert sandbox.memory_size


def test_more_at_once_than_the_pool_has_is_a_fault_of_its_own(compiled) -> None:
    engine = Engine(instances=2, memory=1 << 20, tick=TICK)
    path = compiled('(module (memory 1) (func (export "f")))')
    module = Module(engine, path, {})
    with module.open(request(), LIMITS, None), module.open(request(), LIMITS, None):
        assert engine.live == 2
        with pytest.raises(FunctionFault, match="2 functions run already") as fault:
            module.open(request(), LIMITS, None).__enter__()
        assert fault.value.fault == Fault.POOL
    with module.open(request(), LIMITS, None) as sandbox:
        sandbox.call("f")
    module.close()
    engine.close()


def test_when_instantiation_fails_nothing_is_left(opened, engine) -> None:
    for _ in range(engine.instances + 1):
        fault_of(opened, '(module (func $s unreachable) (start $s) (func (export "f")))')
    assert engine.live == 0


@pytest.mark.slow
def test_many_threads_do_not_mix_up_their_sandboxes_or_their_exceptions(engine, compiled) -> None:
    text = f"""(module (import "h" "f" (func $h (param i32) (result i32))) {MEMORY}
      (func (export "f") (param i32) (result i32)
        (i32.store (i32.const 0) (local.get 0))
        (if (i32.eq (i32.rem_u (local.get 0) (i32.const 5)) (i32.const 0)) (then unreachable))
        (drop (call $h (local.get 0))) (i32.load (i32.const 0))))"""

    def odd(sandbox, number) -> int:
        assert sandbox.state == number
        if number % 2:
            raise ValueError(number)
        return number

    module = Module(engine, compiled(text), {("h", "f"): HostFunction("i", "i", odd)})

    def one(number: int) -> None:
        with module.open(request(), Limits(cpu=5.0, wall=60.0), None) as sandbox:
            sandbox.state = number
            if number % 5 == 0:
                with pytest.raises(FunctionFault, match="unreachable"):
                    sandbox.call("f", number)
            elif number % 2:
                with pytest.raises(ValueError, match=str(number)) as raised:
                    sandbox.call("f", number)
                assert raised.value.args == (number,)
            else:
                assert sandbox.call("f", number) == number

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(1600)))
    assert engine.live == 0
    assert len(module.cells) <= 8


def test_endless_loops_in_threads_all_end_and_the_others_go_on(engine, compiled) -> None:
    spin = Module(engine, compiled('(module (func (export "f") (loop (br 0))))'), {})
    quick = Module(engine, compiled('(module (func (export "f") (result i32) (i32.const 1)))'), {})

    def loop(_: int) -> Fault:
        with pytest.raises(FunctionFault) as fault, spin.open(request(), Limits(cpu=0.05), None) as sandbox:
            sandbox.call("f")
        return fault.value.fault

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        loops = threads.map(loop, range(4))
        for _ in range(20):
            with quick.open(request(), LIMITS, None) as sandbox:
                assert sandbox.call("f") == 1
        assert set(loops) == {Fault.CPU}


def test_a_program_is_given_back_once(engine, compiled) -> None:
    module = Module(engine, compiled("(module)"), {})
    module.close()
    module.close()
    with pytest.raises(FunctionFault, match="was closed"):
        module.open(request(), LIMITS, None)
    Module(engine, compiled("(module)"), {})  # never closed: given back when it is collected
    gc.collect()


def test_wall_time_counts_host_calls_and_cpu_time_does_not(compiled) -> None:
    clock = ManualClock()
    engine = Engine(instances=2, memory=1 << 20, tick=TICK, clock=clock)
    module = Module(engine, compiled(CALLS), {("h", "f"): HostFunction("", "i", _ask)})

    def slow(_op, _argument) -> bytes:
        clock.advance(0.4)
        return b"="

    host = Scripted(slow)
    with module.open(request(), Limits(cpu=0.05, wall=1.0), host) as sandbox:
        assert sandbox.call("f") == 1
        assert sandbox.call("f") == 1
        usage = sandbox.finish()
        assert usage.wall == pytest.approx(0.8)
        assert usage.cpu < 0.05
        assert usage.host_calls == 2
        with pytest.raises(FunctionFault, match="took more than its 1000 ms in all, host calls included") as fault:
            sandbox.call("f")
        assert fault.value.fault == Fault.WALL
        with pytest.raises(FunctionFault) as fault:
            sandbox.finish()
        assert fault.value.fault == Fault.WALL
    assert len(host.asked) == 3
    module.close()
    engine.close()


def _ask(sandbox) -> int:
    return len(sandbox.host_call("op", b"argument"))


def test_a_context_is_the_same_seen_from_inside(opened) -> None:
    """Memory is reached from inside by the context that the store gave outside."""
    seen = []
    with opened(
        CALLS, {("h", "f"): HostFunction("", "i", lambda sandbox: seen.append(sandbox.context) or 1)}
    ) as sandbox:
        sandbox.call("f")
        assert seen == [sandbox.context]
        assert native.context_get_data(sandbox.context) == sandbox._key
