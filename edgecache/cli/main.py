"""The `edgecache` command: its groups wired together, and what errors mean for the exit status."""

import sys
from typing import Annotated

import typer

from edgecache import __version__
from edgecache.cli import bench, cache, config, fn, keys, models, output, reference, route, serve, sim, usage, verdicts
from edgecache.errors import ConfigError, EdgeCacheError

app = typer.Typer(
    name="edgecache",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The edge node for LLM answers: an OpenAI-compatible POP with an exact and a semantic cache.",
)
app.command()(serve.serve)
app.command()(config.check)
app.add_typer(config.app, name="config")
for command in (verdicts.pin, verdicts.ban, verdicts.release, verdicts.feedback, verdicts.quality):
    cache.app.command()(command)
app.add_typer(cache.app, name="cache")
app.add_typer(fn.app, name="fn")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(route.app, name="route")
app.add_typer(usage.app, name="usage")
app.add_typer(sim.app, name="sim")
app.add_typer(bench.app, name="bench")


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it like this
    if asked:
        output.say(f"edgecache {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command(hidden=True)
def docs() -> None:
    """Print the reference page of all commands as Markdown (docs/cli.md)."""
    output.say(reference.markdown(typer.main.get_command(app)).removesuffix("\n"))


def main() -> None:
    """Run the command line. Exits 0 well, 1 failed, 2 wrong usage, 78 unsound configuration."""
    try:
        app(prog_name="edgecache")
    except ConfigError as error:
        output.fail(error.message)
        sys.exit(config.EX_CONFIG)
    except EdgeCacheError as error:
        output.fail(error.message)
        sys.exit(1)
