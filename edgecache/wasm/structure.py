"""What an upload is, and whether it may be compiled at all: decided from its bytes alone, before any engine sees them.

Says what something else is (an archive, a program for this machine) and what to upload instead. Numbers and names come
from `facts`; whether a component is of the right world is for `compose` to say.
"""

from collections.abc import Iterable

from edgecache.errors import FunctionRefused
from edgecache.wasm import binary
from edgecache.wasm.base import Kind
from edgecache.wasm.facts import Caps, Facts, exports_of, facts

__all__ = ["CALL", "LARGEST_SCRIPT", "Caps", "Facts", "check", "facts", "kind_of"]

CALL = "edgecache.call"
"""The one import of ours that a core module may have."""
ANSWER = "edgecache.answer"
"""Where a command, which has no `alloc`, gets the answer to `CALL` from."""
LARGEST_SCRIPT = 4 * 1024 * 1024
"""Bytes of the largest JavaScript file."""
_CORE = ("memory", "alloc", "handle")
_COMMAND = ("memory", "_start")
_PREVIEW1 = "wasi_snapshot_preview1."

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive; upload the .wasm or .js inside it"),
    (b"PK\x05\x06", "an empty zip archive; upload a .wasm or .js file"),
    (b"\x1f\x8b", "compressed with gzip; upload the file inside it"),
    (b"BZh", "compressed with bzip2; upload the file inside it"),
    (b"\xfd7zXZ\x00", "compressed with xz; upload the file inside it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; upload the file inside it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; upload the .wasm or .js inside it"),
    (b"MZ", "a Windows program; build for WebAssembly"),
    (b"\xfe\xed\xfa", "a macOS program; build for WebAssembly"),
    (b"\xcf\xfa\xed\xfe", "a macOS program; build for WebAssembly"),
    (b"\xca\xfe\xba\xbe", "a Java class or macOS program; build for WebAssembly"),
    (b"BC\xc0\xde", "LLVM bitcode; link it to a .wasm"),
    (b"!<arch>\n", "a static library; link it to a .wasm"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
)
_TEXT: tuple[tuple[str, str], ...] = (
    ("(module", "WebAssembly text; translate it with `wat2wasm` or `wasm-tools parse`"),
    ("(component", "WebAssembly text; translate it with `wasm-tools parse`"),
    ("<!doctype", "an HTML page; upload a .wasm or .js file"),
    ("<html", "an HTML page; upload a .wasm or .js file"),
    ("<?", "XML or PHP; upload a .wasm or .js file"),
)
_TAR = slice(257, 262)
"""Where a tar archive says that it is one."""


def kind_of(artefact: bytes) -> Kind:
    """What `artefact` is; raises FunctionRefused that says what it is instead, and what to do."""
    if not artefact:
        raise FunctionRefused("the upload is empty", code="empty")
    if not artefact.startswith(binary.MAGIC):
        _refuse_foreign(artefact)
        return _script(artefact)
    if artefact[:8] not in (binary.MODULE, binary.COMPONENT):
        raise _unknown_version(artefact[4:8])
    if binary.is_component(artefact):
        return Kind.COMPONENT
    return _core(exports_of(artefact))


def check(found: Facts, kind: Kind, *, memory: int, preview1: Iterable[str]) -> None:
    """Raise FunctionRefused if what was found may not run as `kind`.

    `memory` is the most bytes that a function may have; `preview1` names the functions of WASI preview 1 there are.
    """
    if found.memory > memory:
        raise FunctionRefused(
            f"it starts with {found.memory:,} bytes of memory; this POP gives at most {memory:,} "
            f"({found.memory - memory:,} too many)",
            code="too_much_memory",
        )
    if kind is Kind.CORE:
        _allow(found, {CALL}, f"a core module may import only `{CALL}`; a WASI command exports `_start`")
    elif kind is Kind.COMMAND:
        names = {_PREVIEW1 + name for name in preview1}
        _allow(found, names | {CALL, ANSWER}, f"a command may import WASI preview 1, `{CALL}` and `{ANSWER}`")


def _allow(found: Facts, names: set[str], rule: str) -> None:
    unknown = sorted({name for name in found.imports if name not in names})
    if unknown:
        raise FunctionRefused(f"it imports {_listed(unknown)}: {rule}", code="unknown_import")


def _listed(names: list[str]) -> str:
    """The first of `names`, in printable ASCII: they are the uploader's, and end in logs."""
    shown = ", ".join(f"`{name[:80].encode('unicode_escape').decode()}`" for name in names[:12])
    return shown + (", …" if len(names) > 12 else "")


def _core(exports: list[str]) -> Kind:
    named = set(exports)
    if named.issuperset(_CORE):
        return Kind.CORE
    if named.issuperset(_COMMAND):
        return Kind.COMMAND
    raise FunctionRefused(
        f"this core module exports {_listed(exports) or 'nothing'}; needed are `memory`, `alloc` and `handle`, "
        "or `memory` and `_start` (a WASI command), or else make it a component of the world `wasi:http/proxy`",
        code="wrong_exports",
    )


def _script(artefact: bytes) -> Kind:
    if len(artefact) > LARGEST_SCRIPT:
        raise FunctionRefused(
            f"a script of {len(artefact):,} bytes; at most {LARGEST_SCRIPT:,} "
            f"({len(artefact) - LARGEST_SCRIPT:,} too many)",
            code="too_large",
        )
    try:
        text = artefact.decode()
    except UnicodeDecodeError as error:
        raise FunctionRefused(
            f"neither WebAssembly (which begins with `\\0asm`) nor JavaScript: byte {error.start} is not UTF-8",
            code="unknown_format",
        ) from error
    if (nul := text.find("\0")) >= 0:
        raise FunctionRefused(
            f"neither WebAssembly nor JavaScript: there is a NUL at character {nul}", code="unknown_format"
        )
    _refuse_text(text.lstrip("\ufeff \t\r\n"))
    return Kind.SCRIPT


def _refuse_text(text: str) -> None:
    if not text:
        raise FunctionRefused("the upload holds nothing but blanks", code="empty")
    beginning = text[:16].lower()
    for prefix, what in _TEXT:
        if beginning.startswith(prefix):
            raise FunctionRefused(f"this is {what}", code="unknown_format")


def _refuse_foreign(artefact: bytes) -> None:
    for prefix, what in _FOREIGN:
        if artefact.startswith(prefix):
            raise FunctionRefused(f"this is {what}", code="unknown_format")
    if artefact.startswith(b"\x7fELF"):
        compiled = b".wasmtime" in artefact
        what = (
            "compiled WebAssembly (.cwasm); upload the .wasm" if compiled else "a Linux program; build for WebAssembly"
        )
        raise FunctionRefused(f"this is {what}", code="unknown_format")
    if artefact[_TAR] == b"ustar":
        raise FunctionRefused("this is a tar archive; upload the .wasm or .js inside it", code="unknown_format")
    if artefact[2:4] == b"\r\n" and artefact[:2] != b"\r\n" and not artefact[:2].isascii():
        raise FunctionRefused("this is Python bytecode; upload a component built from it", code="unknown_format")


def _unknown_version(version: bytes) -> FunctionRefused:
    if len(version) < 4:
        return FunctionRefused("the upload ends in the middle of its first 8 bytes", code="invalid_wasm")
    return FunctionRefused(
        f"WebAssembly of the unknown version {version.hex()}; 01000000 is a core module, 0d000100 a component",
        code="invalid_wasm",
    )
