"""`edgecache fn new|templates|build|validate|inspect`: a function on its developer's machine. `fn` wires them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgecache.cli import loop, output
from edgecache.cli.fn_remote import HERE, Folder
from edgecache.cli.settings import ConfigFile, environment, read
from edgecache.clock import SystemClock
from edgecache.workshop import building, project, templates


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The function's name: a-z, 0-9 and -.")],
    *,
    template: Annotated[
        str, typer.Option("--template", "-t", metavar="LANGUAGE", help="As `edgecache fn templates` lists them.")
    ] = "js",
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where to write it; default: a folder of that name.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Begin a function from a starter: source, function.toml, cases and a README."""
    place = folder or Path(name)
    written = templates.make(name, template, place)
    if as_json:
        output.show({"name": name, "template": template, "files": [str(file) for file in written]}, as_json=True)
        return
    for file in written:
        output.say(f"  {file}")
    enter = "" if place == HERE else f"cd {place} && "
    output.say(f"Next: {enter}edgecache fn dev --watch")


def list_templates(*, as_json: output.AsJson = False) -> None:
    """List the starters: language, what it becomes, what building needs, what a call costs."""
    rows = [
        {"template": each.language, "kind": each.kind, "needs": each.needs, "a call": each.call}
        for each in templates.TEMPLATES
    ]
    output.show(rows, as_json=as_json)


def build(*, folder: Folder = HERE, as_json: output.AsJson = False) -> None:
    """Run the build command of function.toml and look for the artefact."""
    found = project.find(folder)
    made = building.build(found, environment(), SystemClock())
    output.show({"artefact": str(made.artefact), "bytes": made.bytes, "s": round(made.seconds, 3)}, as_json=as_json)


def validate(config: ConfigFile = None, *, folder: Folder = HERE, as_json: output.AsJson = False) -> None:
    """Check manifest, artefact and cases as `deploy` would on a POP with this configuration; compile and load it."""
    report = _inspected(config, folder, calls=0)
    kept = ("name", "kind", "bytes", "imports", "limits", "cases")
    output.show({key: report[key] for key in kept}, as_json=as_json)


def inspect(
    config: ConfigFile = None,
    *,
    calls: Annotated[int, typer.Option(min=1, help="Calls to measure.")] = 200,
    folder: Folder = HERE,
    as_json: output.AsJson = False,
) -> None:
    """Say what a function is made of: kind, imports, exports, size, compile time, memory, microseconds a call."""
    output.show(_inspected(config, folder, calls=calls), as_json=as_json)


def _inspected(config: Path | None, folder: Path, *, calls: int) -> dict[str, Any]:
    from edgecache.workshop import inspection  # noqa: PLC0415 - the engine, for these commands only
    from edgecache.workshop.local import Local  # noqa: PLC0415 - the same

    found, settings = project.find(folder), read(config).config.functions
    with Local(found, settings, SystemClock()) as local:
        return loop.run(inspection.inspect(found, local, calls=calls))
