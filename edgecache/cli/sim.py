"""`edgecache sim`: parts of the simulation by themselves."""

from typing import Annotated, Any

import typer

from edgecache.cli import loop, output
from edgecache.cli.settings import ConfigFile, read
from edgecache.clock import SystemClock
from edgecache.config import address
from edgecache.config.tree import Core
from edgecache.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Scripted parts to try things against.")


@app.command()
def core(
    config: ConfigFile = None,
    *,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 is any free one.")] = (
        "127.0.0.1:8000"
    ),
    dialect: Annotated[str | None, typer.Option(help="Whose wire habits: openai, trtllm, dynamo, vllm.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A served model name; may be given more than once.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="A loaded LoRA adapter; may be given more than once.")] = None,
    time_to_first_token: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    prefill_time_per_token: Annotated[float | None, typer.Option(help="Seconds for each new prompt token.")] = None,
    inter_token_latency: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    time_factor: Annotated[float | None, typer.Option(help="All delays times this.")] = None,
    time_factor_under_load: Annotated[float | None, typer.Option(help="Delays times this when full.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="Requests generated at once.")] = None,
    max_waiting_queue_length: Annotated[int | None, typer.Option(help="Requests that may wait.")] = None,
    failure_injection_rate: Annotated[float | None, typer.Option(help="Share of requests that fail.")] = None,
    failure_type: Annotated[
        list[str] | None, typer.Option(help="How they fail, as in core.failure_types; may be given more than once.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of delays, lengths and failures.")] = None,
    as_json: output.AsJson = False,
) -> None:
    """Run the scripted cluster by itself until stopped. There is no model behind it. More settings: `[core]`."""
    options: dict[str, Any] = {
        "core.dialect": dialect,
        "core.models": model or None,
        "core.loras": lora or None,
        "core.time_to_first_token": time_to_first_token,
        "core.prefill_time_per_token": prefill_time_per_token,
        "core.inter_token_latency": inter_token_latency,
        "core.time_factor": time_factor,
        "core.time_factor_under_load": time_factor_under_load,
        "core.max_num_seqs": max_num_seqs,
        "core.max_waiting_queue_length": max_waiting_queue_length,
        "core.failure_injection_rate": failure_injection_rate,
        "core.failure_types": failure_type or None,
        "core.seed": seed,
    }
    try:
        place = address.parse(listen)
    except ValueError as error:
        raise ConfigError(f"command line: --listen: {error}") from error
    loop.run(_serve(read(config, options).config.core, place, as_json=as_json))


async def _serve(settings: Core, place: address.Address, *, as_json: bool) -> None:
    from edgecache.sim.upstream import ScriptedCore  # noqa: PLC0415 - aiohttp, for this command only

    scripted = ScriptedCore(settings, SystemClock())
    try:
        url = await scripted.start(place.host, place.port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {place.host}:{place.port}: {error.strerror}") from error
    try:
        facts = {"url": url, "dialect": settings.dialect, "models": list(settings.models)}
        if as_json:
            output.show(facts, as_json=True)
        else:
            output.say(f"scripted core ({settings.dialect} dialect, no model behind it) on {url}")
            output.say(f"models: {', '.join(settings.models)}")
        await loop.until_stopped()
    finally:
        await scripted.stop()
