"""`edgecache fn kv`: the key-value data of a function on a running POP."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token
from edgecache.cli.fn_remote import HERE, Folder, Name, TenantId, remote
from edgecache.cli.settings import ConfigFile
from edgecache.errors import EdgeCacheError

app = typer.Typer(no_args_is_help=True, help="Key-value data of a function.")

Store = Annotated[str, typer.Argument(metavar="STORE", help="As in `allow.kv` of function.toml.")]
Key = Annotated[str, typer.Argument(metavar="KEY")]


@app.command()
def get(
    store: Store,
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
    """Print a value as it is, byte for byte; with --json as text in an object."""
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    value = there.admin.read(there.path("kv", store, key))
    if as_json:
        output.show({"key": key, "value": value.decode("utf-8", "replace"), "bytes": len(value)}, as_json=True)
    else:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()


@app.command()
def put(
    store: Store,
    key: Key,
    value: Annotated[str | None, typer.Argument(help="The value; without it and --file, standard input.")] = None,
    config: ConfigFile = None,
    *,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Read the value from here.")] = None,
    ttl: Annotated[float | None, typer.Option(min=0, help="Seconds to live; default: for ever.")] = None,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Store a value."""
    if value is not None and file is not None:
        raise typer.BadParameter("choose one of VALUE, --file")
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    path = there.path("kv", store, key, query={"ttl": None if ttl is None else str(ttl)})
    output.show(there.admin.put(path, _content(value, file)), as_json=as_json)


@app.command("list")
def list_(
    store: Store,
    config: ConfigFile = None,
    *,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many keys.")] = 1000,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """List keys in order."""
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    report = there.get("kv", store, "", query={"prefix": prefix or None, "limit": str(limit)})
    output.show(report if as_json else [{"key": each} for each in report["keys"]], as_json=as_json)


@app.command()
def delete(
    store: Store,
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
    """Remove a key and its value."""
    there = remote(config, admin, token, tenant, folder=folder, name=name)
    output.show(there.admin.delete(there.path("kv", store, key)), as_json=as_json)


def _content(value: str | None, file: Path | None) -> bytes:
    if value is not None:
        return value.encode()
    if file is None:
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise EdgeCacheError(f"{file}: {error.strerror}") from error
