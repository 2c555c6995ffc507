from pathlib import Path

import pytest

from edgecache.errors import FunctionRefused
from edgecache.workshop import project

MANIFEST = 'name = "greet"\n[build]\nartefact = "out/greet.wasm"\n'


def test_a_folder_with_a_manifest_is_a_function(tmp_path: Path) -> None:
    (tmp_path / "function.toml").write_text(MANIFEST)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "greet.wasm").write_bytes(b"\0asm")
    found = project.find(tmp_path)
    assert (found.name, found.artefact, found.read()) == ("greet", tmp_path / "out" / "greet.wasm", b"\0asm")
    assert found.cases == tmp_path / "cases.jsonl"
    assert found.state == tmp_path / ".edgecache"


def test_without_a_manifest_it_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(FunctionRefused, match=r"function\.toml: no such file: begin with `edgecache fn new"):
        project.find(tmp_path)


@pytest.mark.parametrize(
    ("command", "says"), [("make", "build it with `edgecache fn build`"), ("", r"greet\.wasm: no such file: write it")]
)
def test_without_an_artefact_it_says_what_to_do(tmp_path: Path, command: str, says: str) -> None:
    (tmp_path / "function.toml").write_text(MANIFEST + f'command = "{command}"\n')
    with pytest.raises(FunctionRefused, match=says):
        project.find(tmp_path).read()


@pytest.mark.parametrize(("text", "says"), [(b"\xff", "not UTF-8"), (b"nam = 1", "nam"), (b"[", "function.toml")])
def test_an_unsound_manifest_is_refused(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "function.toml").write_bytes(text)
    with pytest.raises(FunctionRefused, match=says):
        project.find(tmp_path)
