"""No exception crosses the border; more of it in test_module and test_component, where there is another side."""

import ctypes

import pytest

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import native, trap
from edgecache.wasm.base import Limits
from edgecache.wasm.border import HostFunction, component_callback, epoch_callback, module_callback
from edgecache.wasm.store import Store
from tests.wasm.conftest import request


class Empty(Store):
    """Nothing runs in it."""

    def _open(self) -> None:
        pass


@pytest.fixture
def store(engine):
    with Empty(engine, engine.pool, request(), Limits(), None) as opened:
        yield opened


def test_a_callback_is_an_object_to_be_kept() -> None:
    given = HostFunction("iI", "i", lambda _sandbox, _a, _b: 1)
    assert isinstance(module_callback({}, given), native.ModuleCallback)
    assert isinstance(component_callback({}), native.ComponentCallback)
    assert isinstance(epoch_callback({}), native.EpochCallback)


def test_unknown_types_are_refused_when_it_is_made() -> None:
    with pytest.raises(KeyError):
        module_callback({}, HostFunction("f", "", lambda _sandbox, _a: None))


@pytest.mark.parametrize(("count", "kinds"), [(1, (12, 12)), (2, (12, 4)), (2, (13, 12))])
def test_a_component_that_imports_another_call_is_stopped(engine, store, count, kinds) -> None:
    """What C hands over is looked at before it is taken for strings."""
    values = (ctypes.c_uint64 * 8)(kinds[0], 1, 0, 0, kinds[1], 1, 0, 0)
    result = (ctypes.c_uint64 * 4)()
    callback = component_callback(engine.alive)
    error = callback(None, store.context, None, ctypes.addressof(values), count, ctypes.addressof(result), 1)
    assert trap.error_text(error) == "host"
    assert isinstance(store.error, FunctionFault)
    assert store.error.fault == Fault.LOAD
    assert store.depth == 0
