from pathlib import Path
from typing import Any

import pytest

from edgecache.cli.fn_secret import values
from edgecache.errors import EdgeCacheError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": "1", "b": ""}', {"a": "1", "b": ""}),
        ("# a remark\n\na=1\nb = 'x = y'\nc=\"q\"\n", {"a": "1", "b": "x = y", "c": "q"}),
        ("", {}),
    ],
)
def test_secrets_come_as_json_or_as_lines(text: str, found: dict[str, str]) -> None:
    assert values(text, "f") == found


@pytest.mark.parametrize(
    ("text", "says"), [("{", "f: is not valid JSON"), ('{"a": 1}', "'a' is not a text"), ("a=1\nhush", "f:2: expected")]
)
def test_a_mistake_is_named_without_the_value(text: str, says: str) -> None:
    with pytest.raises(EdgeCacheError, match=says) as caught:
        values(text, "f")
    assert "hush" not in str(caught.value)


@pytest.mark.slow
async def test_secrets_go_in_and_only_their_names_come_out(developer: Any, tmp_path: Path) -> None:
    await developer.here("deploy")
    assert (await developer.here("secret", "put", "key", typed="hush\n"))["stored"] == ["key"]
    assert [each["name"] for each in (await developer.here("secret", "list"))["secrets"]] == ["key"]
    file = tmp_path / "secrets.env"
    file.write_text("one=1\ntwo=2\n")
    await developer.here("secret", "bulk", file)
    assert (await developer.here("secret", "bulk", "-", typed='{"three": "3"}'))["stored"] == ["three"]
    await developer.here("secret", "delete", "one")
    listed = await developer.run("secret", "list", "--dir", developer.folder)
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == ["name", "key", "three", "two"]
    assert "hush" not in listed.stdout
    pop = developer.pop.daemon
    assert pop.services.runtime.secrets.reveal("default", "greet", "key") == "hush"


@pytest.mark.slow
async def test_what_is_not_there_is_an_error(developer: Any, tmp_path: Path) -> None:
    await developer.here("deploy")
    assert isinstance((await developer.run("secret", "delete", "absent", "-n", "greet")).exception, EdgeCacheError)
    missing = await developer.run("secret", "bulk", tmp_path / "absent", "-n", "greet")
    assert "No such file" in str(missing.exception)


def test_a_value_is_never_an_argument() -> None:
    from typer.testing import CliRunner

    from edgecache.cli import main

    result = CliRunner().invoke(main.app, ["fn", "secret", "put", "key", "hush", "--name", "greet"])
    assert result.exit_code == 2
