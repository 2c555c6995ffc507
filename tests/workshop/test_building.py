import os
from pathlib import Path

import pytest

from edgecache.clock import SystemClock
from edgecache.config import Functions
from edgecache.errors import EdgeCacheError, FunctionRefused
from edgecache.workshop import building, cases, project, templates, trial
from edgecache.workshop.local import Local
from edgecache.workshop.project import Project

HERE = dict(os.environ)  # noqa: TID251 - of the child


def function(folder: Path, command: str) -> Project:
    (folder / "function.toml").write_text(f"name = \"greet\"\n[build]\ncommand = '''{command}'''\n")
    return project.find(folder)


def test_the_command_runs_in_the_folder_and_makes_the_artefact(tmp_path: Path) -> None:
    made = building.build(function(tmp_path, "printf x > function.wasm"), HERE, SystemClock())
    assert (made.artefact, made.bytes) == (tmp_path / "function.wasm", 1)
    assert made.seconds > 0


def test_what_it_prints_goes_to_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    building.build(function(tmp_path, "echo compiling; printf x > function.wasm"), HERE, SystemClock())
    assert capfd.readouterr() == ("", "compiling\n")


def test_without_a_command_there_is_nothing_to_do(tmp_path: Path) -> None:
    templates.make("greet", "js", tmp_path)
    assert building.build(project.find(tmp_path), HERE, SystemClock()).seconds == 0


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EdgeCacheError, match="ended with status 3"):
        building.build(function(tmp_path, "exit 3"), HERE, SystemClock())


def test_a_command_that_makes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FunctionRefused, match=r"function\.wasm: no such file"):
        building.build(function(tmp_path, "true"), HERE, SystemClock())


def test_it_says_where_to_get_a_tool_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EdgeCacheError, match=r"cargo is not installed: https://rustup\.rs"):
        building.build(function(tmp_path, "cargo build --release"), {"PATH": str(tmp_path)}, SystemClock())


def test_words_that_only_resemble_a_tool_are_no_tool(tmp_path: Path) -> None:
    assert building.missing("./zig-out/run 'npmx'; my-cargo", str(tmp_path)) == []
    assert [tool for tool, _ in building.missing("cd x&&npm ci; zig cc", str(tmp_path))] == ["zig", "npm"]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["c", "zig"])
async def test_a_starter_is_built_with_the_ziglang_package_and_passes_its_cases(tmp_path: Path, language: str) -> None:
    templates.make("greet", language, tmp_path)
    found = project.find(tmp_path)
    assert building.build(found, HERE | {"PATH": "/usr/bin:/bin"}, SystemClock()).bytes < 8000
    with Local(found, Functions(), SystemClock()) as local:
        ready = await local.ready(found.read())
        results = [await trial.run(case, ready, local) for case in cases.read(found.cases)]
    assert len(results) == 5
    assert [result for result in results if not result.passed] == []
