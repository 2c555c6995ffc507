"""One engine per process: what it refuses, what it compiles, and that code of a compiling process runs in it."""

import subprocess
import sys

import pytest
from wasmtime import wat2wasm

from edgecache.errors import Fault, FunctionFault, FunctionRefused
from edgecache.wasm import native
from edgecache.wasm.core import CoreProgram
from edgecache.wasm.engine import Engine
from edgecache.wasm.module import Module
from tests.wasm.conftest import LIMITS, TICK, core, request

OUT_OF_BOUNDS = """
import faulthandler, pathlib, sys, wasmtime
{before}
from edgecache.errors import FunctionFault
from edgecache.wasm.base import Limits, Request
from edgecache.wasm.engine import Engine
from edgecache.wasm.module import Module
engine = Engine(instances=1, memory=1 << 20, tick=0.001)
{after}
path = pathlib.Path(sys.argv[1])
wat = '(module (memory (export "memory") 1) (func (export "f") (result i32) (i32.load (i32.const -4))))'
path.write_bytes(engine.compile_module(bytes(wasmtime.wat2wasm(wat))))
module = Module(engine, path, {{}})
try:
    with module.open(Request("GET", "/", (), b"", 0, bytes(32)), Limits(), None) as sandbox:
        sandbox.call("f")
except FunctionFault as fault:
    print("contained:", fault.fault)
"""


def child(path, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    code = OUT_OF_BOUNDS.format(before=before, after=after)
    return subprocess.run(
        [sys.executable, "-c", code, str(path / "code")], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
def test_without_faulthandler_there_is_no_engine(tmp_path) -> None:
    done = child(tmp_path)
    assert done.returncode == 1
    assert "ConfigError: faulthandler has to be enabled before the WebAssembly engine is made" in done.stderr


@pytest.mark.slow
def test_an_access_out_of_bounds_is_contained(tmp_path) -> None:
    done = child(tmp_path, before="faulthandler.enable()")
    assert (done.returncode, done.stdout) == (0, "contained: trap\n")


@pytest.mark.slow
def test_enabled_after_the_engine_it_would_end_the_process_which_is_why(tmp_path) -> None:
    done = child(tmp_path, before="faulthandler.enable()", after="faulthandler.disable(); faulthandler.enable()")
    assert done.returncode < 0
    assert "Fatal Python error: Segmentation fault" in done.stderr


@pytest.mark.slow
def test_an_address_space_too_small_for_the_pool_is_said_before_wasmtime_ends_the_process(tmp_path) -> None:
    code = (
        "import faulthandler, resource; faulthandler.enable()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "from edgecache.wasm.engine import Engine\n"
        "Engine(instances=64, memory=1 << 20, tick=0.001)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ConfigError: the pool of sandboxes reserves 1560 GiB of address space" in done.stderr


def test_code_of_an_engine_without_pool_runs_in_one_with_it(engine, tmp_path) -> None:
    compiler = Engine(instances=1, memory=1, tick=None)
    wasm = bytes(wat2wasm(core("(i64.const 0)")))
    assert compiler.fingerprint == engine.fingerprint
    assert compiler.compile_module(wasm) == engine.compile_module(wasm)
    (tmp_path / "code").write_bytes(compiler.compile_module(wasm))
    compiler.close()
    assert CoreProgram(engine, tmp_path / "code").run(request(), LIMITS).status == 204


def test_the_fingerprint_is_stable_and_of_the_settings(engine) -> None:
    assert len(engine.fingerprint) == 64
    other = Engine(instances=2, memory=1 << 20, tick=TICK)
    assert other.fingerprint == engine.fingerprint
    other.close()


@pytest.mark.parametrize(
    ("wasm", "words"),
    [
        (b"", "not WebAssembly"),
        (b"(module)", "not WebAssembly"),
        (b"PK\x03\x04", "not WebAssembly"),
        (b"\0asm\x01\0\0", "unexpected end"),
        (b"\0asm\x01\0\0\0\x01\x05", "unexpected end"),
        (b"\0asm\x0d\0\x01\0", "component"),
    ],
)
def test_what_is_no_module_is_refused(engine, wasm, words) -> None:
    with pytest.raises(FunctionRefused, match=words) as refused:
        engine.compile_module(wasm)
    assert refused.value.code == "invalid_wasm"


def test_what_is_no_component_is_refused(engine) -> None:
    with pytest.raises(FunctionRefused, match="not WebAssembly"):
        engine.compile_component(b"(component)")
    with pytest.raises(FunctionRefused, match="module"):
        engine.compile_component(b"\0asm\x01\0\0\0")


@pytest.mark.parametrize(
    "text",
    [
        "(module (memory 1 1 shared))",
        "(module (memory i64 1))",
        "(module (memory 1) (memory 1))",
        "(module (tag $e) (func throw $e))",
        "(module (type (struct)))",
        "(module (func (param externref)))",
    ],
)
def test_what_no_toolchain_needs_is_switched_off(engine, text) -> None:
    with pytest.raises(FunctionRefused):
        engine.compile_module(bytes(wat2wasm(text)))


@pytest.mark.parametrize(
    "text",
    [
        "(module (func (result v128) (v128.const i64x2 1 2)))",
        "(module (func (result i32 i32) (i32.const 1) (i32.const 2)))",
        "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 9))))",
        "(module (table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1)))))",
        "(module (func $f (return_call $f)))",
    ],
)
def test_what_toolchains_emit_is_there(engine, text) -> None:
    assert engine.compile_module(bytes(wat2wasm(text)))


def test_what_is_no_machine_code_cannot_be_loaded(engine, tmp_path) -> None:
    (tmp_path / "code").write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(FunctionFault, match="cannot be loaded") as fault:
        Module(engine, tmp_path / "code", {})
    assert fault.value.fault == Fault.LOAD
    with pytest.raises(FunctionFault, match="cannot be loaded: failed to open file"):
        Module(engine, tmp_path / "nothing", {})


def test_code_of_other_settings_cannot_be_loaded(engine, tmp_path) -> None:
    config = native.config_new()
    other = native.engine_new(config)
    made = Engine.__new__(Engine)
    made.pool = other
    (tmp_path / "code").write_bytes(made.compile_module(b"\0asm\x01\0\0\0"))
    native.engine_delete(other)
    with pytest.raises(FunctionFault, match="cannot be loaded"):
        Module(engine, tmp_path / "code", {})


def test_ticks_are_enough_and_two_too_many_at_most(engine) -> None:
    assert engine.ticks(0.05) in (51, 52)
    assert engine.ticks(0.0001) == 2
    assert Engine.ticks(type("Compiler", (), {"tick": None})(), 1.0) > 1 << 50


def test_after_close_nothing_reaches_the_engine_any_more(compiled) -> None:
    made = Engine(instances=1, memory=1 << 20, tick=TICK)
    path = compiled("(module)")
    module = Module(made, path, {})
    assert made.live == 0
    made.close()
    made.close()
    with pytest.raises(FunctionFault), module.open(request(), LIMITS, None):
        pass
    with pytest.raises(FunctionFault, match="the engine was closed"):
        Module(made, path, {})
    module.close()


def test_warm_modules_run_in_a_pool_of_their_own_and_end_in_time_too(engine, compiled) -> None:
    text = '(module (memory (export "memory") 1) (func (export "f") (loop (br 0))))'
    module = Module(engine, compiled(text), {}, warm=True)
    assert engine.warm not in (0, engine.pool)
    for _ in range(3):
        with module.open(request(), LIMITS, None) as sandbox:
            assert sandbox.read(0, 65536) == bytes(65536)
            sandbox.write(0, b"SECRET" * 10_000)
            with pytest.raises(FunctionFault, match="50 ms in the sandbox"):
                sandbox.call("f")
