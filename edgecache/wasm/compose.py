"""Putting a developer's component between our adapter and our driver: one component with one import, `host.call`.

    host.call <- adapter <- the developer's component <- driver <- handle(meta, body)

The adapter gives everything that WASI and Spin have, inside the sandbox (`adapter/README.md`); no function of the host
is linked but the one. Looks at names only: whether the types fit, the engine says when it compiles the result.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import groupby

from edgecache.errors import FunctionRefused
from edgecache.wasm import binary
from edgecache.wasm.binary import ComponentSection, Extern, Sort

HOST = "edgecache:adapter/host@0.1.0"
"""The one import of what `compose` makes."""
HANDLE = "handle"
"""Its one export."""
_HANDLER = "wasi:http/incoming-handler"
_NEWEST = (0, 2, 12)
"""The WASI that the adapter has; every 0.2 before it is a part of it."""
_WASI = re.compile(r"(wasi:[a-z-]+/[a-z-]+)@0\.2\.(\d+)")
_WASI_3 = re.compile(r"wasi:[a-z-]+/[a-z-]+@0\.3\b.*")
_BUILD_FOR_2 = (
    "build it for WASI 0.2: Spin's JavaScript tools with @spinframework/wasi-http-proxy 1.x, Spin's Python SDK 3.x, "
    "componentize-py or jco with the world wasi:http/proxy@0.2, cargo component, or wasm32-wasip2"
)


def compose(user: bytes) -> bytes:
    """The component that runs `user`, a standard `wasi:http/incoming-handler@0.2` component, over `host.call` alone.

    Raises FunctionRefused: `invalid_wasm`, `wrong_kind` (a core module), `wasi_0_3`, `unknown_import` or `wrong_world`.
    """
    if not binary.is_component(user):
        raise FunctionRefused("this is a core module, not a component", code="wrong_kind")
    imports, exports = binary.component_imports(user), binary.component_exports(user)
    _refuse_wasi_3(imports, exports)
    sources = _sources(imports)
    handler = _handler(exports)
    return _nested(user, sources, handler)


def available() -> tuple[str, ...]:
    """The interfaces that a component may import."""
    inner = "edgecache:adapter/control@"
    return tuple(
        each.name for each in binary.component_exports(_artefact("adapter")) if not each.name.startswith(inner)
    )


@cache
def _artefact(name: str) -> bytes:
    """One of the two components that are built by `make adapter`."""
    return (files("edgecache.wasm.adapter") / f"{name}.wasm").read_bytes()


def _refuse_wasi_3(imports: Iterable[Extern], exports: Iterable[Extern]) -> None:
    for verb, externs in (("exports", exports), ("imports", imports)):
        for each in externs:
            if _WASI_3.fullmatch(each.name):
                message = f"it {verb} {each.name}: WASI 0.3 is not run here; {_BUILD_FOR_2}"
                raise FunctionRefused(message, code="wasi_0_3")


def _sources(imports: Iterable[Extern]) -> dict[str, str]:
    """Which interface of the adapter (or HOST) each import gets; raises FunctionRefused with all that get none."""
    offered = set(available())
    found: dict[str, str] = {}
    unknown: list[str] = []
    for name, sort in imports:
        source = _offered_for(name)
        if sort == Sort.INSTANCE and (source in offered or source == HOST):
            found[name] = source
        else:
            unknown.append(name)
    if unknown:
        message = f"it imports what is not here: {', '.join(unknown)}. There are: {_listed(offered)}"
        raise FunctionRefused(message, code="unknown_import")
    return found


def _offered_for(name: str) -> str:
    match = _WASI.fullmatch(name)
    if match and int(match[2]) <= _NEWEST[2]:
        return f"{match[1]}@{'.'.join(map(str, _NEWEST))}"
    return name


def _listed(offered: Iterable[str]) -> str:
    """Interfaces by package: `wasi:io/{error,poll,streams}@0.2.12`."""
    split = sorted((package, version, name) for package, name, version in map(_parts, offered))
    groups = groupby(split, key=lambda each: each[:2])
    return ", ".join(
        f"{package}/{{{','.join(name for *_, name in members)}}}@{version}" for (package, version), members in groups
    )


def _parts(interface: str) -> tuple[str, str, str]:
    path, _, version = interface.partition("@")
    package, _, name = path.partition("/")
    return package, name, version


def _handler(exports: list[Extern]) -> str:
    """The export that handles requests; raises FunctionRefused with what there is instead."""
    for name, sort in exports:
        match = _WASI.fullmatch(name)
        if match and match[1] == _HANDLER and int(match[2]) <= _NEWEST[2] and sort == Sort.INSTANCE:
            return name
    there = ", ".join(each.name for each in exports) or "nothing"
    newest = ".".join(map(str, _NEWEST))
    message = f"it exports {there}; a function exports {_HANDLER}@0.2.0 to {newest}: {_BUILD_FOR_2}"
    raise FunctionRefused(message, code="wrong_world")


def _nested(user: bytes, sources: dict[str, str], handler: str) -> bytes:
    """The outer component: three components, each instantiated with what it imports from the ones before."""
    outer = _Outer()
    host = outer.import_host()
    for part in (_artefact("adapter"), user, _artefact("driver")):
        outer.add(ComponentSection.COMPONENT, part)
    adapter = outer.instantiate(0, {HOST: host})

    def from_adapter(name: str) -> int:
        return host if name == HOST else outer.exported_instance(adapter, name)

    function = outer.instantiate(1, {name: from_adapter(source) for name, source in sources.items()})
    handles = outer.exported_instance(function, handler)
    needs = [each.name for each in binary.component_imports(_artefact("driver"))]
    driver = outer.instantiate(
        2, {name: handles if name.startswith(_HANDLER) else from_adapter(name) for name in needs}
    )
    outer.export_function(driver, HANDLE)
    return outer.written()


class _Outer:
    """A component that is being written. Instances are numbered in the order in which they come to be."""

    def __init__(self) -> None:
        self._sections = [binary.COMPONENT]
        self._instances = 0
        self._aliases: dict[tuple[int, str], int] = {}

    def add(self, number: ComponentSection, content: bytes) -> None:
        """One more section."""
        self._sections.append(binary.section(number, content))

    def import_host(self) -> int:
        """Import `host`, an instance with `call: func(op: string, arg: string) -> string`; its number."""
        string = b"\x73"
        call = b"\x40" + binary.vec([binary.name("op") + string, binary.name("arg") + string]) + b"\x00" + string
        declared = [b"\x01" + call, b"\x04" + binary.extern_name("call") + bytes([Sort.FUNCTION, 0])]
        self.add(ComponentSection.TYPE, binary.vec([b"\x42" + binary.vec(declared)]))
        imported = binary.extern_name(HOST) + bytes([Sort.INSTANCE, 0])
        self.add(ComponentSection.IMPORT, binary.vec([imported]))
        return self._next()

    def instantiate(self, component: int, arguments: dict[str, int]) -> int:
        """An instance of a component that was added before, given instances by the names that it imports."""
        given = [binary.name(name) + bytes([Sort.INSTANCE]) + binary.leb(index) for name, index in arguments.items()]
        self.add(ComponentSection.INSTANCE, binary.vec([b"\x00" + binary.leb(component) + binary.vec(given)]))
        return self._next()

    def exported_instance(self, instance: int, name: str) -> int:
        """An instance that another one exports."""
        known = self._aliases.get((instance, name))
        if known is None:
            self._alias(Sort.INSTANCE, instance, name)
            known = self._aliases[instance, name] = self._next()
        return known

    def export_function(self, instance: int, name: str) -> None:
        """Export a function of an instance, under its own name; the only one, so its number is 0."""
        self._alias(Sort.FUNCTION, instance, name)
        exported = binary.extern_name(name) + bytes([Sort.FUNCTION, 0]) + b"\x00"
        self.add(ComponentSection.EXPORT, binary.vec([exported]))

    def written(self) -> bytes:
        """The binary."""
        return b"".join(self._sections)

    def _alias(self, sort: Sort, instance: int, name: str) -> None:
        alias = bytes([sort, 0x00]) + binary.leb(instance) + binary.name(name)
        self.add(ComponentSection.ALIAS, binary.vec([alias]))

    def _next(self) -> int:
        self._instances += 1
        return self._instances - 1
