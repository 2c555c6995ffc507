import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import main
from edgecache.errors import EdgeCacheError, FunctionRefused


def fn(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.app, ["fn", *(str(each) for each in arguments)])


def told(*arguments: str | Path) -> Any:
    result = fn(*arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def test_a_new_function_says_what_to_do_next(tmp_path: Path) -> None:
    folder = tmp_path / "greet"
    made = fn("new", "greet", "-t", "js", "--dir", folder)
    assert made.stdout.endswith(f"Next: cd {folder} && edgecache fn dev --watch\n")
    assert (folder / "function.js").exists()
    assert isinstance(fn("new", "greet", "--dir", folder).exception, EdgeCacheError)
    assert isinstance(fn("new", "../up").exception, FunctionRefused)


def test_templates_are_listed() -> None:
    languages = [row["template"] for row in told("templates")]
    assert languages == ["js", "python", "rust", "c", "zig", "assemblyscript"]


def test_building_tells_what_it_made(tmp_path: Path) -> None:
    (tmp_path / "function.toml").write_text('name = "greet"\n[build]\ncommand = "printf abc > function.wasm"\n')
    made = told("build", "--dir", tmp_path)
    assert (made["artefact"], made["bytes"]) == (str(tmp_path / "function.wasm"), 3)


@pytest.mark.slow
def test_a_function_is_validated_and_inspected(function: Path) -> None:
    report = told("validate", "--dir", function)
    assert (report["name"], report["kind"], report["cases"]) == ("greet", "core", 0)
    report = told("inspect", "--dir", function, "--calls", "5")
    assert report["exports"] == ["memory", "alloc", "handle"]
    assert report["us a call"]["p50"] > 0


@pytest.mark.slow
def test_the_configuration_is_the_ceiling(function: Path, tmp_path: Path) -> None:
    config = tmp_path / "edgecache.toml"
    config.write_text("[functions]\nmax_wall = 0.5\nmax_artefact_bytes = 60\n")
    refused = fn("validate", "--dir", function, "--config", config)
    assert isinstance(refused.exception, FunctionRefused)
    assert "at most 60" in str(refused.exception)


def test_a_folder_without_a_function_is_an_error(tmp_path: Path) -> None:
    for command in ("build", "validate", "inspect"):
        assert isinstance(fn(command, "--dir", tmp_path).exception, FunctionRefused), command
