"""`edgecache cache`: what a running POP has stored, over its admin API."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import urlencode

import typer

from edgecache.cli import output
from edgecache.cli.admin import AdminAddress, Token, connect, request_body
from edgecache.cli.settings import ConfigFile
from edgecache.errors import EdgeCacheError

app = typer.Typer(no_args_is_help=True, help="The cache of a running POP.")

_CHUNK = 256 * 1024
"""Bytes of an export moved at once."""


@app.command()
def stats(
    config: ConfigFile = None,
    *,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Print how much is stored, in how many bytes, and the estimated wrong-hit rate."""
    report = connect(config, admin, token).get("/admin/v1/cache/stats")
    output.show(report if as_json else dict(output.flat(report)), as_json=as_json)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="A request body as JSON; - is standard input.", allow_dash=True)],
    config: ConfigFile = None,
    *,
    endpoint: Annotated[str, typer.Option(help="chat.completions, completions, embeddings or responses.")] = (
        "chat.completions"
    ),
    tenant: Annotated[str, typer.Option(help="Whose request it is.")] = "default",
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Say why a request would hit or miss: scope, nearest entries, what tells them apart, the verdict and its rule."""
    query = urlencode({"endpoint": endpoint, "tenant": tenant})
    report = connect(config, admin, token).post(f"/admin/v1/cache/explain?{query}", request_body(file))
    if as_json:
        output.show(report, as_json=True)
    else:
        _explain(report)


def _explain(report: dict[str, Any]) -> None:
    """One fact a line, then the nearest entries, then what is held of each of them."""
    questions, candidates = report.pop("questions", []), report.pop("candidates", [])
    output.show(dict(output.flat(report)), as_json=False)
    if questions:
        output.show(questions, as_json=False, title="nearest entries")
        rows = [
            each | {"apart": "; ".join(f"{k}: {v}" for k, v in each.get("apart", {}).items())} for each in candidates
        ]
        output.show(rows, as_json=False, title="what is held of them")


@app.command()
def show(
    entry: Annotated[int, typer.Argument(metavar="ID", help="As in x-edgecache-entry.", min=1)],
    config: ConfigFile = None,
    *,
    body: Annotated[bool, typer.Option("--body", help="Print the stored answer too.")] = False,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Print one stored answer: tenant, writer, question, age, and what holds it back from other wordings."""
    query = {"body": "true"} if body else None
    output.show(connect(config, admin, token).get(f"/admin/v1/entries/{entry}", query), as_json=as_json)


@app.command()
def purge(
    config: ConfigFile = None,
    *,
    entry: Annotated[int | None, typer.Option(metavar="ID", help="One answer, as in x-edgecache-entry.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Answers with a tag; may be given more than once.")] = None,
    writer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Answers of a writer, as `cache show` and `keys list` name it.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Answers of a namespace.")] = None,
    model: Annotated[str | None, typer.Option(help="Answers of a model.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Answers of a tenant; beside another option: only its.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every answer.")] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Keep them as expired ones until they are replaced.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before purging everything.")] = False,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Remove answers. It returns once the purge is durable: what it covers is never served again."""
    given = {
        "entry": entry,
        "tags": tag or None,
        "writer": writer,
        "namespace": namespace,
        "model": model,
        "all": everything or None,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1 or not (chosen or tenant):
        raise typer.BadParameter("choose one of --entry, --tag, --writer, --namespace, --model, --tenant, --all")
    if everything and not yes:
        typer.confirm("Purge every answer of this POP?", abort=True)
    if tenant is not None:
        chosen["tenant"] = tenant
    output.show(connect(config, admin, token).post("/admin/v1/purge", chosen | {"soft": soft}), as_json=as_json)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to; - is standard output.", allow_dash=True)],
    config: ConfigFile = None,
    *,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Write every live answer to a file that `cache import` reads. It appears only once it is whole."""
    to_stdout = str(file) == "-"
    with connect(config, admin, token).open("GET", "/admin/v1/cache/export") as answer:
        if to_stdout:
            _copy(answer, sys.stdout.buffer)
            return
        size = _write(file, answer)
    output.show({"file": str(file), "bytes": size}, as_json=as_json)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `cache export` wrote; - is standard input.", allow_dash=True)],
    config: ConfigFile = None,
    *,
    admin: AdminAddress = None,
    token: Token = None,
    as_json: output.AsJson = False,
) -> None:
    """Store the answers of an export. Newer ones that are already there stay."""
    api = connect(config, admin, token)
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as source, output.progress("importing") as step:
            body = _chunks(source, step, file.stat().st_size if file.is_file() else 0)
            with api.open("POST", "/admin/v1/cache/import", body) as answer:
                report = json.load(answer)
    except OSError as error:
        raise EdgeCacheError(f"{file}: {error.strerror}") from error
    output.show(report, as_json=as_json)


def _write(file: Path, answer: IO[bytes]) -> int:
    """Copy `answer` to `file` in one step: a half-written export is never taken for a whole one."""
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as target:
            part.chmod(0o600)
            size = _copy(answer, target)
        part.replace(file)
    except OSError as error:
        raise EdgeCacheError(f"{file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return size


def _copy(source: IO[bytes], target: IO[bytes]) -> int:
    size = 0
    with output.progress("exporting") as step:
        for chunk in _chunks(source, step, 0):
            target.write(chunk)
            size += len(chunk)
    return size


def _chunks(source: IO[bytes], step: Callable[[int, int], None], total: int) -> Iterator[bytes]:
    done = 0
    while chunk := source.read(_CHUNK):
        done += len(chunk)
        step(done, total)
        yield chunk
