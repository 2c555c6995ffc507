import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import config, main
from edgecache.config import reload, schema
from edgecache.config.origin import dotted
from edgecache.errors import ConfigError

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.app, [str(each) for each in arguments])


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.toml"
    file.write_text("[cache.semantic]\ntreshold = 0.9\n")
    return file


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.toml"
    file.write_text('[admin]\ntoken = "hush"\n[cache]\nttl = 60\n')
    return file


def test_a_sound_file_checks_out(good: Path) -> None:
    result = run("check", "--config", good)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{good}: ok, digest ")
    assert json.loads(run("check", "--config", good, "--json").stdout)["ok"] is True


def test_a_mistake_ends_the_check_with_its_place(bad: Path) -> None:
    result = run("check", "--config", bad)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f"{bad}:2: cache.semantic.treshold: unknown key (did you mean 'threshold'?)"


def test_json_lists_the_problems(bad: Path) -> None:
    result = run("check", "--config", bad, "--json")
    assert result.exit_code == 78
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert "treshold" in report["problems"][0]


def test_show_prints_every_setting_but_no_secret(good: Path) -> None:
    shown = json.loads(run("config", "show", "--config", good, "--json").stdout)
    assert shown["cache.ttl"] == 60
    assert shown["admin.token"] == "(set)"
    assert "hush" not in run("config", "show", "--config", good).stdout


def test_show_origin_says_where_values_come_from(good: Path) -> None:
    lines = run("config", "show", "--origin", "--config", good).stdout.splitlines()
    assert lines[0] == "key\tvalue\torigin"
    assert f"cache.ttl\t60.0\tfile {good}:4" in lines
    assert "cache.enabled\ttrue\tdefault" in lines


@pytest.mark.parametrize(
    ("page", "command"),
    [("config.md", ("config", "docs")), ("edgecache.schema.json", ("config", "schema")), ("cli.md", ("docs",))],
)
def test_the_generated_pages_are_what_the_code_says(page: str, command: Sequence[str]) -> None:
    assert (ROOT / "docs" / page).read_text() == run(*command).stdout, "run `make docs`"


def test_the_reference_has_a_row_for_every_setting() -> None:
    page = config.reference()
    for leaf in schema.leaves():
        assert f"| `{leaf.path[-1]}` |" in page, dotted(leaf.path)
        assert leaf.doc in page
    assert "## `[[auth.tenant]]`" in page
    assert "## `[cache.semantic]`" in page
    assert "| `url` | string matching `^https?://` | required |" in page


def test_operators_are_told_what_needs_a_restart() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for name in reload.NEEDS_RESTART:
        assert f"`{name}`" in page
