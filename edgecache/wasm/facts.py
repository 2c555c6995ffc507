"""What a WebAssembly binary says about itself, read from its sections without compiling anything.

The bytes are hostile: nothing is read that was not announced, and what is announced in too large a number is refused
before it is counted out (`Caps`), so that reading takes time in proportion to what may be uploaded. Whether the code is
valid is for the engine to say.
"""

from collections.abc import Iterator
from enum import IntEnum

import msgspec

from edgecache.errors import FunctionRefused
from edgecache.wasm import binary
from edgecache.wasm.binary import ComponentSection, Reader, Section

_PAGE = 64 * 1024
_DEEPEST = 8
"""Components inside components; those of tools nest one deep, composing adds one."""
_IMPORTS = 1000
"""Imports of an upload as a whole."""
_SHOWN = 100
"""Export names that are kept; their number is capped by `Caps.exports`."""
_LONGEST = 500
"""Bytes of the longest name of an import, and of what is kept of one of an export."""
_REFERENCES = (0x63, 0x64)
"""The prefixes of types that name a heap type behind them."""


class _Part(IntEnum):
    """The sections of a core module that are looked into."""

    CUSTOM = 0
    TYPE = 1
    IMPORT = 2
    TABLE = 4
    MEMORY = 5
    GLOBAL = 6
    EXPORT = 7
    START = 8
    ELEMENT = 9
    CODE = 10
    DATA = 11


class Caps(msgspec.Struct, frozen=True):
    """The most of each thing an upload may hold, all of its core modules together unless said otherwise.

    Set by what tools really make (in brackets: the most seen in Spin's JavaScript and Python applications, the largest
    of them 37 MB) and by what compiling costs.
    """

    sections: int = 20_000
    """Sections of components and modules (1,205)."""
    modules: int = 80
    """Core modules in a component (14); a sandbox has room for 100 with the adapter's."""
    declarations: int = 1_000_000
    """Declarations of locals (several of one type count once)."""
    functions: int = 100_000
    """Functions with a body (19,900)."""
    function: int = 2 * 1024 * 1024
    """Bytes of the largest function (756,000)."""
    code: int = 32 * 1024 * 1024
    """Bytes of all functions (10.7 million)."""
    locals: int = 20_000
    """Locals of one function (483)."""
    effort: int = 200_000_000
    """Locals times bytes of one function (23 million): what register allocation takes grows with it."""
    efforts: int = 2_000_000_000
    """The same, summed over all functions (203 million)."""
    imports: int = 10_000
    """Imports of components and core modules (3,300; all but a few dozen from each other)."""
    exports: int = 50_000
    """Exports of components and core modules (6,900)."""
    types: int = 50_000
    """Types (2,400)."""
    globals: int = 50_000
    """Globals (900)."""
    segments: int = 200_000
    """Element and data segments (13,700)."""
    tables: int = 80
    """Tables (3)."""
    elements: int = 20_000
    """Elements of one table at the start (7,700)."""
    memories: int = 3
    """Memories (2); a sandbox has room for 5 with the adapter's two."""


class Facts(msgspec.Struct, frozen=True):
    """What an upload holds, all of its core modules together; `bytes` alone for a script.

    `imports` and `exports` are those of the upload as a whole, `module.name` for core modules. `function` is the size
    of the largest one in bytes, `locals` the most of one function, `effort` the most of locals times bytes, `memory`
    the bytes of the largest memory at the start and `elements` those of the largest table.
    """

    bytes: int
    imports: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    modules: int = 0
    functions: int = 0
    function: int = 0
    locals: int = 0
    effort: int = 0
    efforts: int = 0
    code: int = 0
    types: int = 0
    globals: int = 0
    segments: int = 0
    tables: int = 0
    elements: int = 0
    memories: int = 0
    memory: int = 0
    custom: int = 0
    starts: bool = False


def facts(artefact: bytes, caps: Caps | None = None) -> Facts:
    """What `artefact`, a core module or component, holds; raises FunctionRefused where it is not well formed.

    And where it has more of something than `caps` allows (code `too_complex`): the message names the cap.
    """
    caps = caps or Caps()
    tally = _Tally(artefact, caps)
    if binary.is_component(artefact):
        tally.component(0, len(artefact), 1)
        imports = [extern.name for extern in binary.component_imports(artefact)]
        exports = [extern.name for extern in binary.component_exports(artefact)]
    else:
        imports, exports = tally.module(0, len(artefact))
    return Facts(
        bytes=len(artefact),
        imports=_importable(imports),
        exports=tuple(name[:_LONGEST] for name in exports[:_SHOWN]),
        starts=tally.starts,
        **tally.found,
    )


def exports_of(module: bytes) -> list[str]:
    """The names that a core module exports; raises FunctionRefused."""
    return _Tally(module, Caps()).exports(0, len(module))


def _importable(names: list[str]) -> tuple[str, ...]:
    if len(names) > _IMPORTS:
        raise FunctionRefused(f"{len(names):,} imports; a function may have at most {_IMPORTS:,}", code="too_complex")
    longest = max(map(len, names), default=0)
    if longest > _LONGEST:
        raise FunctionRefused(f"an import's name has {longest:,} characters; at most {_LONGEST}", code="too_complex")
    return tuple(names)


_NUMBERED = {
    _Part.TYPE: "types",
    _Part.GLOBAL: "globals",
    _Part.ELEMENT: "segments",
    _Part.DATA: "segments",
}
"""Sections of which only the number of entries is of interest."""
_EXTERNS: dict[int, str] = {ComponentSection.IMPORT: "imports", ComponentSection.EXPORT: "exports"}
_COUNTED = tuple(field for field in Facts.__struct_fields__ if field not in {"bytes", "imports", "exports", "starts"})


class _Tally:
    """Reads modules, one after the other, and sums up."""

    def __init__(self, data: bytes, caps: Caps) -> None:
        self._data = data
        self._caps = caps
        self.found = dict.fromkeys(_COUNTED, 0)
        self.starts = False
        self._unlisted = {"sections": 0, "imports": 0, "exports": 0, "declarations": 0}

    def component(self, start: int, end: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise FunctionRefused(f"components are nested more than {_DEEPEST} deep", code="too_complex")
        for section in self._sections(start, end):
            if section.number == ComponentSection.CORE_MODULE:
                self.module(section.start, section.end)
            elif section.number == ComponentSection.COMPONENT:
                self.component(section.start, section.end, depth + 1)
            elif section.number == ComponentSection.CUSTOM:
                self.found["custom"] += section.end - section.start
            elif section.number in _EXTERNS:
                self._add(_EXTERNS[section.number], Reader(self._data, section.start, section.end).u32())

    def exports(self, start: int, end: int) -> list[str]:
        names: list[str] = []
        for section in self._sections(start, end):
            if section.number == _Part.EXPORT:
                names += self._exports(Reader(self._data, section.start, section.end))
        return names

    def module(self, start: int, end: int) -> tuple[list[str], list[str]]:
        """Count what the module holds; the names of its imports and exports."""
        self._add("modules", 1)
        imports: list[str] = []
        exports: list[str] = []
        for section in self._sections(start, end):
            reader = Reader(self._data, section.start, section.end)
            match section.number:
                case _Part.IMPORT:
                    imports += self._imports(reader)
                case _Part.EXPORT:
                    exports += self._exports(reader)
                case _Part.CODE:
                    self._code(reader)
                case number:
                    self._rest(number, reader)
        return imports, exports

    def _sections(self, start: int, end: int) -> Iterator[Section]:
        for section in binary.sections(self._data, start, end):
            self._add("sections", 1)
            yield section

    def _rest(self, number: int, reader: Reader) -> None:
        match number:
            case _Part.CUSTOM:
                self.found["custom"] += reader.end - reader.position
            case _Part.TABLE:
                for _ in range(self._add("tables", reader.u32())):
                    self._table(reader)
            case _Part.MEMORY:
                for _ in range(self._add("memories", reader.u32())):
                    self._memory(reader)
            case _Part.START:
                self.starts = True
            case _ if number in _NUMBERED:
                self._add(_NUMBERED[_Part(number)], reader.u32())

    def _add(self, what: str, count: int) -> int:
        """Add `count` to `what`, unless that is too much; `count`."""
        tally = self._unlisted if what in self._unlisted else self.found
        tally[what] += count
        self._hold(what, tally[what])
        return count

    def _hold(self, what: str, value: int) -> None:
        exceeded(what, value, getattr(self._caps, what))

    def _imports(self, reader: Reader) -> list[str]:
        return [self._import(reader) for _ in range(self._add("imports", reader.u32()))]

    def _import(self, reader: Reader) -> str:
        named = f"{reader.name()}.{reader.name()}"
        match reader.byte():
            case 0:
                reader.u32()
            case 1:
                self._table(reader)
            case 2:
                self._memory(reader)
            case 3:
                _value_type(reader)
                reader.byte()
            case 4:
                reader.skip(1)
                reader.u32()
            case _:
                raise reader.wrong("an import is of an unknown kind")
        return named

    def _exports(self, reader: Reader) -> list[str]:
        names = []
        for _ in range(self._add("exports", reader.u32())):
            names.append(reader.name())
            reader.skip(1)
            reader.u32()
        return names

    def _table(self, reader: Reader) -> None:
        if self._data[reader.position : reader.position + 1] == b"\x40":  # a table with an initial value follows
            reader.skip(2)
        _value_type(reader)
        self._most("elements", _limits(reader))

    def _memory(self, reader: Reader) -> None:
        self.found["memory"] = max(self.found["memory"], _limits(reader) * _PAGE)

    def _code(self, reader: Reader) -> None:
        self._add("code", reader.end - reader.position)
        for _ in range(self._add("functions", reader.u32())):
            size = reader.u32()
            self._most("function", size)
            start = reader.position
            reader.skip(size)
            count = self._locals(Reader(self._data, start, reader.position))
            self._most("locals", count)
            self._most("effort", count * size)
            self._add("efforts", count * size)

    def _most(self, what: str, value: int) -> None:
        if value > self.found[what]:
            self.found[what] = value
            self._hold(what, value)

    def _locals(self, reader: Reader) -> int:
        count = 0
        for _ in range(self._add("declarations", reader.u32())):
            count += reader.u32()
            _value_type(reader)
        return count


def _value_type(reader: Reader) -> None:
    if reader.byte() in _REFERENCES:
        reader.signed(33)


def _limits(reader: Reader) -> int:
    """The least of a table's or memory's limits. Flags: 1 = has a maximum, 2 = shared, 4 = 64 bits."""
    flags = reader.byte()
    if flags & ~1:
        raise FunctionRefused(
            "shared (threads) and 64-bit memories and tables are not supported: build for plain wasm32",
            code="unsupported",
        )
    least = reader.u32()
    if flags & 1:
        reader.u32()
    return least


_NAMES = {
    "sections": "sections",
    "modules": "core modules",
    "declarations": "declarations of locals",
    "functions": "functions",
    "function": "bytes in one function",
    "code": "bytes of code",
    "locals": "locals in one function",
    "effort": "bytes times locals in one function",
    "efforts": "bytes times locals, summed over its functions",
    "types": "types",
    "globals": "globals",
    "segments": "element and data segments",
    "tables": "tables",
    "elements": "elements in one table at the start",
    "memories": "memories",
    "imports": "imports",
    "exports": "exports",
}


def exceeded(what: str, value: int, cap: int) -> None:
    """Raise FunctionRefused (`too_complex`) if `value` of what the caps call `what` is over `cap`."""
    if value > cap:
        over = f"{value / cap:.1f} times as many" if value > 2 * cap else f"{value - cap:,} too many"
        raise FunctionRefused(
            f"{value:,} {_NAMES[what]}; a function may have at most {cap:,} ({over})", code="too_complex"
        )
