"""`edgecache bench`: measurements that an evaluator makes with data of their own, `replay` on a running POP."""

from pathlib import Path
from typing import Annotated

import typer

from edgecache.cli import loop, output, quality
from edgecache.errors import ConfigError, EdgeCacheError

app = typer.Typer(no_args_is_help=True, help="Measurements on real questions.")
app.add_typer(quality.app, name="quality")


@app.command()
def replay(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Questions: one JSON object a line, may be gzipped.")],
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only this many.")] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible base URL; without it a POP is started.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model to ask; default: the first one listed.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 8,
    stream_share: Annotated[float, typer.Option(min=0, max=1, help="Share of requests that stream.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Which requests stream.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    api_key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", show_envvar=True, help="Sent to the URL.")] = "none",
    timeout: Annotated[float, typer.Option(min=0, help="Seconds a request may take.")] = 120.0,
    as_json: output.AsJson = False,
) -> None:
    """Ask real questions through the openai SDK; print hits by tier, wrong hits, latencies and tokens avoided."""
    try:
        from edgecache.sim import replay as driver  # noqa: PLC0415 - the SDK, for this command only
    except ModuleNotFoundError as error:
        raise EdgeCacheError(f"bench needs the {error.name} package: pip install 'edgecache[bench]'") from error
    options = driver.ReplayOptions(
        data=data,
        limit=limit,
        url=url,
        model=model,
        concurrency=concurrency,
        stream_share=stream_share,
        seed=seed,
        max_tokens=max_tokens,
        api_key=api_key,
        timeout=timeout,
    )
    with output.progress("asking") as progress:
        try:
            report = loop.run(driver.run(options, progress))
        except ConfigError as error:  # data or URL, not the configuration that 78 is for
            raise EdgeCacheError(error.message) from error
    if as_json:
        output.show(report.to_dict(), as_json=True)
    else:
        output.tables(report.tables())
