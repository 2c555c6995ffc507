import re
from pathlib import Path

import typer
from typer.testing import CliRunner

from edgecache.cli import fn, main

COMMANDS = {
    *("new", "templates", "build", "validate", "inspect", "dev", "test", "bench"),
    *("deploy", "list", "versions", "status", "split", "promote", "rollback", "tail", "stats", "limits", "delete"),
    *("secret", "kv"),
}


def test_every_command_is_there_and_says_what_it_does() -> None:
    group = typer.main.get_command(fn.app)
    assert set(group.commands) == COMMANDS
    for name, command in group.commands.items():
        assert command.help, name
    assert set(group.commands["secret"].commands) == {"put", "list", "delete", "bulk"}
    assert set(group.commands["kv"].commands) == {"get", "put", "list", "delete"}


def test_the_readme_of_a_starter_names_only_commands_that_there_are() -> None:
    folder = Path(fn.__file__).parents[1] / "workshop" / "templates"
    named = {each for file in folder.rglob("README.md") for each in re.findall(r"edgecache fn (\w+)", file.read_text())}
    assert named <= COMMANDS


def test_help_is_help() -> None:
    result = CliRunner().invoke(main.app, ["fn", "deploy", "--help"])
    assert result.exit_code == 0
    assert "--canary" in re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
