"""wasmtime's C API as edgecache uses it: one declaration a function, nothing more.

The library comes from the wasmtime package, whose own Python layer is not used to run anything: it is not safe with
threads, and seven times slower. Two handles on the same library:

- `_free` lets go of the interpreter lock while C runs. Whatever can run a function's code, compile or take long goes
  through it: with the lock held, the thread that moves the epochs could not run, and an endless loop would never end.
- `_held` keeps the lock: for calls that take less than letting go of it and taking it back.

Addresses are plain numbers here, and C knows nothing of Python's references. The rule everywhere above this module:
whoever passes an address keeps the object behind it referenced until C is done with it, and says so at that place.
`ctypes` itself keeps `bytes` arguments alive during the call.
"""

import ctypes
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_int64, c_size_t, c_uint8, c_uint64, c_void_p
from typing import Any

from wasmtime import _bindings, _ffi

Function = Callable[..., Any]
Address = int
"""Where something of C's is; None where there may be nothing."""

_free = ctypes.CDLL(str(_ffi.filename))
_held = ctypes.PyDLL(str(_ffi.filename))


def _declare(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Function:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function  # type: ignore[no-any-return]


# -- Sizes and places in structures, from the package's generated types

INSTANCE = ctypes.sizeof(_bindings.wasmtime_instance)
EXTERN = ctypes.sizeof(_bindings.wasmtime_extern)
EXTERN_OF = _bindings.wasmtime_extern.of.offset
"""Where in an extern the function, memory ... itself is."""
RAW = ctypes.sizeof(_bindings.wasmtime_val_raw)
"""A value of `func_call_unchecked`: 16 bytes, numbers little-endian in the first of them."""
COMPONENT_INSTANCE = ctypes.sizeof(_bindings.wasmtime_component_instance)
COMPONENT_FUNC = ctypes.sizeof(_bindings.wasmtime_component_func)
COMPONENT_VAL = ctypes.sizeof(_bindings.wasmtime_component_val)
"""A value of the component model: kind (8 bytes with padding), then for strings and tuples length and address."""
STRING = 12
TUPLE = 15
"""`kind` of a component's values."""
EXTERN_FUNC = 0
EXTERN_MEMORY = 3
"""`kind` of a module's exports."""
I32 = 0
I64 = 1
"""`kind` of a core value."""


class ByteVec(ctypes.Structure):
    """`wasm_byte_vec_t`: bytes that C owns; given back with `byte_vec_delete`."""

    _fields_ = (("size", c_size_t), ("data", c_void_p))
    size: int
    data: int | None


# -- Callbacks. The object made by one of these types must live for as long as the linker that knows its address.

ModuleCallback = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t)
"""env, caller, values, how many -> trap or nothing."""
ComponentCallback = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t)
"""env, context, type, arguments, how many, results, how many -> error or nothing."""

EpochCallback = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
"""context, data, where to write the epochs to go on for, where to write how -> error or nothing. Kept by the engine."""

# -- Bytes, errors, traps

byte_vec_new = _declare(_held, "wasm_byte_vec_new", None, c_void_p, c_size_t, c_char_p)
byte_vec_delete = _declare(_held, "wasm_byte_vec_delete", None, c_void_p)
error_new = _declare(_held, "wasmtime_error_new", c_void_p, c_char_p)
error_message = _declare(_held, "wasmtime_error_message", None, c_void_p, c_void_p)
error_delete = _declare(_held, "wasmtime_error_delete", None, c_void_p)
trap_new = _declare(_held, "wasmtime_trap_new", c_void_p, c_char_p, c_size_t)
trap_message = _declare(_held, "wasm_trap_message", None, c_void_p, c_void_p)
trap_delete = _declare(_held, "wasm_trap_delete", None, c_void_p)

# -- Engine

config_new = _declare(_held, "wasm_config_new", c_void_p)
config_delete = _declare(_held, "wasm_config_delete", None, c_void_p)
engine_new = _declare(_free, "wasm_engine_new_with_config", c_void_p, c_void_p)
"""Takes the config away from the caller."""
engine_delete = _declare(_free, "wasm_engine_delete", None, c_void_p)
engine_increment_epoch = _declare(_held, "wasmtime_engine_increment_epoch", None, c_void_p)
pooling_new = _declare(_held, "wasmtime_pooling_allocation_config_new", c_void_p)
pooling_delete = _declare(_held, "wasmtime_pooling_allocation_config_delete", None, c_void_p)
pooling_use = _declare(_held, "wasmtime_pooling_allocation_strategy_set", None, c_void_p, c_void_p)


def config_set(config: Address, name: str, value: int) -> None:
    """Set the option `name` of an engine's configuration; small numbers and large go in one register alike."""
    kind: Any = c_bool if isinstance(value, bool) else c_size_t
    _declare(_held, f"wasmtime_config_{name}_set", None, c_void_p, kind)(config, value)


def pooling_set(pooling: Address, name: str, value: int) -> None:
    """Set the option `name` of the pooling allocator."""
    _declare(_held, f"wasmtime_pooling_allocation_config_{name}_set", None, c_void_p, c_size_t)(pooling, value)


# -- Stores

store_new = _declare(_held, "wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
store_context = _declare(_held, "wasmtime_store_context", c_void_p, c_void_p)
store_limiter = _declare(_held, "wasmtime_store_limiter", None, c_void_p, *[c_int64] * 5)
"""memory bytes, table elements, instances, tables, memories"""
store_epoch_callback = _declare(
    _held, "wasmtime_store_epoch_deadline_callback", None, c_void_p, EpochCallback, c_void_p, c_void_p
)
store_delete = _declare(_held, "wasmtime_store_delete", None, c_void_p)
store_delete_large = _declare(_free, "wasmtime_store_delete", None, c_void_p)
"""The same for a sandbox whose memory takes long to wipe."""
context_set_epoch_deadline = _declare(_held, "wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
context_get_data = _declare(_held, "wasmtime_context_get_data", c_void_p, c_void_p)
caller_context = _declare(_held, "wasmtime_caller_context", c_void_p, c_void_p)

# -- Core modules

module_new = _declare(_free, "wasmtime_module_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
module_serialize = _declare(_free, "wasmtime_module_serialize", c_void_p, c_void_p, c_void_p)
module_load = _declare(_free, "wasmtime_module_deserialize_file", c_void_p, c_void_p, c_char_p, c_void_p)
module_exports = _declare(_held, "wasmtime_module_exports", None, c_void_p, c_void_p)
module_delete = _declare(_free, "wasmtime_module_delete", None, c_void_p)
linker_new = _declare(_held, "wasmtime_linker_new", c_void_p, c_void_p)
linker_define = _declare(
    *(_held, "wasmtime_linker_define_func_unchecked", c_void_p),
    *(c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p, ModuleCallback, c_void_p, c_void_p),
)
linker_instantiate_pre = _declare(_free, "wasmtime_linker_instantiate_pre", c_void_p, c_void_p, c_void_p, c_void_p)
linker_delete = _declare(_held, "wasmtime_linker_delete", None, c_void_p)
instance_pre_instantiate = _declare(
    _free, "wasmtime_instance_pre_instantiate", c_void_p, c_void_p, c_void_p, c_void_p, c_void_p
)
instance_pre_delete = _declare(_free, "wasmtime_instance_pre_delete", None, c_void_p)
instance_export_get = _declare(
    _held, "wasmtime_instance_export_get", c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_void_p
)
func_call = _declare(_free, "wasmtime_func_call_unchecked", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)
memory_data = _declare(_held, "wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
memory_data_size = _declare(_held, "wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)

# -- Components

component_new = _declare(_free, "wasmtime_component_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
component_serialize = _declare(_free, "wasmtime_component_serialize", c_void_p, c_void_p, c_void_p)
component_load = _declare(_free, "wasmtime_component_deserialize_file", c_void_p, c_void_p, c_char_p, c_void_p)
component_delete = _declare(_free, "wasmtime_component_delete", None, c_void_p)
component_export_index = _declare(
    _held, "wasmtime_component_get_export_index", c_void_p, c_void_p, c_void_p, c_char_p, c_size_t
)
component_export_index_delete = _declare(_held, "wasmtime_component_export_index_delete", None, c_void_p)
component_linker_new = _declare(_held, "wasmtime_component_linker_new", c_void_p, c_void_p)
component_linker_root = _declare(_held, "wasmtime_component_linker_root", c_void_p, c_void_p)
component_linker_delete = _declare(_held, "wasmtime_component_linker_delete", None, c_void_p)
component_linker_add_instance = _declare(
    _held, "wasmtime_component_linker_instance_add_instance", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p
)
component_linker_add_func = _declare(
    *(_held, "wasmtime_component_linker_instance_add_func", c_void_p),
    *(c_void_p, c_char_p, c_size_t, ComponentCallback, c_void_p, c_void_p),
)
component_linker_instance_delete = _declare(_held, "wasmtime_component_linker_instance_delete", None, c_void_p)
component_instantiate = _declare(
    _free, "wasmtime_component_linker_instantiate", c_void_p, c_void_p, c_void_p, c_void_p, c_void_p
)
component_instance_func = _declare(
    _held, "wasmtime_component_instance_get_func", c_bool, c_void_p, c_void_p, c_void_p, c_void_p
)
component_func_call = _declare(
    *(_free, "wasmtime_component_func_call", c_void_p),
    *(c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t),
)
component_val_delete = _declare(_held, "wasmtime_component_val_delete", None, c_void_p)

# -- Types of exports

exporttype_vec_delete = _declare(_held, "wasm_exporttype_vec_delete", None, c_void_p)
exporttype_name = _declare(_held, "wasm_exporttype_name", c_void_p, c_void_p)
exporttype_type = _declare(_held, "wasm_exporttype_type", c_void_p, c_void_p)
externtype_kind = _declare(_held, "wasm_externtype_kind", c_uint8, c_void_p)
externtype_as_functype = _declare(_held, "wasm_externtype_as_functype_const", c_void_p, c_void_p)
functype_new = _declare(_held, "wasm_functype_new", c_void_p, c_void_p, c_void_p)
functype_params = _declare(_held, "wasm_functype_params", c_void_p, c_void_p)
functype_results = _declare(_held, "wasm_functype_results", c_void_p, c_void_p)
functype_delete = _declare(_held, "wasm_functype_delete", None, c_void_p)
valtype_new = _declare(_held, "wasm_valtype_new", c_void_p, c_uint8)
valtype_equal = _declare(_held, "wasmtime_wasm_valtype_equal", c_bool, c_void_p, c_void_p)
"""`wasm_valtype_kind` is not for what strangers upload: it ends the process at types that it does not know (v128)."""
valtype_vec_new = _declare(_held, "wasm_valtype_vec_new", None, c_void_p, c_size_t, c_void_p)
