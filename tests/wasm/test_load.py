from pathlib import Path

import pytest
from wasmtime import wat2wasm

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Kind, Limits
from edgecache.wasm.engine import Engine
from edgecache.wasm.facts import Facts
from edgecache.wasm.load import load
from edgecache.wasm.snapshot import build
from edgecache.wasm.vault import Artefact, digest_of
from tests.wasm import conftest
from tests.wasm.conftest import request

COMMAND = """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "Status: 201 Made\\n\\nhello")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 23))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""


def artefact(path: Path, kind: Kind, code: bytes, **extra: int) -> Artefact:
    path.write_bytes(code)
    return Artefact("0" * 64, kind, path, extra, Facts(0), 0.0, len(code), digest_of(code))


def core(engine: Engine) -> bytes:
    return engine.compile_module(bytes(wat2wasm(conftest.core("(i64.const 0)"))))


def test_each_kind_has_its_program(engine: Engine, tmp_path: Path) -> None:
    component = conftest.component("(call $give (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))")
    script, extra = build(engine, "export default { fetch() { return new Response('hi', {status: 202}) } }")
    made = [
        artefact(tmp_path / "a", Kind.CORE, core(engine)),
        artefact(tmp_path / "b", Kind.COMMAND, engine.compile_module(bytes(wat2wasm(COMMAND)))),
        artefact(tmp_path / "c", Kind.SCRIPT, engine.compile_module(script), **extra),
        artefact(tmp_path / "d", Kind.COMPONENT, engine.compile_component(bytes(wat2wasm(component)))),
    ]
    programs = [load(engine, each) for each in made]
    assert [program.kind for program in programs] == [each.kind for each in made]
    statuses = [program.run(request(), Limits(cpu=1)).status for program in programs[:3]]
    assert statuses == [204, 201, 202]
    for program in programs:
        program.close()


def test_code_that_is_not_what_was_sealed_is_not_loaded(engine: Engine, tmp_path: Path) -> None:
    made = artefact(tmp_path / "a", Kind.CORE, core(engine))
    made.code.write_bytes(core(engine) + b"\0")
    with pytest.raises(FunctionFault, match="altered on disk") as fault:
        load(engine, made)
    assert fault.value.fault is Fault.LOAD


def test_the_file_may_go_while_its_program_runs(engine: Engine, tmp_path: Path) -> None:
    made = artefact(tmp_path / "a", Kind.CORE, core(engine))
    program = load(engine, made)
    made.code.unlink()
    assert program.run(request(), Limits()).status == 204
    program.close()
