"""Semantic hits among many entries: time outside the embedder, memory of the process, time to ready.

    python -m bench.load.semantic_hit [--entries 100000] [--requests 400] [--out bench/results]

The store is filled before the POP starts: a few hundred questions with their real vectors, and neighbours at random
directions from them, which is the crowd that the search has to tell them from. The POP is started twice: without a
snapshot of its index, then with the one it left. The questions are then asked in other words, under a fixed cosine: the
pair verifier has a benchmark of its own (`bench.micro.verify`).
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from bench.load import harness
from bench.load.client import Exchange, drive, post
from edgecache.clock import SystemClock
from edgecache.config import Embed, Store
from edgecache.embed import open_embedder
from edgecache.embed.base import Embedder
from edgecache.sim.pop import Pop, own_pop
from edgecache.store.entries import EntryStore
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Entry

THINGS = """bicycle piano garden kitchen laptop motorcycle sofa window carpet camera telescope violin tent boat
dishwasher fireplace balcony greenhouse guitar printer""".split()  # noqa: SIM905 - shorter than a list
_POLICY = """
[cache.semantic]
policy = "similarity"
similarity = 0.95

[cache.learning]
sample = 0.0
"""
ASKED = (
    ("How do I clean the {} properly?", "How do I properly clean the {}?"),
    ("What is the best way to repair an old {}?", "What's the best way to repair an old {}?"),
    ("How much does a good {} cost on average?", "How much does a good {} cost on average"),
    ("Where can I learn to build a {} myself?", "Where could I learn to build a {} myself?"),
    ("Why is my {} making a strange noise?", "Why does my {} make a strange noise?"),
)


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Fill, start twice, ask."""
    embedder = open_embedder(Embed())
    pairs = _pairs(embedder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        async with harness.core(time_to_first_token=0.0) as upstream:
            arguments = harness.pop_config(folder, upstream.url, _POLICY)
            template = await _template(arguments, data)
            filled = await _fill(data, options.entries, template, embedder, [stored for stored, _ in pairs])
            async with own_pop(arguments, data=data, patience=600) as pop:
                rebuilt = pop.ready_after
            async with own_pop(arguments, data=data, patience=600) as pop:
                rss = harness.rss_mb(pop.pid)
                answers, forward = await _ask(pop, pairs, options)
                figures = _figures(answers, forward)
                figures |= {"ready_rebuilt_s": rebuilt, "ready_snapshot_s": pop.ready_after, "fill_s": filled}
                figures |= {"rss_ready_mb": rss, "rss_after_mb": harness.rss_mb(pop.pid)}
    figures["entries"] = options.entries
    harness.table(f"Semantic hit among {options.entries} entries", ("figure", "value"), list(figures.items()))
    return figures


def _pairs(embedder: Embedder, least: float = 0.955) -> list[tuple[str, str]]:
    """Stored question and the other wording that is asked, as far as the threshold lets them hit."""
    made = [(a.format(thing), b.format(thing)) for thing in THINGS for a, b in ASKED]
    left, right = (_embed(embedder, texts) for texts in zip(*made, strict=True))
    close = (left * right).sum(axis=1)
    return [pair for pair, similarity in zip(made, close, strict=True) if similarity >= least]


def _embed(embedder: Embedder, texts: tuple[str, ...] | list[str]) -> NDArray[np.float32]:
    return np.concatenate([embedder.encode([tokens]) for tokens in embedder.tokenise(list(texts))])


async def _template(arguments: list[str], data: Path) -> Entry:
    """An entry as the POP itself stores it, whose scope all others take."""
    async with own_pop(arguments, data=data) as pop:
        request = post(pop.url, harness.PATH, harness.question("Which entry is the template of all others?"))
        hit = await harness.until_status(pop.url, request, "HIT")
    async with _store(data) as store:
        found = store.get(int(hit.header("x-edgecache-entry")))
    if found is None:
        raise RuntimeError("the entry that was just hit is not in the store")
    return found


@asynccontextmanager
async def _store(data: Path) -> AsyncIterator[EntryStore]:
    """The store of a POP that is not running."""
    store = EntryStore(data / "store", Store(sync=False), clock=SystemClock(), metrics=Metrics())
    try:
        yield store
    finally:
        await asyncio.to_thread(store.close)


async def _fill(data: Path, entries: int, template: Entry, embedder: Embedder, stored: list[str]) -> float:
    begun = time.perf_counter()
    real = _embed(embedder, stored)
    async with _store(data) as store:
        await store.use_embedder(embedder.fingerprint, embedder.dimension)
        rows = _rows(template, stored, real, entries - 1)
        while block := [row for _, row in zip(range(1000), rows, strict=False)]:
            await asyncio.gather(*(store.put(entry, vector) for entry, vector in block))
    return time.perf_counter() - begun


def _rows(
    template: Entry, stored: list[str], real: NDArray[np.float32], count: int
) -> Iterator[tuple[Entry, NDArray[np.float32]]]:
    """The questions themselves, then entries around them at a cosine of 0.8."""
    rng = np.random.default_rng(0)
    for number in range(count):
        vector, text = real[number % len(stored)], stored[number % len(stored)]
        if number >= len(stored):
            noise = rng.standard_normal(len(vector)).astype(np.float32)
            noise -= vector * float(noise @ vector)
            vector = 0.8 * vector + 0.6 * noise / np.linalg.norm(noise)
            text = f"{text} ({number})"
        digest = number.to_bytes(8, "big") + b"bench".ljust(24, b"\0")
        yield replace(template, id=0, digest=digest, text=text), vector


async def _ask(pop: Pop, pairs: list[tuple[str, str]], options: argparse.Namespace) -> tuple[list[Exchange], float]:
    """The answers, and the mean forward pass in place (ms), as the POP's own metrics tell it: one a request."""
    requests = [post(pop.url, harness.PATH, harness.question(other)) for _, other in pairs]
    await drive(pop.url, requests, 1)  # warm up
    before = await _passes(pop)
    answers = await drive(pop.url, random.Random(0).choices(requests, k=options.requests), 1)
    seconds, count = (after - earlier for after, earlier in zip(await _passes(pop), before, strict=True))
    return answers, 1000 * seconds / count


async def _passes(pop: Pop) -> tuple[float, float]:
    """Seconds and number of forward passes so far."""
    async with aiohttp.ClientSession() as session, session.get(pop.admin + "/metrics") as response:
        lines = (await response.text()).splitlines()
    values = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
    return values["edgecache_embed_pass_seconds_sum"], values["edgecache_embed_pass_seconds_count"]


def _figures(answers: list[Exchange], forward: float) -> dict[str, Any]:
    hits = [each for each in answers if each.header("x-edgecache-status") == "SEMANTIC_HIT"]
    stages = ("parse", "key", "exact", "embed", "ann", "verify")
    named = {name: [value for each in hits if (value := each.stage(name)) is not None] for name in stages}
    total = harness.median([each.total for each in hits]) * 1000
    outside = harness.median([each.total - (each.stage("embed") or 0.0) for each in hits]) * 1000
    return {
        "requests": len(answers),
        "semantic_hits": len(hits),
        "total_ms": total,
        "outside_embed_stage_ms": outside,
        "forward_pass_ms": forward,
        "total_less_forward_pass_ms": total - forward,
        "stages_ms": {name: round(harness.median(values) * 1000, 3) for name, values in named.items() if values},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=400)
    harness.run("semantic_hit", parser, bench)


if __name__ == "__main__":
    main()
