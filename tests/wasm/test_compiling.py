import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from wasmtime import wat2wasm

from edgecache.wasm import child
from edgecache.wasm.base import Kind
from edgecache.wasm.compiling import Compiled, Job, Refused, Report
from edgecache.wasm.engine import Engine
from tests.wasm.conftest import core

HELLO = bytes(wat2wasm(core("(i64.const 0)")))
pytestmark = pytest.mark.slow


class Run:
    """One child, with its files."""

    def __init__(self, folder: Path, upload: bytes, **job: object) -> None:
        self.draft = folder / "draft"
        self.draft.touch()
        self._files = child.shown(upload), os.open(self.draft, os.O_WRONLY), child.room(1 << 20)
        artefact, code, report = self._files
        self.job = Job(
            **{
                "artefact": artefact,
                "code": code,
                "report": report,
                "draft": str(self.draft),
                "parent": os.getpid(),
                "memory": 2 << 30,
                "cpu": 20,
                "largest_code": 16 << 20,
                "function_memory": 16 << 20,
                "fingerprint": "",
            }
            | job
        )

    def __call__(self) -> tuple[int, Report | None]:
        process = child.start(
            "edgecache.wasm.compiling",
            [msgspec.json.encode(self.job).decode()],
            keep=self._files,
            stderr=subprocess.DEVNULL,
        )
        status = process.wait(60)
        said = child.written(self._files[2])
        for each in self._files:
            os.close(each)
        return status, msgspec.json.decode(said, type=Report) if said else None


def test_it_writes_code_and_a_report(tmp_path: Path, engine: Engine) -> None:
    run = Run(tmp_path, HELLO, fingerprint=engine.fingerprint)
    status, report = run()
    assert status == 0
    assert isinstance(report, Compiled)
    assert (report.kind, report.extra) == (Kind.CORE, {})
    assert run.draft.read_bytes() == engine.compile_module(HELLO)


def test_it_says_what_it_refuses(tmp_path: Path, engine: Engine) -> None:
    run = Run(tmp_path, b"PK\x03\x04", fingerprint=engine.fingerprint)
    assert run() == (0, Refused("unknown_format", "this is a zip archive; upload the .wasm or .js inside it"))
    assert run.draft.read_bytes() == b""


def test_code_that_would_not_run_in_the_daemon_is_not_made(tmp_path: Path) -> None:
    status, report = Run(tmp_path, HELLO, fingerprint="another version")()
    assert status == 0
    assert isinstance(report, Refused)
    assert report.code == "engine"


def test_more_code_than_there_may_be(tmp_path: Path, engine: Engine) -> None:
    status, report = Run(tmp_path, HELLO, fingerprint=engine.fingerprint, largest_code=1000)()
    assert status == 0
    assert isinstance(report, Refused)
    assert report.code == "too_complex"
    assert "bytes of machine code; at most 1,000" in report.message


def test_a_script_gets_less_time_than_the_compiler(tmp_path: Path, engine: Engine) -> None:
    status, report = Run(tmp_path, b"/^(a+)+$/.test('a'.repeat(40) + 'b')", fingerprint=engine.fingerprint, cpu=3)()
    assert status in {0, -24}  # QuickJS gives up by itself, or the kernel ends it
    assert isinstance(report, Refused)
    assert report.code == "script"


def test_the_child_of_another_does_nothing(tmp_path: Path, engine: Engine) -> None:
    assert Run(tmp_path, HELLO, fingerprint=engine.fingerprint, parent=1234567)() == (1, None)
