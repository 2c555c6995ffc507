"""The declarations: which handle each goes through, and that the layouts are those that the code above counts on."""

import ctypes

import pytest
from wasmtime import _bindings, _ffi

from edgecache.wasm import native

PYTHONAPI = 4  # ctypes' FUNCFLAG_PYTHONAPI: the interpreter lock is kept
LONG = (
    "engine_new",
    "engine_delete",
    "module_new",
    "module_serialize",
    "module_load",
    "module_delete",
    "linker_instantiate_pre",
    "instance_pre_instantiate",
    "instance_pre_delete",
    "func_call",
    "store_delete_large",
    "component_new",
    "component_serialize",
    "component_load",
    "component_delete",
    "component_instantiate",
    "component_func_call",
)


@pytest.mark.parametrize("name", LONG)
def test_what_runs_code_compiles_or_takes_long_lets_go_of_the_interpreter(name) -> None:
    assert not type(getattr(native, name))._flags_ & PYTHONAPI


@pytest.mark.parametrize("name", ["store_new", "store_delete", "context_set_epoch_deadline", "memory_data"])
def test_cheap_calls_keep_it(name) -> None:
    assert type(getattr(native, name))._flags_ & PYTHONAPI


def test_every_function_is_declared_with_its_types() -> None:
    declared = [each for each in vars(native).values() if isinstance(each, ctypes._CFuncPtr)]
    assert len(declared) > 60
    assert all(each.argtypes is not None for each in declared)


def test_layouts_are_those_that_words_of_64_bits_are_counted_by() -> None:
    assert (native.INSTANCE, native.EXTERN, native.EXTERN_OF, native.RAW) == (16, 32, 8, 16)
    assert (native.COMPONENT_INSTANCE, native.COMPONENT_FUNC, native.COMPONENT_VAL) == (16, 32, 32)
    value = _bindings.wasmtime_component_val
    assert (value.kind.offset, value.of.offset) == (0, 8)
    assert _bindings.wasm_name_t.size.offset == 0
    assert _bindings.wasm_name_t.data.offset == 8


def test_kinds_are_the_librarys() -> None:
    assert _ffi.WASMTIME_COMPONENT_STRING.value == native.STRING
    assert _ffi.WASMTIME_COMPONENT_TUPLE.value == native.TUPLE
    assert (_ffi.WASM_I32.value, _ffi.WASM_I64.value) == (native.I32, native.I64)
    assert _ffi.WASMTIME_EXTERN_FUNC.value == native.EXTERN_FUNC
    assert _ffi.WASMTIME_EXTERN_MEMORY.value == native.EXTERN_MEMORY


def test_bytes_go_to_c_and_come_back() -> None:
    vector = native.ByteVec()
    native.byte_vec_new(ctypes.addressof(vector), 3, b"a\0b")
    assert ctypes.string_at(vector.data, vector.size) == b"a\0b"
    native.byte_vec_delete(ctypes.addressof(vector))


def test_options_that_do_not_exist_are_errors() -> None:
    config = native.config_new()
    with pytest.raises(AttributeError, match="wasmtime_config_nothing_set"):
        native.config_set(config, "nothing", 1)
    native.config_delete(config)
