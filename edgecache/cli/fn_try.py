"""`edgecache fn test|bench|dev`: a function tried on its developer's machine. `fn` wires them."""

import json
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgecache.cli import loop, output, serve
from edgecache.cli.fn_remote import HERE, Folder
from edgecache.cli.fn_tail import line
from edgecache.cli.settings import ConfigFile, environment, read
from edgecache.clock import SystemClock
from edgecache.config.load import Loaded
from edgecache.errors import EdgeCacheError
from edgecache.functions.manifest import Phase
from edgecache.telemetry import log
from edgecache.workshop import cases, project
from edgecache.workshop.project import Project

if TYPE_CHECKING:
    from edgecache.workshop.trial import Result


def run_cases(
    config: ConfigFile = None,
    *,
    only: Annotated[str, typer.Option("--only", metavar="TEXT", help="Only cases with this text in their name.")] = "",
    folder: Folder = HERE,
    as_json: output.AsJson = False,
) -> None:
    """Run the cases of cases.jsonl in the real sandbox, with scripted network and models. Exits 1 if one fails."""
    found = project.find(folder)
    known = [case for case in cases.read(found.cases) if only in case.name]
    if not known:
        raise EdgeCacheError(f"{found.cases}: no case has {only!r} in its name")
    results = loop.run(_tried(found, config, known))
    failed = [result for result in results if not result.passed]
    if as_json:
        output.show([_row(result) for result in results], as_json=True)
    else:
        for result in results:
            _tell(result)
        output.say(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(1)


async def _tried(found: Project, config: Path | None, known: list[cases.Case]) -> "list[Result]":
    from edgecache.workshop import trial  # noqa: PLC0415 - the engine, for this command only
    from edgecache.workshop.local import Local  # noqa: PLC0415 - the same

    with Local(found, read(config).config.functions, SystemClock()) as local:
        ready = await local.ready(found.read())
        return [await trial.run(case, ready, local) for case in known]


def _row(result: "Result") -> dict[str, Any]:
    return {"passed": result.passed, **{name: getattr(result, name) for name in result.__struct_fields__}}


def _tell(result: "Result") -> None:
    took = f"{result.ms:.2f} ms" if result.status is not None else "fault"
    output.say(f"{'ok  ' if result.passed else 'FAIL'}  {result.name}  ({took})")
    for each in result.differences:
        output.say(f"      {each}")
    if not result.passed:
        for each in result.log:
            output.say(f"      log: {each}")


def bench(
    config: ConfigFile = None,
    *,
    calls: Annotated[int, typer.Option(min=10, help="Calls a case.")] = 1000,
    folder: Folder = HERE,
    as_json: output.AsJson = False,
) -> None:
    """Measure the function: compile, load, calls by time and CPU, memory, and how fast an endless loop is ended."""
    from edgecache.workshop import inspection  # noqa: PLC0415 - the engine, for this command only
    from edgecache.workshop.local import Local  # noqa: PLC0415 - the same

    found = project.find(folder)
    with Local(found, read(config).config.functions, SystemClock()) as local:
        report = loop.run(inspection.bench(found, local, calls=calls))
    if as_json:
        output.show(report, as_json=True)
        return
    rows = report.pop("calls")
    output.show(report, as_json=False)
    output.show(rows, as_json=False, title="calls")


def dev(
    config: ConfigFile = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Build and deploy anew whenever a source changes.")
    ] = False,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the POP listens; port 0 is any free one.")] = (
        "127.0.0.1:0"
    ),
    admin: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where its admin API listens.")] = "127.0.0.1:0",
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible cluster for misses; default: a scripted core.")
    ] = None,
    folder: Folder = HERE,
) -> None:
    """Start a POP of your own with the function in it and show what it says. Calls are recorded and replayed."""
    found = project.find(folder)
    options: dict[str, Any] = {
        "server.listen": listen,
        "server.data": str(found.state / "data"),
        "admin.listen": admin,
        "log.access": False,
        "log.level": "warning",
        "upstream": None if upstream is None else [{"name": "upstream", "url": serve.base_url(upstream)}],
    }
    loaded = read(config, options)
    log.setup(loaded.config.log.level)
    loop.run(_dev(found, loaded, watch=watch))


async def _dev(found: Project, loaded: Loaded, *, watch: bool) -> None:
    from edgecache.daemon import Daemon  # noqa: PLC0415 - torch and aiohttp, for this command only
    from edgecache.workshop.session import Session  # noqa: PLC0415 - the same

    async with serve.embedded_core(loaded.config) as core_url:
        daemon = Daemon(serve.with_core(loaded, core_url), core_url=core_url)
        await daemon.start()
        try:
            runtime = daemon.services.runtime
            if runtime is None:
                raise EdgeCacheError("functions are switched off (`functions.enabled`)")
            session = Session(runtime, found, environment=environment(), clock=SystemClock(), say=output.say)
            begun = partial(_announce, daemon, found)
            await session.run(line, loop.until_stopped(), watch=watch, begun=begun)
        finally:
            await daemon.stop()


def _announce(daemon: Any, found: Project) -> None:
    """Where the POP is, and how to ask it something that the function gets to see."""
    model = next((model for upstream in daemon.config.upstream for model in upstream.models), "MODEL")
    content = "Say hello to {{name}}."
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": content}]})
    curl = f"curl -si {daemon.url}/v1/chat/completions -H 'content-type: application/json' -H 'x-user: Ada'"
    told = {
        "API": f"{daemon.url}/v1",
        "admin": daemon.admin_url,
        "try twice": f"{curl} -d {shlex.quote(body)}",
        "in Python": (
            f'OpenAI(base_url="{daemon.url}/v1", api_key="none", default_headers={{"x-user": "Ada"}})'
            f'.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "{content}"}}])'
        ),
        "secrets": f"edgecache fn secret put KEY --admin {daemon.admin_url.removeprefix('http://')}",
    }
    if any(bind.phase is Phase.ROUTE for bind in found.manifest.bind):
        told["route"] = f"curl -si {daemon.url}/fn/{found.name}/"
    output.facts(f"{found.name} on a POP of your own; Ctrl-C ends it", told)
