"""What of a module can be called: functions of i32 and i64 only, since calls are made unchecked."""

import pytest

from edgecache.wasm import exports, native
from edgecache.wasm.exports import Export, read_exports

TEXT = """
(module
  (memory (export "memory") 1)
  (global (export "global") i32 (i32.const 1))
  (table (export "table") 1 funcref)
  (func (export "nothing"))
  (func (export "i32") (param i32 i64) (result i32) (i32.const 1))
  (func (export "i64") (param i64) (result i64) (i64.const 1))
  (func (export "float") (param f32))
  (func (export "gives a double") (result f64) (f64.const 1))
  (func (export "vector") (param v128))
  (func (export "reference") (param funcref))
  (func (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
  (func (export "")))
"""


@pytest.fixture
def found(engine, compiled):
    module = engine.load(engine.pool, compiled(TEXT), native.module_load)
    yield read_exports(module)
    native.module_delete(module)


def test_functions_of_numbers_and_memories_are_found(found) -> None:
    assert found == {
        "memory": Export(b"memory", True),
        "nothing": Export(b"nothing", False),
        "i32": Export(b"i32", False, "iI", "i"),
        "i64": Export(b"i64", False, "I", "I"),
        "": Export(b"", False),
    }


def test_a_module_without_exports_has_none(engine, compiled) -> None:
    module = engine.load(engine.pool, compiled("(module)"), native.module_load)
    assert read_exports(module) == {}
    native.module_delete(module)


@pytest.mark.parametrize(("params", "results"), [("", ""), ("iI", "I"), ("i" * 9, "i")])
def test_types_of_host_functions(params, results) -> None:
    kind = exports.function_type(params, results)
    assert exports._types(native.functype_params(kind)) == params
    assert exports._types(native.functype_results(kind)) == results
    native.functype_delete(kind)
