"""`edgecache fn list|versions|status|limits|stats`: what a running POP says of its functions. `fn` wires them."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token, connect
from edgecache.cli.fn_remote import HERE, Folder, Name, Remote, TenantId, remote
from edgecache.cli.settings import ConfigFile

_TIMES = ("at", "created", "updated")
"""Columns that are Unix times."""
_FOR_PROGRAMS = ("artefact", "code", "cpu")
"""Columns of a version that only `--json` prints."""


def list_(
    config: ConfigFile = None,
    *,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """List the functions of a tenant; an operator without --tenant sees everybody's."""
    report = Remote(connect(config, admin, token), tenant).get()
    output.show(report if as_json else report["functions"], as_json=as_json)


def versions(
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """List the versions of a function that are kept, newest first."""
    report = remote(config, admin, token, tenant, folder=folder, name=name).get("versions")
    output.show(report if as_json else told(report["versions"]), as_json=as_json)


def status(
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Say which versions serve and with which share, what happened to them, and how they do."""
    show(remote(config, admin, token, tenant, folder=folder, name=name).get(), as_json=as_json)


def limits(
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Say what a function asks for, what the POP gives it, and the most it would give."""
    show(remote(config, admin, token, tenant, folder=folder, name=name).get("limits"), as_json=as_json)


def stats(
    config: ConfigFile = None,
    *,
    name: Name = None,
    folder: Folder = HERE,
    tenant: TenantId = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Say what the calls of a function took and how they ended, and where it runs."""
    show(remote(config, admin, token, tenant, folder=folder, name=name).get("stats"), as_json=as_json)


def show(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a report: its plain facts first, then a table for every list of rows in it."""
    if as_json:
        output.show(report, as_json=True)
        return
    facts = {
        name: value
        for name, value in report.items()
        if name not in {"manifest", "stats", *_FOR_PROGRAMS} and not _is_table(value)
    }
    if facts:
        output.show(dict(_facts(facts)), as_json=False)
    tables = {name: rows for name, rows in report.items() if _is_table(rows)}
    if each := report.get("stats"):
        tables["stats"] = [{"version": version} | said for version, said in each.items()]
    for name, rows in tables.items():
        output.show(told(rows), as_json=False, title=name)


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as people read them: all with the same columns, times as such, digests by their beginning."""
    columns = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in _FOR_PROGRAMS]
    return [{name: _readable(name, row.get(name)) for name in columns} for row in rows]


def _readable(name: str, value: Any) -> Any:
    if name in _TIMES and isinstance(value, int | float):
        return f"{dt.datetime.fromtimestamp(value, dt.UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    if name == "digest":
        return str(value)[:12]
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items() if each is not None)
    return value


def _facts(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values."""
    for name, value in report.items():
        if isinstance(value, dict) and value:
            yield from _facts(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _readable(name, value)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
