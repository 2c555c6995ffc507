"""The binary format of WebAssembly modules and components: numbers, names, vectors and sections, read and written.

Knows how bytes are framed, not what they mean beyond the imports and exports of a component: what a module may hold is
`structure`'s part, the code itself the engine's. WebAssembly core specification, chapter 5, and Binary.md of the
component model.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from edgecache.errors import FunctionRefused

MAGIC = b"\0asm"
MODULE = MAGIC + b"\x01\x00\x00\x00"
"""How a core module begins."""
COMPONENT = MAGIC + b"\x0d\x00\x01\x00"
"""How a component begins."""
_EXTERN_NAMES = (0x00, 0x01)
"""How names of imports and exports begin: plain names, and those of interfaces (older tools tell them apart)."""


class ComponentSection(IntEnum):
    """The sections of a component."""

    CUSTOM = 0
    CORE_MODULE = 1
    CORE_INSTANCE = 2
    CORE_TYPE = 3
    COMPONENT = 4
    INSTANCE = 5
    ALIAS = 6
    TYPE = 7
    CANON = 8
    START = 9
    IMPORT = 10
    EXPORT = 11
    VALUE = 12


class Sort(IntEnum):
    """What an import, an export or an argument of a component is."""

    CORE = 0
    """A core module; the only core thing that crosses."""
    FUNCTION = 1
    VALUE = 2
    TYPE = 3
    COMPONENT = 4
    INSTANCE = 5


class Extern(NamedTuple):
    """An import or export of a component."""

    name: str
    sort: Sort


class Section(NamedTuple):
    """A section: its number, and where its content begins and ends in the binary."""

    number: int
    start: int
    end: int


class Reader:
    """A position in `data` that moves as things are read; never past `end`.

    Every method raises FunctionRefused (`invalid_wasm`) where the bytes are not what they have to be.
    """

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = start
        self.end = len(data) if end is None else end

    @property
    def more(self) -> bool:
        """True while something is left to read."""
        return self.position < self.end

    def byte(self) -> int:
        """The next byte."""
        if self.position >= self.end:
            raise self.wrong("ends in the middle of something")
        value = self.data[self.position]
        self.position += 1
        return value

    def skip(self, length: int) -> None:
        """Go on by `length` bytes."""
        if length > self.end - self.position:
            raise self.wrong(f"{length} bytes announced, {self.end - self.position} left")
        self.position += length

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        start = self.position
        self.skip(length)
        return self.data[start : self.position]

    def u32(self) -> int:
        """An unsigned number of at most 32 bits (LEB128)."""
        value = self._leb(5)
        if value >= 1 << 32:
            raise self.wrong("a number has more than 32 bits")
        return value

    def signed(self, bits: int) -> int:
        """A signed number of at most `bits` bits (LEB128)."""
        start = self.position
        value = self._leb((bits + 6) // 7)
        width = 7 * (self.position - start)
        value -= (value >> (width - 1)) << width
        if not -1 << (bits - 1) <= value < 1 << (bits - 1):
            raise self.wrong(f"a number has more than {bits} bits")
        return value

    def name(self) -> str:
        """A name: its length, and that many bytes of UTF-8."""
        raw = self.take(self.u32())
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.wrong("a name is not UTF-8") from error

    def extern_name(self) -> str:
        """The name of an import or export of a component."""
        if self.byte() not in _EXTERN_NAMES:
            raise self.wrong("the name of an import or export is of an unknown form")
        return self.name()

    def _leb(self, longest: int) -> int:
        value = 0
        for index in range(longest):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value
        raise self.wrong(f"a number is longer than {longest} bytes")

    def wrong(self, what: str) -> FunctionRefused:
        """The error that says `what` is wrong, and where."""
        return FunctionRefused(f"not valid WebAssembly: {what} (at byte {self.position})", code="invalid_wasm")


def leb(value: int) -> bytes:
    """`value`, not negative, as unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sleb(value: int) -> bytes:
    """`value` as signed LEB128."""
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def name(text: str) -> bytes:
    """A name."""
    raw = text.encode()
    return leb(len(raw)) + raw


def extern_name(text: str) -> bytes:
    """The name of an import or export of a component."""
    return b"\x00" + name(text)


def vec(items: Iterable[bytes]) -> bytes:
    """A vector: how many, then each."""
    listed = list(items)
    return leb(len(listed)) + b"".join(listed)


def section(number: int, content: bytes) -> bytes:
    """A section."""
    return bytes([number]) + leb(len(content)) + content


def is_component(binary: bytes) -> bool:
    """True for a component, False for a core module; raises FunctionRefused for anything else."""
    head = binary[:8]
    if head not in (MODULE, COMPONENT):
        raise FunctionRefused(f"not valid WebAssembly: it begins with {head.hex() or 'nothing'}", code="invalid_wasm")
    return head == COMPONENT


def sections(binary: bytes, start: int = 0, end: int | None = None) -> Iterator[Section]:
    """The sections of the module or component that is `binary[start:end]`, in order."""
    reader = Reader(binary, start, end)
    is_component(reader.take(min(8, reader.end - reader.position)))
    while reader.more:
        number, length = reader.byte(), reader.u32()
        found = Section(number, reader.position, reader.position + length)
        reader.skip(length)
        yield found


def component_imports(binary: bytes) -> list[Extern]:
    """What a component imports, in order; raises FunctionRefused."""
    return list(_externs(binary, ComponentSection.IMPORT))


def component_exports(binary: bytes) -> list[Extern]:
    """What a component exports, in order; raises FunctionRefused."""
    return list(_externs(binary, ComponentSection.EXPORT))


def _externs(binary: bytes, wanted: ComponentSection) -> Iterator[Extern]:
    for number, start, end in sections(binary):
        if number == wanted:
            reader = Reader(binary, start, end)
            for _ in range(reader.u32()):
                yield _import(reader) if wanted == ComponentSection.IMPORT else _export(reader)
            if reader.more:
                raise reader.wrong("a section is longer than what it holds")


def _import(reader: Reader) -> Extern:
    return Extern(reader.extern_name(), _described(reader))


def _export(reader: Reader) -> Extern:
    named = reader.extern_name()
    sort = _sort(reader)
    if sort == Sort.CORE:
        reader.byte()
    reader.u32()
    if reader.byte():  # the type that it is given, if any
        _described(reader)
    return Extern(named, sort)


def _described(reader: Reader) -> Sort:
    """The sort of a type description, which is read to its end."""
    sort = _sort(reader)
    if sort == Sort.VALUE:
        raise reader.wrong("values cannot be imported or exported")
    if sort == Sort.TYPE and reader.byte() == 1:  # a fresh resource: described by nothing else
        return sort
    if sort == Sort.CORE:
        reader.byte()
    reader.u32()
    return sort


def _sort(reader: Reader) -> Sort:
    value = reader.byte()
    if value > Sort.INSTANCE:
        raise reader.wrong(f"an import or export is of the unknown sort {value}")
    return Sort(value)
