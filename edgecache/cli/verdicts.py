"""`edgecache cache pin|ban|release|feedback|quality`: what people say of a running POP's answers. `main` wires them."""

from typing import Annotated, Any

import typer

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token, connect
from edgecache.cli.settings import ConfigFile

EntryId = Annotated[int, typer.Argument(metavar="ID", help="As in x-edgecache-entry.", min=1)]


def pin(
    entry: EntryId,
    config: ConfigFile = None,
    *,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Keep an answer: it is not evicted for room, and comparisons in the background cannot lower it."""
    output.show(connect(config, admin, token).post(f"/admin/v1/entries/{entry}/pin", {}), as_json=as_json)


def ban(
    entry: EntryId,
    config: ConfigFile = None,
    *,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Never serve an answer again, to its own question or another, nor store one to that question, until `release`."""
    output.show(connect(config, admin, token).post(f"/admin/v1/entries/{entry}/ban", {}), as_json=as_json)


def release(
    entry: EntryId,
    config: ConfigFile = None,
    *,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Take `pin` or `ban` back."""
    output.show(connect(config, admin, token).post(f"/admin/v1/entries/{entry}/release", {}), as_json=as_json)


def feedback(
    verdict: Annotated[str, typer.Argument(help="good or bad.")],
    config: ConfigFile = None,
    *,
    request: Annotated[
        str | None, typer.Option(metavar="ID", help="The answer that a request got, by its x-request-id.")
    ] = None,
    entry: Annotated[
        int | None, typer.Option(metavar="ID", help="The stored answer itself, by its x-edgecache-entry.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose request it was; unset: default.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, for those who read `cache quality`.")] = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Say that an answer was good or bad, with an operator's authority: it outweighs what clients say."""
    if verdict not in {"good", "bad"}:
        raise typer.BadParameter("good or bad", param_hint="VERDICT")
    if (request is None) == (entry is None):
        raise typer.BadParameter("choose one of --request, --entry")
    given = {"verdict": verdict, "request_id": request, "entry": entry, "tenant": tenant, "note": note}
    said = {name: value for name, value in given.items() if value is not None}
    output.show(connect(config, admin, token).post("/admin/v1/feedback", said), as_json=as_json)


def quality(
    config: ConfigFile = None,
    *,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Print the estimated wrong-hit rate (wrong answers per request served, with interval) and recent bad pairs."""
    report: dict[str, Any] = connect(config, admin, token).get("/admin/v1/quality")
    if as_json:
        output.show(report, as_json=True)
        return
    output.show(report["total"], as_json=False, title="all segments")
    for part, title in (("segments", "segments"), ("bad", "pairs called bad of late"), ("marks", "pinned and banned")):
        if report[part]:
            output.show(report[part], as_json=False, title=title)
