"""What a compiled core module exports, with types: calls are made unchecked, so what is called is checked here.

Also makes the types of host functions. Only i32 and i64 cross the border; an export that takes or gives anything else
cannot be called, and is left out.
"""

import ctypes
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgecache.wasm import native

_KINDS = {"i": native.valtype_new(native.I32), "I": native.valtype_new(native.I64)}
"""Types to compare with; never given back."""
_RESULTS = ("", "i", "I")


class _Vec(ctypes.Structure):
    """A vector of pointers that C owns."""

    _fields_ = (("size", ctypes.c_size_t), ("data", ctypes.POINTER(ctypes.c_void_p)))
    size: int
    data: Any


class Export(NamedTuple):
    """A function or memory that a module exports; parameters and results as in `HostFunction`."""

    name: bytes
    memory: bool
    params: str = ""
    results: str = ""


def read_exports(module: native.Address) -> Mapping[str, Export]:
    """What can be called and reached in a module, by name."""
    vector = _Vec()
    native.module_exports(module, ctypes.addressof(vector))
    found: dict[str, Export] = {}
    try:
        for each in vector.data[: vector.size]:
            name = _name(each)
            export = _export(name, native.exporttype_type(each))
            if export is not None:
                found[name.decode()] = export
    finally:
        native.exporttype_vec_delete(ctypes.addressof(vector))
    return found


def _name(exported: native.Address) -> bytes:
    vector = native.ByteVec.from_address(native.exporttype_name(exported))  # C's, until the exports are deleted
    return ctypes.string_at(vector.data or 0, vector.size) if vector.size else b""


def _export(name: bytes, described: native.Address) -> Export | None:
    kind = native.externtype_kind(described)
    if kind == native.EXTERN_MEMORY:
        return Export(name, memory=True)
    if kind != native.EXTERN_FUNC:
        return None
    function = native.externtype_as_functype(described)
    params, results = _types(native.functype_params(function)), _types(native.functype_results(function))
    if "?" in params or results not in _RESULTS:
        return None
    return Export(name, False, params, results)


def _types(vector: native.Address) -> str:
    """A letter for each type: `i`, `I`, or `?` for what does not cross the border."""
    found = _Vec.from_address(vector)  # C's, until the exports are deleted
    return "".join(map(_letter, found.data[: found.size]))


def _letter(kind: native.Address) -> str:
    return next((letter for letter, known in _KINDS.items() if native.valtype_equal(kind, known)), "?")


def function_type(params: str, results: str) -> native.Address:
    """The C type of a host function; whoever takes it deletes it."""
    vectors = (_Vec(), _Vec())
    for vector, kinds in zip(vectors, (params, results), strict=True):
        types = [native.valtype_new({"i": native.I32, "I": native.I64}[kind]) for kind in kinds]
        array = (ctypes.c_void_p * len(types))(*types)
        native.valtype_vec_new(ctypes.addressof(vector), len(types), array)  # copies the array, takes the types
    made: native.Address = native.functype_new(*map(ctypes.addressof, vectors))  # takes both vectors' content
    return made
