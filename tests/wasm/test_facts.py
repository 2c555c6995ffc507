import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.errors import FunctionRefused
from edgecache.wasm import engine
from edgecache.wasm.binary import COMPONENT, MODULE, leb, name, section, vec
from edgecache.wasm.facts import Caps, exports_of, facts
from tests.wasm import bombs

PLAIN = bombs.module(bombs.tiny(), bombs.branchy(12, 3), imports=(("edgecache", "call"),), pages=3)
BOMBS = {
    "many functions": (lambda: bombs.module(*[bombs.tiny()] * 200_000), "200,001 functions"),
    "long function": (lambda: bombs.module(bombs.straight(2_400_000)), "7,200,004 bytes in one function"),
    "many locals": (lambda: bombs.module(bombs.branchy(5000, 20_000)), "bytes times locals in one function"),
    "the most locals": (lambda: bombs.module(bombs.branchy(50_000, 10)), "50,000 locals in one function"),
    "many dear functions": (lambda: bombs.module(*[bombs.branchy(1000, 12_000)] * 15), "summed over its functions"),
    "49 MB": (lambda: bombs.module(*[bombs.straight(4800)] * 3400), "bytes of code"),
    "declarations": (
        lambda: bombs.module(*[leb(500_000) + b"\x00\x7f" * 500_000 + bombs.END] * 3),
        "declarations of locals",
    ),
    "imports": (lambda: bombs.module(bombs.tiny(), imports=(("a", "b"),) * 20_000), "20,000 imports"),
    "types announced": (lambda: MODULE + section(1, leb(4_000_000_000)), "4,000,000,000 types"),
    "segments announced": (lambda: MODULE + section(11, leb(4_000_000_000)), "segments"),
    "a large table": (lambda: MODULE + section(4, vec([b"\x70\x00" + leb(10_000_000)])), "10,000,000 elements"),
    "memories": (lambda: MODULE + section(5, vec([b"\x00\x01"] * 50)), "50 memories"),
    "modules": (lambda: bombs.component(*[MODULE] * 1000), "81 core modules"),
    "sections": (lambda: MODULE + b"\0\0" * 20_000_000, "20,001 sections"),
    "sections of a component": (lambda: COMPONENT + b"\0\0" * 20_000_000, "20,001 sections"),
    "imports of a component": (lambda: COMPONENT + section(10, leb(4_000_000)), "4,000,000 imports"),
    "exports": (lambda: MODULE + section(7, leb(1_000_000)), "1,000,000 exports"),
}


def deep(levels: int) -> bytes:
    inner = COMPONENT
    for _ in range(levels):
        inner = COMPONENT + section(4, inner)
    return inner


def test_a_module_says_what_it_holds() -> None:
    found = facts(PLAIN)
    assert found.bytes == len(PLAIN)
    assert found.imports == ("edgecache.call",)
    assert found.exports == ("memory", "alloc", "handle")
    assert (found.modules, found.functions, found.locals) == (1, 3, 12)
    assert found.function == len(bombs.branchy(12, 3))
    assert found.effort == found.efforts == 12 * found.function
    assert (found.memories, found.memory, found.types) == (1, 3 * 64 * 1024, 2)
    assert not found.starts


def test_the_modules_of_a_component_are_summed_up_at_every_depth() -> None:
    inner = bombs.component(PLAIN)
    found = facts(bombs.component(PLAIN, PLAIN) + section(4, inner) + section(0, name("note") + b"12345"))
    assert (found.modules, found.functions, found.memories) == (3, 9, 3)
    assert found.effort * 3 == found.efforts
    assert found.custom == 10


def test_every_kind_of_section_is_counted() -> None:
    whole = MODULE + b"".join(
        [
            section(4, vec([b"\x70\x01\x05\x0a", b"\x6f\x00\x07"])),
            section(6, vec([b"\x7f\x00\x41\x00\x0b"])),
            section(8, b"\x00"),
            section(9, vec([b"\x00\x41\x00\x0b\x00"])),
            section(11, vec([b"\x00\x41\x00\x0b\x01a"] * 2)),
            section(0, name("producers")),
        ]
    )
    found = facts(whole)
    assert (found.tables, found.elements, found.globals, found.segments, found.custom) == (2, 7, 1, 3, 10)
    assert found.starts


def test_imports_of_every_kind_are_read() -> None:
    kinds = [
        b"\x00\x00",
        b"\x01\x70\x00\x02",
        b"\x02\x01\x01\x02",
        b"\x03\x7f\x00",
        b"\x03\x64\x70\x00",
        b"\x04\x00\x00",
    ]
    whole = MODULE + section(2, vec(name("a") + name(str(index)) + kind for index, kind in enumerate(kinds)))
    assert facts(whole).imports == ("a.0", "a.1", "a.2", "a.3", "a.4", "a.5")
    assert facts(whole).memory == 64 * 1024


@pytest.mark.parametrize("which", BOMBS)
@pytest.mark.slow
def test_a_bomb_is_refused_before_it_is_read_to_its_end(which: str) -> None:
    make, words = BOMBS[which]
    bomb = make()
    begun = time.perf_counter()
    with pytest.raises(FunctionRefused, match=words) as refused:
        facts(bomb)
    assert refused.value.code == "too_complex"
    assert time.perf_counter() - begun < 5  # 0.2 s where nothing else runs


def test_a_refusal_says_by_how_much() -> None:
    with pytest.raises(FunctionRefused, match=r"3 functions; a function may have at most 2 \(1 too many\)"):
        facts(PLAIN, Caps(functions=2))
    with pytest.raises(FunctionRefused, match=r"at most 1 \(3\.0 times as many\)"):
        facts(PLAIN, Caps(functions=1))


def test_what_fits_the_caps_fits_the_pool() -> None:
    caps = Caps()
    assert caps.elements <= engine.TABLE_ELEMENTS
    assert caps.memories + 2 <= engine.MEMORIES  # the adapter and the driver have one each
    assert caps.tables + 2 <= engine.TABLES
    assert caps.modules + 10 <= engine.INSTANCES


def test_nesting_is_bounded() -> None:
    assert facts(deep(5)).modules == 0
    with pytest.raises(FunctionRefused, match="more than 8 deep"):
        facts(deep(100))


@pytest.mark.parametrize("flags", [2, 3, 4, 5], ids=["shared", "shared with maximum", "64 bits", "64 with maximum"])
def test_memories_that_wasm32_does_not_have_are_refused(flags: int) -> None:
    with pytest.raises(FunctionRefused, match="wasm32") as refused:
        facts(MODULE + section(5, vec([bytes([flags]) + b"\x01\x02"])))
    assert refused.value.code == "unsupported"


def test_a_long_name_and_many_imports_are_refused() -> None:
    with pytest.raises(FunctionRefused, match="501 characters"):
        facts(bombs.module(bombs.tiny(), imports=(("a", "b" * 499),)))
    with pytest.raises(FunctionRefused, match="1,001 imports"):
        facts(bombs.module(bombs.tiny(), imports=(("a", "b"),) * 1001))


def test_the_exports_alone() -> None:
    assert exports_of(PLAIN) == ["memory", "alloc", "handle"]


def test_it_is_refused_wherever_it_is_cut_off() -> None:
    nested = bombs.component(PLAIN)
    whole = [PLAIN, nested]
    edges = {8, len(PLAIN)}  # a module that ends between two sections is one with fewer sections
    position = 8
    while position < len(PLAIN):
        position += 2 + PLAIN[position + 1]
        edges.add(position)
    for cut in range(len(PLAIN)):
        if cut not in edges:
            with pytest.raises(FunctionRefused):
                facts(whole[0][:cut])
    for cut in range(9, len(nested)):
        with pytest.raises(FunctionRefused):
            facts(nested[:cut])


@given(st.binary(max_size=400), st.sampled_from([MODULE, COMPONENT]))
def test_random_bytes_are_read_or_refused(noise: bytes, head: bytes) -> None:
    with contextlib.suppress(FunctionRefused):
        facts(head + noise)


@given(st.data())
@settings(max_examples=300)
def test_altered_modules_are_read_or_refused(data: st.DataObject) -> None:
    mutant = bytearray(data.draw(st.sampled_from([PLAIN, bombs.component(PLAIN, PLAIN)])))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(8, len(mutant) - 1))
        match data.draw(st.sampled_from("rid")):
            case "r":
                mutant[at] = data.draw(st.integers(0, 255))
            case "i":
                mutant[at:at] = data.draw(st.binary(max_size=8))
            case "d":
                del mutant[at : at + data.draw(st.integers(1, 8))]
                mutant += b"\x00" * max(0, 10 - len(mutant))
    with contextlib.suppress(FunctionRefused):
        facts(bytes(mutant))
