"""`edgecache fn tail`: what a function says and does on a running POP, as it happens. `fn` wires it."""

import datetime as dt
import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token
from edgecache.cli.fn_remote import HERE, Folder, Name, TenantId, remote
from edgecache.cli.settings import ConfigFile

FORMATS = ("pretty", "json")


def tail(
    config: ConfigFile = None,
    *,
    form: Annotated[str, typer.Option("--format", help="pretty, or json: one object a line.")] = "pretty",
    status: Annotated[
        str | None, typer.Option(metavar="OUTCOME", help="ok, error (any fault), or a fault: cpu, trap, wall ...")
    ] = None,
    phase: Annotated[str | None, typer.Option(help="Only this phase.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Only this version.")] = None,
    level: Annotated[str | None, typer.Option(help="At least trace, debug, info, warn or error.")] = None,
    event: Annotated[
        list[str] | None, typer.Option(help="Only log, call, audit or deploy; may be given more than once.")
    ] = None,
    search: Annotated[str | None, typer.Option(metavar="TEXT", help="Only lines with this text.")] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of requests that are shown, each as a whole.")
    ] = None,
    request: Annotated[str | None, typer.Option(metavar="ID", help="Only this x-request-id.")] = None,
    lines: Annotated[int, typer.Option(min=0, help="Begin with so many lines of before.")] = 20,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on until stopped.")] = True,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
) -> None:
    """Follow the log of a function: its lines, its calls and how they ended, changes of its versions."""
    if form not in FORMATS:
        raise typer.BadParameter(f"choose one of {', '.join(FORMATS)}", param_hint="--format")
    query = {
        "outcome": None if status == "error" else status,
        "phase": phase,
        "version": None if version is None else str(version),
        "level": level,
        "event": event,
        "search": search,
        "sample": None if sampling_rate is None else str(sampling_rate),
        "request": request,
        "lines": str(lines),
        "follow": "true" if follow else None,
    }
    there = remote(config, admin, token, tenant, folder=folder, name=name, timeout=None)
    path = there.path("logs", query=query)
    records = there.admin.events(path) if follow else there.admin.get(path)["records"]
    try:
        for record in records:
            if status == "error" and record.get("outcome", "ok") == "ok":
                continue
            output.say(json.dumps(record, ensure_ascii=False) if form == "json" else line(record))
    except KeyboardInterrupt:
        raise typer.Exit from None


def line(record: Mapping[str, Any]) -> str:
    """A record to read: time, what and where, how it ended, what it says."""
    at = dt.datetime.fromtimestamp(record["at"], dt.UTC).astimezone()
    where = " ".join(part for part in (_version(record), record.get("phase", "")) if part)
    said = [f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}", f"{_word(record):<6}", where, _usage(record), _text(record)]
    return " ".join(part for part in said if part)


def _version(record: Mapping[str, Any]) -> str:
    return f"@{record['version']}" if record.get("version") else ""


def _word(record: Mapping[str, Any]) -> str:
    """How a call ended, the level of a line, else what kind of record it is."""
    event = record.get("event", "log")
    if event == "call":
        return str(record.get("outcome", ""))
    return str(record.get("level", "info")).upper() if event == "log" else str(event)


def _usage(record: Mapping[str, Any]) -> str:
    usage = record.get("usage")
    return f"{usage['wall'] * 1e3:.2f} ms" if usage else ""


def _text(record: Mapping[str, Any]) -> str:
    """The text, and for a call the request that it was for. No control character reaches the terminal."""
    text = str(record.get("text", ""))
    if record.get("event") == "call" and record.get("request_id"):
        text = f"{text} [{record['request_id']}]".strip()
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
