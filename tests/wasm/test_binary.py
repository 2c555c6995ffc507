import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import FunctionRefused
from edgecache.wasm import binary
from edgecache.wasm.binary import COMPONENT, MODULE, ComponentSection, Extern, Reader, Sort


@given(st.integers(0, 2**32 - 1))
def test_unsigned_numbers_come_back(number):
    reader = Reader(binary.leb(number))
    assert reader.u32() == number
    assert not reader.more


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_numbers_come_back(number):
    reader = Reader(binary.sleb(number))
    assert reader.signed(64) == number
    assert not reader.more


@pytest.mark.parametrize(("number", "written"), [(0, "00"), (127, "7f"), (128, "8001"), (624485, "e58e26")])
def test_unsigned_numbers_are_written_as_the_specification_says(number, written):
    assert binary.leb(number).hex() == written


@pytest.mark.parametrize(
    ("number", "written"), [(-1, "7f"), (63, "3f"), (64, "c000"), (-64, "40"), (-123456, "c0bb78")]
)
def test_signed_numbers_are_written_as_the_specification_says(number, written):
    assert binary.sleb(number).hex() == written


@pytest.mark.parametrize("written", ["ffffffff7f", "808080808000", "80"])
def test_numbers_that_are_too_large_too_long_or_cut_off_are_refused(written):
    with pytest.raises(FunctionRefused) as refused:
        Reader(bytes.fromhex(written)).u32()
    assert refused.value.code == "invalid_wasm"


def test_a_signed_number_that_is_too_large_is_refused():
    with pytest.raises(FunctionRefused, match="more than 32 bits"):
        Reader(binary.sleb(1 << 31)).signed(32)


@given(st.text())
def test_names_come_back(text):
    assert Reader(binary.name(text)).name() == text


def test_a_name_that_is_not_utf8_is_refused():
    with pytest.raises(FunctionRefused, match="not UTF-8"):
        Reader(b"\x02\xc3\x28").name()


def test_what_is_announced_and_missing_is_refused_with_its_place():
    with pytest.raises(FunctionRefused, match=r"10 bytes announced, 2 left \(at byte 1\)"):
        Reader(b"\x0aab").name()


@given(st.lists(st.tuples(st.integers(0, 12), st.binary(max_size=300)), max_size=8))
def test_sections_come_back(pairs):
    written = MODULE + b"".join(binary.section(*pair) for pair in pairs)
    found = [(each.number, written[each.start : each.end]) for each in binary.sections(written)]
    assert found == pairs


@given(st.binary(max_size=64))
def test_whatever_comes_in_is_read_or_refused(junk):
    for read in (binary.component_imports, binary.component_exports):
        with contextlib.suppress(FunctionRefused):
            read(COMPONENT + junk)


@pytest.mark.parametrize("head", [b"", b"\0as", b"PK\3\4abcd", MODULE[:7], b"\0asm\2\0\0\0"])
def test_what_is_not_webassembly_is_refused(head):
    with pytest.raises(FunctionRefused, match="it begins with"):
        binary.is_component(head)


def test_components_and_modules_are_told_apart():
    assert binary.is_component(COMPONENT)
    assert not binary.is_component(MODULE)


def imported(*described: bytes) -> bytes:
    return COMPONENT + binary.section(ComponentSection.IMPORT, binary.vec(described))


def exported(*described: bytes) -> bytes:
    return COMPONENT + binary.section(ComponentSection.EXPORT, binary.vec(described))


def test_imports_of_every_sort_are_listed_in_order():
    component = imported(
        binary.extern_name("a:b/c@0.2.0") + b"\x05\x00",
        binary.extern_name("module") + b"\x00\x11\x02",
        b"\x01" + binary.name("run") + b"\x01\x03",
        binary.extern_name("same") + b"\x03\x00\x04",
        binary.extern_name("fresh") + b"\x03\x01",
        binary.extern_name("whole") + b"\x04\x05",
    )
    assert binary.component_imports(component) == [
        Extern("a:b/c@0.2.0", Sort.INSTANCE),
        Extern("module", Sort.CORE),
        Extern("run", Sort.FUNCTION),
        Extern("same", Sort.TYPE),
        Extern("fresh", Sort.TYPE),
        Extern("whole", Sort.COMPONENT),
    ]
    assert binary.component_exports(component) == []


def test_exports_of_every_sort_are_listed_in_order():
    component = exported(
        binary.extern_name("a:b/c@0.2.0") + b"\x05\x00\x00",
        binary.extern_name("run") + b"\x01\x01\x01\x01\x07",
        binary.extern_name("module") + b"\x00\x11\x02\x00",
        binary.extern_name("fresh") + b"\x03\x02\x01\x03\x01",
    )
    assert binary.component_exports(component) == [
        Extern("a:b/c@0.2.0", Sort.INSTANCE),
        Extern("run", Sort.FUNCTION),
        Extern("module", Sort.CORE),
        Extern("fresh", Sort.TYPE),
    ]


@pytest.mark.parametrize(
    ("described", "what"),
    [
        (b"\x02" + binary.name("x") + b"\x05\x00", "unknown form"),
        (binary.extern_name("x") + b"\x09\x00", "unknown sort 9"),
        (binary.extern_name("x") + b"\x02\x00\x00", "values cannot be imported"),
        (binary.extern_name("x") + b"\x05\x00\x00", "longer than what it holds"),
    ],
)
def test_imports_that_make_no_sense_are_refused(described, what):
    with pytest.raises(FunctionRefused, match=what):
        binary.component_imports(imported(described))
