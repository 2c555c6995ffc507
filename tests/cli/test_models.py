import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import main

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "manifest.toml"
    file.write_text(
        '[[model]]\nname = "tiny"\nforward = "bert"\ndimension = 4\nwindow = 8\nlicence = "MIT"\n'
        f'tolerance = {{ fp32 = 0.0 }}\nsha256 = {{ "weights" = "{HELLO}" }}\n'
    )
    return file


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.app, ["models", *(str(each) for each in arguments)])


def test_the_models_of_the_manifest_are_listed() -> None:
    result = run("list", "--json")
    assert result.exit_code == 0
    (model,) = [each for each in json.loads(result.stdout) if each["name"] == "all-MiniLM-L6-v2"]
    assert model["dimension"] == 384


def test_the_pinned_files_verify(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("hello")
    result = run("verify", "tiny", "--path", tmp_path, "--manifest", manifest, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [{"name": "tiny", "ok": True, "detail": str(tmp_path)}]


def test_an_altered_or_missing_file_fails_the_command(manifest: Path, tmp_path: Path) -> None:
    for content in ("hullo", None):
        (tmp_path / "weights").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "weights").write_text(content)
        result = run("verify", "--path", tmp_path, "--manifest", manifest, "--json")
        assert result.exit_code == 1
        (row,) = json.loads(result.stdout)
        assert row["ok"] is False
        assert "weights" in row["detail"]


def test_the_pair_verifier_is_listed_and_verified_beside_the_manifest(manifest: Path, tmp_path: Path) -> None:
    text = '[verifier]\nname = "judge"\nbase = "tiny"\nfolder = "judge"\nwindow = 8\nlicence = "MIT"\n'
    manifest.write_text(manifest.read_text() + text + f'sha256 = {{ "weights" = "{HELLO}" }}\n')
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "weights").write_text("hello")
    assert [row["name"] for row in json.loads(run("list", "--manifest", manifest, "--json").stdout)] == [
        "tiny",
        "judge",
    ]
    result = run("verify", "judge", "--manifest", manifest, "--json")
    assert json.loads(result.stdout) == [{"name": "judge", "ok": True, "detail": str(tmp_path / "judge")}]


def test_a_path_goes_with_one_model(manifest: Path, tmp_path: Path) -> None:
    text = manifest.read_text()
    manifest.write_text(text + text.replace("tiny", "other"))
    assert run("verify", "--path", tmp_path, "--manifest", manifest).exit_code == 2
