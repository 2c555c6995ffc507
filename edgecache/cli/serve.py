"""`edgecache serve`: the daemon in the foreground, with the embedded core behind it where no upstream is named."""

import contextlib
import json
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from edgecache import __version__
from edgecache.cli import loop, output
from edgecache.cli.settings import ConfigFile, read
from edgecache.clock import SystemClock
from edgecache.config import Config, Loaded, Upstream
from edgecache.errors import ConfigError
from edgecache.telemetry import log

if TYPE_CHECKING:
    from edgecache.daemon import Summary

EMBEDDED = "embedded-core"
"""Name of the upstream that stands in where none is configured."""


def serve(
    config: ConfigFile = None,
    *,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the public API listens.")] = None,
    admin: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the admin API listens.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the store.")] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="Base URL of one OpenAI-compatible cluster for all misses.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Start a POP and run it until SIGTERM or SIGINT. Without any upstream it answers misses from a scripted core."""
    options: dict[str, Any] = {
        "server.listen": listen,
        "server.data": None if data is None else str(data),
        "admin.listen": admin,
        "upstream": None if upstream is None else [{"name": "upstream", "url": base_url(upstream)}],
    }

    def load() -> Loaded:
        return read(config, options)

    loaded = load()
    log.setup(loaded.config.log.level)
    sys.setswitchinterval(0.0005)  # the default of 5 ms is how long a worker thread may hold up the event loop
    loop.run(_run(loaded, load, as_json=as_json))


def base_url(url: str) -> str:
    """`url` without the `/v1` that OpenAI clients write at the end of theirs."""
    return url.rstrip("/").removesuffix("/v1")


async def _run(loaded: Loaded, load: Callable[[], Loaded], *, as_json: bool) -> None:
    from edgecache.daemon import Daemon  # noqa: PLC0415 - torch and aiohttp, for this command only

    async with embedded_core(loaded.config) as core_url:
        complete = with_core(loaded, core_url)
        daemon = Daemon(complete, reload=lambda: with_core(load(), core_url), core_url=core_url)
        await daemon.run(lambda summary: _announce(summary, complete.config, as_json=as_json))


@contextlib.asynccontextmanager
async def embedded_core(config: Config) -> AsyncIterator[str | None]:
    """The URL of a scripted core in this process while the block runs; None where upstreams are configured or found."""
    if config.upstream or config.router.discovery is not None:
        yield None
        return
    from edgecache.sim.upstream import ScriptedCore  # noqa: PLC0415 - aiohttp, for this command only

    core = ScriptedCore(config.core, SystemClock())
    url = await core.start("127.0.0.1", 0)
    try:
        yield url
    finally:
        await core.stop()


def with_core(loaded: Loaded, core_url: str | None) -> Loaded:
    """`loaded` with the scripted core at `core_url` as its upstream, if it names none.

    Raises:
        ConfigError: it names none and no core runs, because there was an upstream at the start.
    """
    if loaded.config.upstream:
        return loaded
    if core_url is None:
        if loaded.config.router.discovery is not None:
            return loaded
        raise ConfigError("upstream: none left; the embedded core is started only with the daemon")
    core = loaded.config.core
    upstream = Upstream(name=EMBEDDED, url=core_url, dialect=core.dialect, models=core.models)
    return replace(loaded, config=msgspec.structs.replace(loaded.config, upstream=(upstream,)))


def facts(summary: "Summary", config: Config) -> dict[str, str]:
    """What an operator wants to know at the start, in words, without secrets."""
    told = {
        "API": f"{summary.url}/v1",
        "try": _curl(summary.url, config),
        "embedder": f"{summary.embedder} on {summary.device} ({summary.precision})",
        "upstream": ", ".join(_upstream(each, summary.core_url) for each in summary.upstreams)
        or f"those that {config.router.discovery} names",
        "hits": summary.hits,
        "functions": summary.functions,
        "data": str(Path(summary.data).resolve()),
        "admin": summary.admin_url,
    }
    return told | ({"cache": f"none: {summary.cache}"} if summary.cache else {})


def _upstream(upstream: Upstream, core_url: str | None) -> str:
    if upstream.url == core_url:
        return "embedded core (scripted; no model behind it)"
    return f"{upstream.name} ({upstream.dialect}) at {upstream.url}"


def _curl(url: str, config: Config) -> str:
    """A line to paste into a shell."""
    model = next((model for upstream in config.upstream for model in upstream.models), "MODEL")
    body = {"model": model, "messages": [{"role": "user", "content": "What is an edge cache?"}]}
    headers = ["content-type: application/json"]
    if config.auth.mode != "none":
        headers.append("authorization: Bearer KEY")
    options = " ".join(f"-H {shlex.quote(header)}" for header in headers)
    return f"curl -si {url}/v1/chat/completions {options} -d {shlex.quote(json.dumps(body))}"


def _announce(summary: "Summary", config: Config, *, as_json: bool) -> None:
    told = facts(summary, config)
    if as_json:
        output.show(told, as_json=True)
    else:
        output.facts(f"edgecache {__version__}", told)
