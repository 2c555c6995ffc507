"""`edgecache keys`: API keys in the file that a tenant's `keys_file` names. Only hashes are stored, one a line."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from edgecache.cli import output
from edgecache.config.secret import HASHED, hashed
from edgecache.errors import EdgeCacheError, NotFound

app = typer.Typer(no_args_is_help=True, help="API keys of a tenant, kept as hashes in its `keys_file`.")

KeysFile = Annotated[Path, typer.Option("--file", metavar="FILE", help="As in `keys_file` of the tenant.")]

PREFIX = "ek_"
"""What keys begin with, so that scanners for leaked secrets can tell."""

RELOAD = "Send SIGHUP to the daemon to make it take effect."


@app.command()
def new(file: KeysFile, *, as_json: output.AsJson = False) -> None:
    """Make a key, add its hash to the file and print the key. It is shown this once and stored nowhere."""
    key = PREFIX + secrets.token_urlsafe(32)
    line = hashed(key)
    _write(file, [*_read(file, missing_ok=True), line])
    output.show({"key": key, "id": _id(line)}, as_json=as_json)
    if not as_json:
        output.say(RELOAD)


@app.command("list")
def list_(file: KeysFile, *, as_json: output.AsJson = False) -> None:
    """List the ids of the keys in the file."""
    output.show([{"id": _id(line)} for line in _read(file)], as_json=as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` prints it, or its beginning.")],
    file: KeysFile,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Take one key out of the file. Exits with 1 unless the id belongs to exactly one."""
    lines = _read(file)
    found = [line for line in lines if key_id and _id(line).startswith(key_id)]
    if len(found) != 1:
        raise NotFound(f"{file}: {len(found) or 'no'} keys begin with {key_id!r}")
    _write(file, [line for line in lines if line != found[0]])
    output.show({"revoked": _id(found[0])}, as_json=as_json)
    if not as_json:
        output.say(RELOAD)


def _id(line: str) -> str:
    """What a key goes by: the beginning of its hash. A key that stands in the file itself is hashed first."""
    return (line if line.startswith(HASHED) else hashed(line)).removeprefix(HASHED)[:12]


def _read(file: Path, *, missing_ok: bool = False) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        if missing_ok:
            return []
        raise EdgeCacheError(f"{file}: no such file") from error
    except OSError as error:
        raise EdgeCacheError(f"{file}: cannot be read: {error.strerror}") from error
    return [line.strip() for line in lines if line.strip()]


def _write(file: Path, lines: list[str]) -> None:
    """Replace the file in one step, readable by its owner only: a daemon that reloads never sees half of it."""
    fresh = file.with_name(file.name + ".new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in lines)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    except OSError as error:
        raise EdgeCacheError(f"{file}: cannot be written: {error.strerror}") from error
