"""Values of QuickJS, in and out."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Limits
from edgecache.wasm.hostcalls import Code, answered, refused
from edgecache.wasm.interpreter import FOLDER, IMPORTS, WINDOW, Interpreter, Places, _as_text
from edgecache.wasm.module import Module
from tests.wasm.conftest import request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def js(engine, tmp_path_factory):
    """QuickJS as it comes, without a prelude."""
    code = tmp_path_factory.mktemp("quickjs") / "quickjs.cwasm"
    code.write_bytes(engine.compile_module((FOLDER / "quickjs.wasm").read_bytes()))
    module = Module(engine, code, IMPORTS)
    with module.open(request(), Limits(cpu=30.0, wall=60.0, memory=16 << 20, response=1 << 20), None) as sandbox:
        made = Interpreter(sandbox, Places(0, 0, 0))
        sandbox.call("_initialize")
        assert sandbox.call("qjs_init") == 0
        made.places = Places(made.place(bytes(32)), made.place(bytes(WINDOW)), sandbox.call("qjs_get_undefined"))
        yield made
    module.close()


def evaluate(js, source):
    code, name = js.place(source.encode() + b"\0"), js.place(b"test.js\0")
    return js.sandbox.call("qjs_eval", code, len(source.encode()), name, 0)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=100))
def test_text_comes_out_as_it_went_in(js, text):
    assert js.text_out(js.text_in(text.encode())) == text.encode()


@pytest.mark.parametrize("size", [0, 1, 256, WINDOW, WINDOW + 1, 500_000])
def test_bytes_come_out_as_they_went_in(js, size):
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert js.bytes_out(js.bytes_in(data)) == data
    assert js.value_out(js.bytes_in(data)) == data


def test_functions_are_called_with_values(js):
    function = evaluate(js, "(a, b) => a + b.byteLength")
    assert js.text_out(js.invoke(function, js.text_in(b"x"), js.bytes_in(b"1234"))) == b"x4"


def test_exceptions_are_told_from_values(js):
    assert not js.failed(evaluate(js, "1"))
    assert js.failed(evaluate(js, "(() => { throw new RangeError('far') })()"))
    text, stack = js.thrown()
    assert text == "RangeError: far"
    assert "test.js:1:" in stack
    assert js.failed(evaluate(js, "throw 'text'"))
    assert js.thrown() == ("text", "")


def test_jobs_run_until_none_is_left(js):
    evaluate(js, "globalThis.done = 0; Promise.resolve().then(() => { done = 1 }).then(() => { done = 2 }); 0")
    while js.run_job():
        pass
    assert js.text_out(evaluate(js, "done")) == b"2"
    assert js.text_out(js.member(evaluate(js, "globalThis"), "done")) == b"2"


def test_values_that_are_too_large_do_not_come_out(js):
    for source in ("'x'.repeat(2e6)", "new ArrayBuffer(2e6)"):
        with pytest.raises(FunctionFault) as caught:
            js.value_out(evaluate(js, source))
        assert caught.value.fault is Fault.SIZE


def test_values_that_do_not_fit_do_not_go_in(js):
    with pytest.raises(FunctionFault) as caught:
        js.bytes_in(bytes(17 << 20))
    assert caught.value.fault is Fault.MEMORY


@given(st.lists(st.text(max_size=20), max_size=5))
def test_answers_as_text_are_framed_in_units_of_javascript(fields):
    framed = _as_text(answered(*[field.encode() for field in fields])).decode().encode("utf-16-le")
    at, found = 2, []  # after `=`
    while at < len(framed):
        colon = framed.index(b":\0", at)
        length = int(framed[at:colon].decode("utf-16-le"))
        found.append(framed[colon + 2 : colon + 2 + 2 * length].decode("utf-16-le"))
        at = colon + 2 + 2 * length + 2
    assert found == fields


def test_refusals_stay_as_they_are():
    assert _as_text(refused(Code.DENIED, "é")) == refused(Code.DENIED, "é")
