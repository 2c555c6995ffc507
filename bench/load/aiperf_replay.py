"""NVIDIA's aiperf replays a trace of conversations against NVIDIA's Dynamo, directly and through a POP.

    python -m bench.load.aiperf_replay --trace mooncake-conversation_trace.jsonl.gz [--rows 60] [--out bench/results]

aiperf (.venv-aiperf) makes prompts of the trace's lengths and shared prefixes and sends them at the trace's times.
Dynamo (.venv-dynamo) is the real frontend over the TensorRT-LLM mocker, whose GPU is `--speedup-ratio` times as fast as
the one that it models. Each block has a Dynamo and a POP of its own, both new: what one has in its caches is no help to
the other. Times are the client's. Needs requirements/aiperf.txt and requirements/dynamo.txt, no network and no GPU.
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.load import harness
from edgecache.sim.pop import Pop, own_pop

AIPERF = harness.ROOT / ".venv-aiperf" / "bin" / "aiperf"
DYNAMO = harness.ROOT / ".venv-dynamo" / "bin" / "python"
START = harness.ROOT / "tests" / "e2e" / "dynamo" / "start.py"
TOKENIZER = "edge/tok"
REVISION = "0" * 40
SHOWN = {
    "requests": ("request_count", "avg"),
    "TTFT p50 ms": ("time_to_first_token", "p50"),
    "TTFT p99 ms": ("time_to_first_token", "p99"),
    "ITL p50 ms": ("inter_token_latency", "p50"),
    "latency p50 ms": ("request_latency", "p50"),
    "latency p99 ms": ("request_latency", "p99"),
    "tokens/s": ("output_token_throughput", "avg"),
    "requests/s": ("request_throughput", "avg"),
}
"""Our names for what aiperf reports."""


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Replay in turns; the medians of the rounds, and each of them."""
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace = _trace(options, folder / "trace.jsonl")
        for number in range(options.rounds):
            arms = random.sample(["direct", "POP"], 2)
            found = {arm: await _block(arm, options, trace, _made(folder, f"{number}-{arm}")) for arm in arms}
            rounds.append({arm: found[arm] for arm in ("direct", "POP")})
    keys = list(rounds[0]["direct"])
    medians = {arm: {key: harness.median([each[arm][key] for each in rounds]) for key in keys} for arm in rounds[0]}
    rows = [[key, *(medians[arm][key] for arm in medians)] for key in keys]
    harness.table(f"{options.rows} rows of {options.trace.name}", ("", *medians), rows)
    booked = [[who, *each.values()] for who, each in rounds[-1]["POP"]["tokens"].items()]
    harness.table("Tokens of the last round", ("", "prompt", "completion"), booked)
    return {"medians": medians, "rounds": rounds}


def _trace(options: argparse.Namespace, path: Path) -> Path:
    """The first rows of the trace, `options.speed` times as fast."""
    with gzip.open(options.trace, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, options.rows)]
    for row in rows:
        row["timestamp"] = int(row["timestamp"] / options.speed)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


async def _block(arm: str, options: argparse.Namespace, trace: Path, folder: Path) -> dict[str, Any]:
    """One replay against a Dynamo of its own."""
    async with _dynamo(options.speedup_ratio) as dynamo:
        home = _home(Path(dynamo["logs"], "model"), folder / "home")
        if arm == "direct":
            return await _replay(dynamo["url"], trace, home, folder)
        async with own_pop(_config(folder, dynamo["url"])) as pop:
            found = await _replay(pop.url, trace, home, folder)
            return found | {"answers": await _answers(pop), "tokens": await _tokens(pop, dynamo["url"])}


@contextlib.asynccontextmanager
async def _dynamo(speedup_ratio: float) -> AsyncIterator[dict[str, Any]]:
    """Dynamo with one mocker: what it says of itself."""
    process = await asyncio.create_subprocess_exec(
        *(str(DYNAMO), str(START), "--model", harness.MODEL, "--speedup-ratio", str(speedup_ratio)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101
        yield json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _made(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _home(model: Path, home: Path) -> Path:
    """A home folder for aiperf in which the tokenizer lies as if it had come from the Hub: a path it does not take."""
    tokenizer = home / "hub" / f"models--{TOKENIZER.replace('/', '--')}"
    shutil.copytree(model, tokenizer / "snapshots" / REVISION)
    (tokenizer / "refs").mkdir()
    (tokenizer / "refs" / "main").write_text(REVISION, encoding="utf-8")
    return home


def _config(folder: Path, url: str) -> list[str]:
    path = folder / "pop.toml"
    text = f'[[upstream]]\nname = "dynamo"\nurl = "{url}"\ndialect = "dynamo"\nmodels = ["{harness.MODEL}"]\n'
    path.write_text(text, encoding="utf-8")
    return ["--config", str(path)]


async def _replay(url: str, trace: Path, home: Path, folder: Path) -> dict[str, Any]:
    """Let aiperf replay the trace; its figures by our names."""
    arguments = ["profile", "--model", harness.MODEL, "--url", url, "--endpoint-type", "chat", "--streaming"]
    arguments += ["--input-file", str(trace), "--custom-dataset-type", "mooncake-trace"]
    arguments += ["--fixed-schedule", "--fixed-schedule-auto-offset", "--extra-inputs", "ignore_eos:true"]
    arguments += ["--tokenizer", TOKENIZER, "--random-seed", "7", "--ui", "none", "--artifact-dir", str(folder)]
    log = folder / "aiperf.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(str(AIPERF), *arguments),
            env={"PATH": os.defpath, "HOME": str(home), "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        await process.wait()
    report = folder / "profile_export_aiperf.json"
    if process.returncode or not report.exists():
        raise RuntimeError(f"aiperf failed:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
    found = json.loads(report.read_text(encoding="utf-8"))
    errors = found.get("error_request_count", {}).get("avg", 0.0)
    return {"errors": errors} | {name: found[key][field] for name, (key, field) in SHOWN.items()}


async def _answers(pop: Pop) -> dict[str, float]:
    """How many answers the POP gave, by what its cache said: all of a trace without repeats are misses."""
    found: dict[str, float] = {}
    for sample in await _samples(pop.admin):
        if sample.name == "edgecache_requests_total":
            key = f"{sample.labels['code']} {sample.labels['cache']}"
            found[key] = found.get(key, 0.0) + sample.value
    return found


async def _tokens(pop: Pop, dynamo: str) -> dict[str, dict[str, float]]:
    """Prompt and generated tokens: by the POP's usage report, and as Dynamo's frontend has counted them."""
    async with aiohttp.ClientSession() as session, session.get(pop.admin + "/admin/v1/usage") as answer:
        total = (await answer.json())["total"]
    counted = {sample.name: sample.value for sample in await _samples(dynamo)}
    return {
        "usage report": {"prompt": total["prompt_tokens"], "completion": total["completion_tokens"]},
        "frontend": {
            "prompt": counted["dynamo_frontend_input_sequence_tokens_sum"],
            "completion": counted["dynamo_frontend_output_sequence_tokens_sum"],
        },
    }


async def _samples(url: str) -> list[Any]:
    async with aiohttp.ClientSession() as session, session.get(url + "/metrics") as answer:
        text = await answer.text()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True, help="a trace in Mooncake's format, gzip")
    parser.add_argument("--rows", type=int, default=60, help="of the trace, from its beginning")
    parser.add_argument("--speed", type=float, default=1.0, help="times as fast as the trace")
    parser.add_argument("--speedup-ratio", type=float, default=4.0, help="times as fast as the modelled GPU")
    parser.add_argument("--rounds", type=int, default=3)
    harness.run("aiperf-replay", parser, bench)


if __name__ == "__main__":
    main()
