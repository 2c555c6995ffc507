"""One of four endpoints becomes ten times slower in the midst of a run: what happens to the time to the first token.

    python -m bench.load.slow_endpoint [--rounds 3] [--seconds 20] [--connections 32] [--out bench/results]

Four scripted cores serve one model. A POP, one that is not told their `max_concurrency`, a round robin
(`bench.load.roundrobin`) and LiteLLM's proxy with latency-based routing (left out where `.venv-peers` has none) stand
before them in turn, each started anew for every round. Connections ask for streams, always something new and past the
cache, with a pause before each request that keeps LiteLLM's proxy able to follow. In the first half all cores are well.
Then `time_factor` 10 befalls the one that had most requests so far, while requests go on: a balancer that happens not
to use the slow one would prove nothing.

`spread` of a healthy half is the most and the fewest requests that a core had, as shares of an equal part.
`slowed` is all that was sent after that moment, `settled` what was sent two seconds later or more. `share` is the
slow core's part of the requests of that half, `extra` how many requests the cores got beyond those that were asked. The
demand is on the POPs: p99 slowed within 1.5 times p99 healthy.
"""

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.load import harness
from bench.load.client import Connection, connect, drive, post
from bench.load.litellm_proxy import installed, litellm
from bench.load.miss import questions
from edgecache.sim.pop import own_pop

ARMS = ("pop", "pop, no limits", "round robin", "litellm")
CORES = 4
SLOTS = 64
FACTOR = 10.0
DEMAND = 1.5
TOKENS = 12
"""Tokens of an answer: few, since what counts is the first."""
SETTLED = 2.0
"""Seconds after which a balancer may be expected to have noticed."""
WARM = 3.0
"""Seconds of requests before anything is counted."""


class Front(NamedTuple):
    """What stands before the cores, and the headers that it wants."""

    url: str
    headers: Mapping[str, str] = {}


class Sample(NamedTuple):
    """One request: when it was sent, and seconds to its first byte; None where it was not answered with 200."""

    sent: float
    first: float | None


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every balancer, round by round."""
    arms = [arm for arm in options.arms if arm != "litellm" or installed()]
    if arms != options.arms:
        print("litellm: not installed in .venv-peers, left out")
    asked = questions(options.seed)
    rounds: list[dict[str, dict[str, Any]]] = []
    async with _cores(options.ttft) as cores:
        for _ in range(options.rounds):
            found = {}
            for arm in random.sample(arms, len(arms)):
                async with _front(arm, cores) as front:
                    found[arm] = await _run(front, cores, asked, options)
            rounds.append(found)
    results = {arm: _summary([each[arm] for each in rounds]) for arm in arms}
    columns = (
        "balancer",
        "part",
        "requests",
        "failed",
        "p50 ms",
        "p99 ms",
        "p99 / healthy",
        "share",
        "spread",
        "extra",
    )
    harness.table(f"One of {CORES} endpoints {FACTOR:g} times slower", columns, _rows(results))
    met = {arm: found["ratio"] <= DEMAND for arm, found in results.items() if arm.startswith("pop")}
    for arm, well in met.items():
        ratio = results[arm]["ratio"]
        print(f"{arm}: p99 slowed / healthy {ratio:.2f}, demand {DEMAND}: {'met' if well else 'MISSED'}")
    return {"arms": results, "met": met}


@contextlib.asynccontextmanager
async def _cores(ttft: float) -> AsyncIterator[list[str]]:
    async with contextlib.AsyncExitStack() as stack:
        options = ["--time-to-first-token", str(ttft), "--inter-token-latency", "0.002", "--dialect", "vllm"]
        command = ("-m", "edgecache", "sim", "core", "--json", "--listen", "127.0.0.1:0", "--model", harness.MODEL)
        starts = [harness.child(*command, *options, "--max-num-seqs", str(SLOTS)) for _ in range(CORES)]
        yield [(await stack.enter_async_context(start)).url for start in starts]


@contextlib.asynccontextmanager
async def _front(arm: str, cores: Sequence[str]) -> AsyncIterator[Front]:
    """The balancer, freshly started: what it learned in another round must not help it."""
    if arm == "round robin":
        async with harness.child("-m", "bench.load.roundrobin", *cores) as child:
            yield Front(child.url)
    elif arm == "litellm":
        async with litellm(cores) as proxy:
            yield Front(proxy.url, proxy.headers)
    else:
        with tempfile.TemporaryDirectory() as folder:
            slots = SLOTS if arm == "pop" else 0
            async with own_pop(_pop_config(Path(folder), cores, slots)) as pop:
                yield Front(pop.url)


def _pop_config(folder: Path, cores: Sequence[str], slots: int) -> list[str]:
    upstreams = [
        f'[[upstream]]\nname = "core-{number}"\nurl = "{url}"\ndialect = "vllm"\ntier = "core"\n'
        f'models = ["{harness.MODEL}"]\nmax_concurrency = {slots}\n'
        for number, url in enumerate(cores, 1)
    ]
    path = folder / "pop.toml"
    head = '[router]\nservice_class = "interactive"\n\n[embed]\nmodel = "hashing"\n\n'
    path.write_text(head + "\n".join(upstreams), encoding="utf-8")
    return ["--config", str(path)]


async def _run(front: Front, cores: Sequence[str], asked: Iterator[str], options: argparse.Namespace) -> dict[str, Any]:
    """One run before one balancer: samples by part, and who got the requests of each half."""
    begun = time.perf_counter()
    turn = begun + WARM + options.seconds
    end = turn + options.seconds
    running = asyncio.gather(*(_lane(front, asked, end, options.think) for _ in range(options.connections)))
    try:
        await asyncio.sleep(WARM)
        first = await _received(cores)
        await asyncio.sleep(turn - time.perf_counter())
        second = await _received(cores)
        well = [after - before for before, after in zip(first, second, strict=True)]
        slow = well.index(max(well))
        await _configure(cores[slow], time_factor=FACTOR)
        turn = time.perf_counter()
        samples = [sample for lane in await running for sample in lane]
        third = await _received(cores)
    finally:
        running.cancel()
        for core in cores:
            await _configure(core, time_factor=1.0)
    ill = [after - before for before, after in zip(second, third, strict=True)]
    healthy = [sample for sample in samples if begun + WARM <= sample.sent < turn]
    slowed = [sample for sample in samples if sample.sent >= turn]
    settled = [sample for sample in slowed if sample.sent >= turn + SETTLED]
    return {
        "healthy": [sample.first for sample in healthy],
        "slowed": [sample.first for sample in slowed],
        "settled": [sample.first for sample in settled],
        "share_healthy": well[slow] / max(1, sum(well)),
        "share_slowed": ill[slow] / max(1, sum(ill)),
        "extra": sum(ill) / max(1, len(slowed)) - 1,
        "received_healthy": well,
        "received_slowed": ill,
    }


async def _lane(front: Front, asked: Iterator[str], end: float, think: float) -> list[Sample]:
    """One connection that asks until `end`; a broken one is opened again."""
    done: list[Sample] = []
    connection: Connection | None = None
    try:
        while True:
            await asyncio.sleep(random.uniform(0.0, think))
            if (sent := time.perf_counter()) >= end:
                return done
            body = harness.question(next(asked), stream=True, max_tokens=TOKENS)
            request = post(front.url, harness.PATH, body, {"EdgeCache-Mode": "bypass", **front.headers})
            try:
                connection = connection or await connect(front.url)
                exchange = await connection.ask(request)
                done.append(Sample(sent, exchange.first if exchange.status == 200 else None))
            except OSError:
                done.append(Sample(sent, None))
                if connection is not None:
                    connection.close()
                connection = None
    finally:
        if connection is not None:
            connection.close()


async def _configure(core: str, **changes: float) -> None:
    (answer,) = await drive(core, [post(core, "/admin/config", changes)], 1)
    if answer.status != 200:
        raise RuntimeError(f"the core did not take {changes}: {answer.body!r}")


async def _received(cores: Sequence[str]) -> list[int]:
    """API requests that each core has had."""
    counts = []
    for core in cores:
        (answer,) = await drive(core, [b"GET /admin/seen HTTP/1.1\r\nHost: core\r\n\r\n"], 1)
        counts.append(int(json.loads(answer.body)["requests"]))
    return counts


def _summary(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All rounds together; `ratio` is of the p99s of all rounds, `ratios` of each."""
    parts = {
        part: _part([first for each in rounds for first in each[part]]) for part in ("healthy", "slowed", "settled")
    }
    ratios = [_part(each["slowed"])["p99_ms"] / _part(each["healthy"])["p99_ms"] for each in rounds]
    wells = [each["received_healthy"] for each in rounds]
    shares = [got * len(well) / max(1, sum(well)) for well in wells for got in well]
    return {
        **parts,
        "spread": [max(shares), min(shares)],
        "ratio": parts["slowed"]["p99_ms"] / parts["healthy"]["p99_ms"],
        "ratio_settled": parts["settled"]["p99_ms"] / parts["healthy"]["p99_ms"],
        "ratios": ratios,
        "share_healthy": harness.median([each["share_healthy"] for each in rounds]),
        "share_slowed": harness.median([each["share_slowed"] for each in rounds]),
        "received": [{part: each["received_" + part] for part in ("healthy", "slowed")} for each in rounds],
        "extra": harness.median([each["extra"] for each in rounds]),
    }


def _part(firsts: Sequence[float | None]) -> dict[str, Any]:
    answered = sorted(first * 1000 for first in firsts if first is not None)
    return {
        "requests": len(firsts),
        "failed": len(firsts) - len(answered),
        "p50_ms": harness.median(answered),
        "p99_ms": answered[min(len(answered) - 1, int(0.99 * len(answered)))] if answered else float("nan"),
    }


def _rows(results: dict[str, dict[str, Any]]) -> list[list[object]]:
    rows: list[list[object]] = []
    for arm, found in results.items():
        for part in ("healthy", "slowed", "settled"):
            figures = [found[part][name] for name in ("requests", "failed", "p50_ms", "p99_ms")]
            ratio = found[part]["p99_ms"] / found["healthy"]["p99_ms"]
            share = found.get("share_" + part, "")
            spread = " ".join(f"{each:.2f}" for each in found["spread"]) if part == "healthy" else ""
            rows.append([arm, part, *figures, ratio, share, spread, found["extra"] if part == "slowed" else ""])
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each half of a run")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--ttft", type=float, default=0.05, help="s to a core's first token")
    parser.add_argument("--think", type=float, default=3.0, help="most s before a request")
    parser.add_argument("--seed", type=int, default=0)
    harness.run("slow_endpoint", parser, bench)


if __name__ == "__main__":
    main()
