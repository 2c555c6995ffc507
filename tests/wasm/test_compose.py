from pathlib import Path

import pytest

from edgecache.errors import FunctionRefused
from edgecache.wasm import binary, compose
from edgecache.wasm.base import Request
from edgecache.wasm.binary import ComponentSection, Extern, Sort
from edgecache.wasm.component import ComponentProgram
from tests.adapter.conftest import LIMITS, Host
from tests.adapter.guests import build as guests

HANDLER = "wasi:http/incoming-handler@0.2.3"
GUEST = (guests.HERE / "conformance.wasm").read_bytes()


def component(imports=(), exports=(HANDLER,), sort: Sort = Sort.INSTANCE) -> bytes:
    """A component by its imports and exports; nothing in it fits, which `compose` leaves to the engine."""
    instance_type = binary.section(ComponentSection.TYPE, binary.vec([b"\x42\x00"]))
    imported = [binary.extern_name(each) + bytes([sort, 0]) for each in imports]
    exported = [binary.extern_name(each) + bytes([Sort.INSTANCE, 0, 0]) for each in exports]
    return (
        binary.COMPONENT
        + instance_type
        + binary.section(ComponentSection.IMPORT, binary.vec(imported))
        + binary.section(ComponentSection.EXPORT, binary.vec(exported))
    )


def refusal(wasm: bytes) -> FunctionRefused:
    with pytest.raises(FunctionRefused) as refused:
        compose.compose(wasm)
    return refused.value


def test_what_is_composed_imports_the_host_and_exports_one_function():
    composed = compose.compose(GUEST)
    assert binary.component_imports(composed) == [Extern(compose.HOST, Sort.INSTANCE)]
    assert binary.component_exports(composed) == [Extern(compose.HANDLE, Sort.FUNCTION)]


@pytest.mark.parametrize("patch", range(13))
def test_every_wasi_of_0_2_is_known(patch):
    names = ("io/error", "io/poll", "io/streams", "cli/environment", "cli/exit", "http/types", "filesystem/types")
    wasm = component([f"wasi:{name}@0.2.{patch}" for name in names], [f"wasi:http/incoming-handler@0.2.{patch}"])
    assert binary.component_imports(compose.compose(wasm))


@pytest.mark.parametrize("name", compose.available())
def test_everything_that_is_available_may_be_imported(name):
    assert compose.compose(component([name]))


def test_the_host_itself_may_be_imported():
    assert compose.compose(component([compose.HOST]))


def test_the_adapters_own_interface_may_not():
    assert refusal(component(["edgecache:adapter/control@0.1.0"])).code == "unknown_import"


def test_unknown_imports_are_named_and_what_there_is_instead():
    refused = refusal(component(["wasi:io/poll@0.2.0", "wasi:nn/tensor@0.2.0", "my:own/thing@1.0.0"]))
    assert refused.code == "unknown_import"
    assert "wasi:nn/tensor@0.2.0, my:own/thing@1.0.0. There are: " in refused.message
    assert "wasi:io/{error,poll,streams}@0.2.12" in refused.message
    assert "fermyon:spin/{key-value,llm," in refused.message


@pytest.mark.parametrize(
    "name", ["wasi:io/poll@0.2.13", "wasi:io/poll@0.2.0-rc-2023-11-10", "wasi:io/poll", "fermyon:spin/llm"]
)
def test_other_versions_are_unknown(name):
    assert refusal(component([name])).code == "unknown_import"


def test_imports_that_are_no_interfaces_are_unknown():
    assert refusal(component(["wasi:io/poll@0.2.0"], sort=Sort.COMPONENT)).code == "unknown_import"


@pytest.mark.parametrize("exports", [(), ("wasi:cli/run@0.2.0",), ("fermyon:spin/inbound-http",)])
def test_a_component_of_another_world_is_told_what_it_exports_and_what_is_needed(exports):
    refused = refusal(component(exports=exports))
    assert refused.code == "wrong_world"
    assert f"it exports {', '.join(exports) or 'nothing'}; a function exports wasi:http/incoming-handler@0.2" in str(
        refused
    )


@pytest.mark.parametrize(
    ("imports", "exports"),
    [((), ("wasi:http/handler@0.3.0",)), (("wasi:http/types@0.3.0-rc-2025-09-16",), (HANDLER,))],
)
def test_wasi_0_3_is_refused_with_what_to_build_instead(imports, exports):
    refused = refusal(component(imports, exports))
    assert refused.code == "wasi_0_3"
    assert "WASI 0.3 is not run here; build it for WASI 0.2: Spin's JavaScript tools" in refused.message


def test_a_core_module_is_refused():
    assert refusal(binary.MODULE).code == "wrong_kind"


def test_what_is_not_webassembly_is_refused():
    assert refusal(b"PK\x03\x04").code == "invalid_wasm"


def test_a_component_that_lies_about_its_types_is_refused_by_the_engine(engine):
    with pytest.raises(FunctionRefused) as refused:
        engine.compile_component(compose.compose(component(["wasi:io/poll@0.2.0"])))
    assert refused.value.code == "invalid_wasm"


def handled(engine, wasm: bytes, folder: Path) -> str:
    code = folder / "code.cwasm"
    code.write_bytes(engine.compile_component(compose.compose(wasm)))
    request = Request("GET", "/clocks", (), b"", 10**18, bytes(32))
    return ComponentProgram(engine, code).run(request, LIMITS, Host()).body.decode()


def test_a_guest_of_an_older_wasi_is_the_same(engine, tmp_path):
    older = GUEST.replace(b"@0.2.12", b"@0.2.10")
    assert handled(engine, older, tmp_path) == handled(engine, GUEST, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.2.0", "0.2.3"])
def test_guests_built_for_an_older_wasi_run(engine, tmp_path, version):
    guests.build(tmp_path, tmp_path, lambda wit: wit.replace("@0.2.12", f"@{version}"))
    wasm = (tmp_path / "conformance.wasm").read_bytes()
    assert f"wasi:io/poll@{version}".encode() in wasm
    assert "slept 1" in handled(engine, wasm, tmp_path)
