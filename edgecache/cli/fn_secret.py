"""`edgecache fn secret`: values that a function may read and nobody can look up again."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token
from edgecache.cli.fn_remote import HERE, Folder, Name, TenantId, remote
from edgecache.cli.fn_show import told
from edgecache.cli.settings import ConfigFile
from edgecache.errors import EdgeCacheError

app = typer.Typer(no_args_is_help=True, help="Secrets of a function: written from outside, read by the function only.")

Key = Annotated[str, typer.Argument(metavar="KEY", help="As in `allow.secrets` of function.toml.")]


@app.command()
def put(
    key: Key,
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Store a secret. Its value is asked for, or read from standard input; never an argument, which others can see."""
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    output.show(there.admin.put(there.path("secrets", key), {"value": _value(key)}), as_json=as_json)


@app.command("list")
def list_(
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """List the names of a function's secrets and when each was stored."""
    report = remote(config, admin, token, tenant, folder=folder, name=name).get("secrets")
    output.show(report if as_json else told(report["secrets"]), as_json=as_json)


@app.command()
def delete(
    key: Key,
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Remove a secret."""
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    output.show(there.admin.delete(there.path("secrets", key)), as_json=as_json)


@app.command()
def bulk(
    file: Annotated[
        Path, typer.Argument(help="JSON object, or KEY=VALUE lines; - is standard input.", allow_dash=True)
    ],
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Store several secrets: all of them or none."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EdgeCacheError(f"{file}: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from error
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    output.show(there.post("secrets", body={"values": values(text, str(file))}), as_json=as_json)


def values(text: str, where: str) -> dict[str, str]:
    """The secrets in a JSON object or in `KEY=VALUE` lines (`#` begins a comment line). Messages never show a value."""
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            raise EdgeCacheError(f"{where}: is not valid JSON") from None
        if wrong := [key for key, value in found.items() if not isinstance(value, str)]:
            raise EdgeCacheError(f"{where}: the value of {wrong[0]!r} is not a text")
        return dict(found)
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise EdgeCacheError(f"{where}:{number}: expected KEY=VALUE")
        pairs[key.strip()] = _unquoted(value.strip())
    return pairs


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _value(key: str) -> str:
    """What was typed, twice alike, or what standard input holds without the end of its last line."""
    if sys.stdin.isatty():
        return str(typer.prompt(f"Value of {key}", hide_input=True, confirmation_prompt=True))
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")
