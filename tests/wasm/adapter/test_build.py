from pathlib import Path

import pytest

from edgecache.wasm import binary
from edgecache.wasm.adapter import build
from edgecache.wasm.adapter.build import HERE, Signature
from edgecache.wasm.binary import MODULE, ComponentSection
from tests.adapter.guests import build as guests

I32, I64 = 0x7F, 0x7E


def test_the_committed_digests_are_those_of_the_committed_components():
    assert (HERE / "DIGESTS").read_text() == build.digests(HERE)


@pytest.mark.slow
def test_the_committed_components_are_what_the_sources_give(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    build.build(tmp_path / "work", out)
    for name in (*build.ARTEFACTS, "DIGESTS", "src/stubs.c"):
        assert (out / name).read_bytes() == (HERE / name).read_bytes(), f"{name}: run `make adapter`"


@pytest.mark.slow
def test_the_committed_guests_are_what_their_sources_give(tmp_path: Path):
    guests.build(tmp_path, tmp_path)
    for name in guests.WORLDS:
        committed = (guests.HERE / f"{name}.wasm").read_bytes()
        assert (tmp_path / f"{name}.wasm").read_bytes() == committed, "run `python -m tests.adapter.guests.build`"


def module(*content: bytes) -> bytes:
    return MODULE + b"".join(content)


def test_exported_functions_are_found_with_their_types():
    types = binary.section(1, binary.vec([b"\x60\x02\x7f\x7e\x01\x7f", b"\x60\x00\x00"]))
    imports = binary.section(2, binary.vec([binary.name("m") + binary.name("f") + b"\x00\x01"]))
    functions = binary.section(3, binary.vec([b"\x00", b"\x01"]))
    memory = binary.name("memory") + b"\x02\x00"
    exports = binary.section(7, binary.vec([binary.name("a") + b"\x00\x01", memory, binary.name("b") + b"\x00\x02"]))
    assert build.exported_functions(module(types, imports, functions, exports)) == {
        "a": Signature(bytes([I32, I64]), bytes([I32])),
        "b": Signature(b"", b""),
    }


def test_what_is_not_written_becomes_a_trap():
    wanted = {
        "written": Signature(b"", b""),
        "missing": Signature(bytes([I32, I64]), bytes([I32])),
        "missing_post": Signature(bytes([I32]), b""),
        "thing_dtor": Signature(bytes([I32]), b""),
    }
    written = build.stubs(wanted, {"written"}).splitlines()
    assert written[-1] == 'EXPORT("missing") u32 stub_0(u32 p0, u64 p1) { __builtin_trap(); }'
    assert sum("stub_" in line for line in written) == 1


def test_a_mistyped_name_is_found():
    with pytest.raises(ValueError, match="not functions of the adapter's world: mistyped"):
        build.stubs({"typed": Signature(b"", b"")}, {"mistyped"})


def test_custom_sections_are_left_out_of_a_component_and_what_is_nested_in_it():
    custom = binary.section(0, binary.name("name") + b"secret")
    nested = module(custom, binary.section(1, b"\x00"))
    written = binary.COMPONENT + custom + binary.section(ComponentSection.CORE_MODULE, nested)
    kept = build.without_names(written)
    assert b"secret" not in kept
    assert [each.number for each in binary.sections(kept)] == [ComponentSection.CORE_MODULE]


def test_a_tool_that_fails_says_what_it_said(tmp_path: Path):
    source = tmp_path / "bad.c"
    source.write_text("int f(void) { return nothing; }")
    with pytest.raises(RuntimeError, match="nothing"):
        build.Toolchain(tmp_path).compile([source], tmp_path / "bad.wasm")
