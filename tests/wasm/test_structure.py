import contextlib
import io
import py_compile
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import FunctionRefused
from edgecache.wasm import structure
from edgecache.wasm.base import Kind
from edgecache.wasm.binary import COMPONENT, MODULE, name, section, vec
from edgecache.wasm.structure import check, facts, kind_of
from tests.wasm import bombs

CORE = bombs.module(bombs.tiny())


def exporting(*names: str) -> bytes:
    return MODULE + section(7, vec(name(each) + b"\x00\x00" for each in names))


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("../../etc/function.wasm", CORE)
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../function.wasm"))
    return content.getvalue()


REFUSED = {
    "empty": (b"", "empty", "is empty"),
    "blank": (b" \n\t ", "empty", "nothing but blanks"),
    "zip": (zipped(), "unknown_format", "this is a zip archive; upload the .wasm or .js inside it"),
    "tar": (tarred(), "unknown_format", "tar archive"),
    "gzip": (b"\x1f\x8b\x08\x00rest", "unknown_format", "gzip"),
    "zstd": (b"\x28\xb5\x2f\xfdrest", "unknown_format", "zstd"),
    "Windows program": (b"MZ\x90\x00", "unknown_format", "Windows"),
    "Linux program": (Path(sys.executable).read_bytes()[:4096], "unknown_format", "Linux program"),
    "macOS program": (b"\xcf\xfa\xed\xfe\x07", "unknown_format", "macOS"),
    "machine code": (b"\x7fELF" + bytes(100) + b".wasmtime.engine", "unknown_format", "compiled WebAssembly"),
    "static library": (b"!<arch>\nfoo.o/", "unknown_format", "static library"),
    "bitcode": (b"BC\xc0\xde", "unknown_format", "LLVM"),
    "WebAssembly text": (b"  (module (func))", "unknown_format", "wat2wasm"),
    "component text": (b"(component)", "unknown_format", "wasm-tools parse"),
    "HTML": (b"<!DOCTYPE html>", "unknown_format", "HTML"),
    "UTF-16": ("export default {}".encode("utf-16"), "unknown_format", "byte 0 is not UTF-8"),
    "NUL": (b"let a = 1;\0", "unknown_format", "NUL at character 10"),
    "large script": (b"/" * (structure.LARGEST_SCRIPT + 5), "too_large", r"\(5 too many\)"),
    "only a magic": (b"\0asm", "invalid_wasm", "first 8 bytes"),
    "half a version": (b"\0asm\x01\x00", "invalid_wasm", "first 8 bytes"),
    "another version": (b"\0asm\x02\x00\x00\x00", "invalid_wasm", "unknown version 02000000"),
    "cut off": (CORE[:20], "invalid_wasm", "bytes announced"),
    "no exports": (MODULE, "wrong_exports", "exports nothing; needed are `memory`"),
    "a reactor": (exporting("memory", "_initialize"), "wrong_exports", "exports `memory`, `_initialize`"),
    "no alloc": (exporting("memory", "handle"), "wrong_exports", "`alloc` and `handle`"),
    "names for a terminal": (exporting("\x1b[31m"), "wrong_exports", r"`\\x1b\[31m`"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_is_no_function_is_named(which: str) -> None:
    upload, code, words = REFUSED[which]
    with pytest.raises(FunctionRefused, match=words) as refused:
        kind_of(upload)
    assert refused.value.code == code


def test_python_bytecode_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    compiled = py_compile.compile(str(tmp_path / "a.py"))
    with pytest.raises(FunctionRefused, match="Python bytecode"):
        kind_of(Path(str(compiled)).read_bytes())


@pytest.mark.parametrize(
    ("upload", "kind"),
    [
        pytest.param(COMPONENT, Kind.COMPONENT, id="component"),
        pytest.param(CORE, Kind.CORE, id="core"),
        pytest.param(exporting("memory", "_start"), Kind.COMMAND, id="command"),
        pytest.param(exporting("memory", "_start", "alloc", "handle"), Kind.CORE, id="both: the fast lane"),
        pytest.param(b"export default { fetch() {} }", Kind.SCRIPT, id="script"),
        pytest.param(b"\xef\xbb\xbfexport default 1", Kind.SCRIPT, id="script with a byte order mark"),
        pytest.param("// naïve\nexport default 1".encode(), Kind.SCRIPT, id="script with an umlaut"),
    ],
)
def test_what_is_a_function_is_recognised(upload: bytes, kind: Kind) -> None:
    assert kind_of(upload) is kind


def test_a_core_module_may_import_one_thing() -> None:
    check(facts(bombs.module(bombs.tiny(), imports=(("edgecache", "call"),))), Kind.CORE, memory=65536, preview1=())
    hostile = bombs.module(bombs.tiny(), imports=(("env", "system"), ("wasi_snapshot_preview1", "fd_write")))
    with pytest.raises(FunctionRefused, match=r"imports `env\.system`, `wasi_snapshot_preview1\.fd_write`") as refused:
        check(facts(hostile), Kind.CORE, memory=65536, preview1=("fd_write",))
    assert refused.value.code == "unknown_import"


def test_a_command_may_import_what_there_is_of_wasi() -> None:
    imports = (("wasi_snapshot_preview1", "fd_write"), ("edgecache", "call"), ("edgecache", "answer"))
    found = facts(bombs.module(bombs.tiny(), imports=imports))
    check(found, Kind.COMMAND, memory=65536, preview1=("fd_write",))
    with pytest.raises(FunctionRefused, match=r"imports `wasi_snapshot_preview1\.fd_write`:"):
        check(found, Kind.COMMAND, memory=65536, preview1=("fd_read",))


def test_memory_at_the_start_is_held_against_what_there_is() -> None:
    found = facts(bombs.module(bombs.tiny(), pages=65536))
    with pytest.raises(FunctionRefused, match=r"4,294,967,296 bytes of memory; .* at most 65,536") as refused:
        check(found, Kind.CORE, memory=65536, preview1=())
    assert refused.value.code == "too_much_memory"


@given(st.binary(max_size=300))
def test_any_bytes_are_of_a_kind_or_refused(upload: bytes) -> None:
    for each in (upload, MODULE + upload, COMPONENT + upload):
        with contextlib.suppress(FunctionRefused):
            assert kind_of(each) in Kind
