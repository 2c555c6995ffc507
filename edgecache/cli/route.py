"""`edgecache route`: where a running POP would send a request, over its admin API."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token, connect, request_body
from edgecache.cli.settings import ConfigFile

app = typer.Typer(no_args_is_help=True, help="The broker of a running POP.")


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="A request body as JSON; - is standard input.", allow_dash=True)],
    config: ConfigFile = None,
    *,
    endpoint: Annotated[str, typer.Option(help="chat.completions, completions, embeddings or responses.")] = (
        "chat.completions"
    ),
    tenant: Annotated[str, typer.Option(help="Whose request it is.")] = "default",
    service_class: Annotated[
        str | None, typer.Option("--class", help="As in EdgeCache-Class: realtime, interactive, standard or batch.")
    ] = None,
    deadline: Annotated[float | None, typer.Option(metavar="S", help="As in EdgeCache-Deadline.")] = None,
    residency: Annotated[str | None, typer.Option(help="As in EdgeCache-Residency, such as `EU, CH`.")] = None,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Say where a request would go now and why: what it needs, who was ruled out by what, predictions, prices."""
    query = urlencode({"endpoint": endpoint, "tenant": tenant})
    given = {"EdgeCache-Class": service_class, "EdgeCache-Deadline": deadline, "EdgeCache-Residency": residency}
    headers = {name: str(value) for name, value in given.items() if value is not None}
    report = connect(config, admin, token).post(f"/admin/v1/route/explain?{query}", request_body(file), headers=headers)
    if as_json:
        output.show(report, as_json=True)
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    """What the request needs, then the upstreams of each model that may answer it, the chosen one first."""
    legs = report.pop("legs", [])
    output.show(dict(output.flat(report)), as_json=False)
    for leg in legs:
        held = [_row(each) for each in leg.pop("upstreams", [])]
        output.show(dict(output.flat(leg)), as_json=False)
        if held:
            output.show(held, as_json=False, title=f"upstreams of {leg['model']}")


def _row(held: dict[str, Any]) -> dict[str, Any]:
    """What is held of one upstream, in the width of a screen: times to the millisecond, USD to the millionth."""
    shown = {
        "name": held["name"],
        "tier": held["tier"],
        "in": held["jurisdiction"] or held["region"],
        "refused": held["refusal"] or "",
    }
    times = {f"{name} s": f"{held[name]:.3f}" for name in ("ttft", "late", "total")}
    return (
        shown
        | times
        | {
            "USD": f"{held['cost']:.6f}",
            "in time": "yes" if held["meets"] else "no",
            "chosen": held["chosen"] or "",
        }
    )
