"""`edgecache usage`: what requests to a running POP took and cost, over its admin API."""

import sys
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Annotated, Any
from urllib.parse import urlencode

import typer

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token, connect
from edgecache.cli.settings import ConfigFile
from edgecache.errors import EdgeCacheError

app = typer.Typer(no_args_is_help=True, help="What requests to a running POP took and cost.")

_PATH = "/admin/v1/usage"
_CHUNK = 256 * 1024
_PATIENCE = 600.0
"""Seconds of silence: adding up takes ten of them for a million records."""

Since = Annotated[
    str, typer.Option(metavar="TIME", help="From when: 7d, 24h, 30m ago, 2026-01-31, 2026-01-31T12:00Z or Unix s.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="To when, not included; default: now.")]


@app.command()
def report(
    config: ConfigFile = None,
    *,
    by: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Some of tenant, key, model, class, endpoint, cache, purpose, day, hour, tier, upstream, region.",
        ),
    ] = "tenant,model,tier",
    since: Since = "7d",
    until: Until = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Add up requests, tokens and cost. Tokens and cost are where each attempt was made, requests where answered."""
    if as_csv and as_json:
        raise typer.BadParameter("choose one of --csv and --json")
    query = {"by": by, "since": since, "format": "csv" if as_csv else "json"}
    if until is not None:
        query["until"] = until
    api = connect(config, admin, token, timeout=_PATIENCE)
    if as_csv:
        sys.stdout.write(api.read(f"{_PATH}?{urlencode(query)}").decode())
        return
    found = api.get(_PATH, query)
    if as_json:
        output.show(found, as_json=True)
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    """A row a group and one for the whole."""
    nothing = dict.fromkeys(found["by"], "")
    total = nothing | found["total"]
    if found["by"]:
        total[found["by"][0]] = "total"
    rows = [*found["rows"], total] if found["by"] else [total]
    output.show([{name: _short(value) for name, value in row.items()} for row in rows], as_json=False)
    if found["damaged"]:
        output.fail(f"{found['damaged']} records were damaged and are left out")


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to; - is standard output.", allow_dash=True)],
    config: ConfigFile = None,
    *,
    since: Since = "7d",
    until: Until = None,
    limit: Annotated[int | None, typer.Option(help="Records at most, the oldest ones.", min=1)] = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Write records, oldest first, a JSON object a line, for billing elsewhere. A file appears once it is whole."""
    query = {"since": since}
    if until is not None:
        query["until"] = until
    if limit is not None:
        query["limit"] = str(limit)
    with connect(config, admin, token, timeout=_PATIENCE).open("GET", f"{_PATH}/records?{urlencode(query)}") as answer:
        if str(file) == "-":
            copyfileobj(answer, sys.stdout.buffer, _CHUNK)
            return
        count = _write(file, answer)
    output.show({"file": str(file), "records": count}, as_json=as_json)


def _write(file: Path, answer: IO[bytes]) -> int:
    """Copy `answer` to `file` in one step, and count its lines: half an export is never taken for a whole one."""
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as target:
            part.chmod(0o600)
            count = 0
            while chunk := answer.read(_CHUNK):
                target.write(chunk)
                count += chunk.count(b"\n")
        part.replace(file)
    except OSError as error:
        raise EdgeCacheError(f"{file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return count
