import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import main
from edgecache.config import load
from edgecache.errors import EdgeCacheError, NotFound, Unauthorized
from edgecache.http.auth import Authenticator


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.keys"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.app, ["keys", *(str(each) for each in arguments)])


def new(file: Path) -> dict[str, str]:
    made: dict[str, str] = json.loads(run("new", "--file", file, "--json").stdout)
    return made


def listed(file: Path) -> list[str]:
    return [each["id"] for each in json.loads(run("list", "--file", file, "--json").stdout)]


def authenticator(file: Path) -> Authenticator:
    environment = {"EDGECACHE__AUTH__TENANT": f"[{{ id = 'shop', keys_file = '{file}' }}]"}
    return Authenticator(load(file=None, environment=environment, overrides={"auth.mode": "keys"}).config.auth)


def test_a_new_key_opens_the_door_and_a_revoked_one_does_not(file: Path) -> None:
    one, two = new(file), new(file)
    assert authenticator(file).tenant(f"Bearer {one['key']}").id == "shop"
    assert run("revoke", one["id"], "--file", file).exit_code == 0
    with pytest.raises(Unauthorized):
        authenticator(file).tenant(f"Bearer {one['key']}")
    assert authenticator(file).tenant(f"Bearer {two['key']}").id == "shop"
    assert listed(file) == [two["id"]]


def test_the_last_key_can_be_revoked(file: Path) -> None:
    one = new(file)
    assert run("revoke", one["id"], "--file", file).exit_code == 0
    with pytest.raises(Unauthorized):
        authenticator(file).tenant(f"Bearer {one['key']}")


def test_the_file_holds_hashes_and_is_private(file: Path) -> None:
    made = new(file)
    assert made["key"].startswith("ek_")
    assert made["key"] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_that_stands_in_the_file_itself_is_listed_by_its_hash(file: Path) -> None:
    file.write_text("plain-key\n")
    (only,) = listed(file)
    assert "plain" not in only


def test_an_id_must_belong_to_exactly_one_key(file: Path) -> None:
    new(file)
    for key_id in ("zz", ""):
        assert isinstance(run("revoke", key_id, "--file", file).exception, NotFound)
    assert len(listed(file)) == 1


def test_a_file_that_is_not_there_is_an_error(file: Path) -> None:
    assert isinstance(run("list", "--file", file).exception, EdgeCacheError)
    assert isinstance(run("new", "--file", file / "below").exception, EdgeCacheError)
