import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgecache.cli import fn_deploy
from edgecache.config import Admin, AdminDeveloper, Functions
from edgecache.errors import EdgeCacheError, FunctionRefused
from edgecache.functions.signature import public_text
from edgecache.workshop import project


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("10", 0.1), (" 0.5% ", 0.005), ("0", 0), ("100%", 1)])
def test_percentages(text: str, share: float) -> None:
    assert fn_deploy.percent(text, "--canary") == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "ten", "101", "-1", "nan"])
def test_what_is_no_percentage_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        fn_deploy.percent(text, "--canary")


def test_an_upload_leaves_the_build_at_home(function: Path) -> None:
    (function / "function.toml").write_text('name = "greet"\n[build]\ncommand = "make"\n')
    assert b"make" not in fn_deploy.upload(project.find(function))["manifest"]


def test_sources_newer_than_the_artefact_are_named(function: Path) -> None:
    (function / "function.toml").write_text('name = "greet"\n[build]\ncommand = "make"\n')
    (function / "function.c").write_text("")
    os.utime(function / "function.wasm", (1e9, 1e9))
    assert fn_deploy.stale(project.find(function)) == (function / "function.c", function / "function.toml")
    os.utime(function / "function.wasm", (4e9, 4e9))
    assert fn_deploy.stale(project.find(function)) == ()


@pytest.mark.slow
async def test_from_the_first_version_to_the_last(developer: Any) -> None:
    made = await developer.here("deploy", "-m", "first")
    assert (made["name"], made["number"], made["kind"]) == ("greet", 1, "core")
    developer.change(b"two")
    made = await developer.here("deploy", "--canary", "10%", "-m", "second")
    assert made["split"] == {"stable": 1, "canary": 2, "weight": 0.1}
    assert (await developer.here("split", "25%"))["split"]["weight"] == 0.25
    assert (await developer.here("promote"))["split"] == {"stable": 2, "canary": None, "weight": 0.0}
    assert (await developer.here("rollback", "-m", "it was better"))["split"]["stable"] == 1
    assert (await developer.here("rollback", "2"))["split"]["stable"] == 2
    status = await developer.here("status")
    assert [each["what"] for each in status["history"]][:2] == ["rollback", "rollback"]
    assert status["history"][1]["message"] == "it was better"
    assert (await developer.here("delete", "--yes"))["deleted"] == "greet"
    assert (await developer.told("list"))["functions"] == []


@pytest.mark.slow
async def test_what_is_not_asked_for_is_not_deleted(developer: Any) -> None:
    await developer.here("deploy")
    assert (await developer.run("delete", "--dir", developer.folder, typed="n\n")).exit_code == 1
    assert len((await developer.told("list"))["functions"]) == 1
    assert (await developer.run("delete", "--name", "greet", typed="y\n")).exit_code == 0


@pytest.mark.slow
async def test_refusals_say_why(developer: Any) -> None:
    (developer.folder / "function.wasm").write_bytes(b"PK\x03\x04")
    result = await developer.run("deploy", "--dir", developer.folder)
    assert isinstance(result.exception, EdgeCacheError)
    assert "a zip archive" in str(result.exception)
    assert isinstance((await developer.run("rollback", "--name", "absent")).exception, EdgeCacheError)
    (developer.folder / "function.wasm").unlink()
    assert isinstance((await developer.run("deploy", "--dir", developer.folder)).exception, FunctionRefused)


@pytest.mark.slow
async def test_an_upload_is_signed_where_that_is_asked_for(
    start_developer: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    policy = Functions(signatures="required", trusted=(public_text(key),), instances=8)
    developer = await start_developer(functions=policy)
    refused = await developer.run("deploy", "--dir", developer.folder)
    assert "takes signed uploads only" in str(refused.exception)
    assert (await developer.here("deploy", "--sign", file))["number"] == 1
    file.write_bytes(b"no key")
    refused = await developer.run("deploy", "--dir", developer.folder, "--sign", file)
    assert str(refused.exception).startswith(f"{file}: the signing key")


@pytest.mark.slow
async def test_a_developer_reaches_the_functions_of_one_tenant(start_developer: Callable[..., Awaitable[Any]]) -> None:
    admin = Admin(
        listen="127.0.0.1:0", token="operator", developer=(AdminDeveloper(tenant="acme", tokens=("acme-token",)),)
    )
    developer = await start_developer("--token", "acme-token", admin=admin)
    await developer.here("deploy")
    assert [each["tenant"] for each in (await developer.told("list"))["functions"]] == ["acme"]
    other = await developer.run("list", "--tenant", "default")
    assert isinstance(other.exception, EdgeCacheError)
    developer.options = (*developer.options[:2], "--token", "operator")
    assert (await developer.told("list", "--tenant", "default"))["functions"] == []
