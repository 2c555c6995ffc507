"""How long vectors take, by length of text and size of batch: the POP's embedder against `SentenceTransformer.encode`.

    python -m bench.micro.embed [--rounds 20] [--threads 1] [--out bench/results]

All variants take turns in one process on the same texts, tokenising included, so that a busy machine hits each alike:
trust the ratios. On CUDA where there is one as well. Then the lookups of many callers through the batcher.
"""

import argparse
import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bench.load import harness
from edgecache import config
from edgecache.clock import SystemClock
from edgecache.embed import manifest, sentence_transformer
from edgecache.embed.base import Embedder
from edgecache.embed.batcher import Batcher
from edgecache.errors import EmbedError
from edgecache.telemetry.metrics import Metrics

LENGTHS = {"short": 12, "mid": 58, "long": 248}
"""Tokens of a text."""
BATCHES = (1, 8, 32)
CALLERS = (1, 8, 32)
UNITS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512_f", "avx2")
TEXT = (
    "how do i reset the password of my account when no mail arrives and what does it cost to send a parcel from one "
    "city to another in winter can dogs eat grapes which train leaves first why is the sky blue after rain list books"
)

Encode = Callable[[Sequence[str]], Any]


def texts(embedder: Embedder, tokens: int, count: int, seed: int) -> list[str]:
    """`count` texts of about `tokens` tokens, every word of `TEXT` being one token or two."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        wanted, words = round(tokens * chance.uniform(0.8, 1.03)), [""]
        while len(embedder.tokenise([" ".join(words)])[0]) < wanted:
            words.append(chance.choice(TEXT.split()))
        found.append(" ".join(words))
    return found


def variants(model: manifest.Model, threads: int, device: str) -> tuple[Embedder, dict[str, Encode]]:
    """The embedder a POP would use on `device`, and what to time: the library first, it is the yardstick."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - quiet until it is needed

    embedder = sentence_transformer.load(config.Embed(device="cuda" if device == "cuda" else "cpu"), model)
    torch.set_num_threads(threads)
    folder = manifest.locate(model)
    library = SentenceTransformer(str(folder), device=device, local_files_only=True)
    found: dict[str, Encode] = {
        "library fp32": lambda batch: library.encode(list(batch), batch_size=32, normalize_embeddings=True),
        f"edgecache {embedder.precision}": lambda batch: embedder.encode(embedder.tokenise(batch)),
    }
    if embedder.precision == "bf16":
        full = sentence_transformer.TorchEmbedder(model, folder, device="cpu", precision="fp32")
        found["edgecache fp32"] = lambda batch: full.encode(full.tokenise(batch))
    return embedder, found


def compare(embedder: Embedder, encodes: dict[str, Encode], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a call by length, batch and variant."""
    clock, rows = SystemClock(), []
    for length, tokens in LENGTHS.items():
        for batch in BATCHES:
            turns = max(3, rounds // (4 if length == "long" else 1) // (4 if batch == 32 else 1))
            taken: dict[str, list[float]] = {name: [] for name in encodes}
            for turn in range(-2, turns):
                sample = texts(embedder, tokens, batch, seed=turn)
                for name, encode in encodes.items():
                    begun = clock.monotonic()
                    encode(sample)
                    if turn >= 0:
                        taken[name].append((clock.monotonic() - begun) * 1000)
            rows += summary(length, batch, taken)
    return rows


def summary(length: str, batch: int, taken: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One row a variant; `ratio` is how many times sooner than the first it is."""
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    first = next(iter(medians.values()))
    return [
        {
            "length": length,
            "batch": batch,
            "variant": name,
            "p50_ms": medians[name],
            "p10_ms": float(np.quantile(values, 0.1)),
            "texts_per_s": batch / medians[name] * 1000,
            "ratio": first / medians[name],
        }
        for name, values in taken.items()
    ]


async def lookups(embedder: Embedder, callers: int, each: int) -> dict[str, Any]:
    """`callers` at once, each asking for the vector of one short text after the other through the batcher."""
    clock, taken, late = SystemClock(), [], 0
    batcher = Batcher(embedder, config.Embed(), Metrics(), clock)
    batcher.start()
    await batcher.embed("warm", deadline=30.0)

    async def caller(seed: int) -> None:
        nonlocal late
        for text in texts(embedder, LENGTHS["short"], each, seed):
            begun = clock.monotonic()
            try:
                await batcher.embed(text)
                taken.append((clock.monotonic() - begun) * 1000)
            except EmbedError:
                late += 1

    begun = clock.monotonic()
    await asyncio.gather(*(caller(seed) for seed in range(callers)))
    elapsed = clock.monotonic() - begun
    batcher.close()
    p50, p99 = np.quantile(taken or [float("nan")], [0.5, 0.99])
    return {
        "callers": callers,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "lookups_per_s": len(taken) / elapsed,
        "late": late,
    }


async def work(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print on every device there is."""
    model = manifest.find(manifest.read(manifest.default_path()), options.model)
    units = [name for name in UNITS if torch.cpu.get_capabilities().get(name)]
    results: dict[str, Any] = {"cpu_units": units, "devices": {}}
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        embedder, encodes = variants(model, options.threads, device)
        what = torch.cuda.get_device_name() if device == "cuda" else ", ".join(units)
        rows = compare(embedder, encodes, options.rounds)
        harness.table(f"{model.name} on {device} ({what})", list(rows[0]), [list(row.values()) for row in rows])
        served = [await lookups(embedder, callers, options.rounds) for callers in CALLERS]
        harness.table("lookups of short texts, batched", list(served[0]), [list(row.values()) for row in served])
        results["devices"][device] = {"name": what, "calls": rows, "lookups": served}
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="name in models/manifest.toml")
    parser.add_argument("--rounds", type=int, default=20, help="calls timed for each figure")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    harness.run("embed", parser, work)
