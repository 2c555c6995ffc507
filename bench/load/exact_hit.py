"""Exact hits a second and a core, against a bare aiohttp handler that returns the same bytes.

    python -m bench.load.exact_hit [--rounds 5] [--seconds 2] [--connections 16] [--out bench/results]

Both servers are processes of their own and are measured in turns. Requests a second and core are requests divided by
the CPU time that the server's process took for them, so the load generator's own cost and a busy machine cancel out.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.load import harness
from bench.load.client import Exchange, hammer, post
from edgecache.sim.pop import own_pop

ARMS = ("bare", "pop")


async def bench(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure JSON answers, then streams."""
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            harness.core(time_to_first_token=0.0) as upstream,
            own_pop(harness.pop_config(folder, upstream.url)) as pop,
        ):
            for stream in (False, True):
                body = harness.question("How far is the next town from here?", stream=stream)
                hit = await harness.until_status(pop.url, post(pop.url, harness.PATH, body), "HIT")
                content_type = hit.header("content-type")
                file = folder / "body"
                file.write_bytes(_payload(hit))
                async with harness.child("-m", "bench.load.bare", str(file), "--content-type", content_type) as bare:
                    targets = {"bare": (bare.url, bare.pid), "pop": (pop.url, pop.pid)}
                    requests = {arm: post(url, harness.PATH, body) for arm, (url, _) in targets.items()}
                    rounds = [await _round(targets, requests, options) for _ in range(options.rounds)]
                results.append(_summary("stream" if stream else "json", len(file.read_bytes()), rounds))
    columns = ("answer", "bytes", "arm", "requests/s", "CPU us/request", "requests/s/core", "ratio")
    harness.table("Exact hit against a bare handler (medians of rounds)", columns, _rows(results))
    return results


def _payload(hit: Exchange) -> bytes:
    if hit.header("content-length"):
        return hit.body
    raise RuntimeError("the POP sent a hit in chunks: it is known in full, one write with a length is expected")


async def _round(
    targets: dict[str, tuple[str, int]], requests: dict[str, bytes], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    found = {}
    for arm in random.sample(ARMS, len(ARMS)):
        url, pid = targets[arm]
        await hammer(url, requests[arm], options.connections, 0.2)  # warm caches and connections
        cpu, begun = harness.cpu_seconds(pid), time.perf_counter()
        answered = await hammer(url, requests[arm], options.connections, options.seconds)
        elapsed, used = time.perf_counter() - begun, harness.cpu_seconds(pid) - cpu
        found[arm] = {"rps": answered / elapsed, "cpu_us": used / answered * 1e6, "rps_per_core": answered / used}
    return found


def _summary(answer: str, size: int, rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    arms = {
        arm: {key: harness.median([each[arm][key] for each in rounds]) for key in ("rps", "cpu_us", "rps_per_core")}
        for arm in ARMS
    }
    ratio = harness.median([each["pop"]["rps_per_core"] / each["bare"]["rps_per_core"] for each in rounds])
    return {"answer": answer, "bytes": size, "arms": arms, "ratio_rps_per_core": ratio, "rounds": rounds}


def _rows(results: list[dict[str, Any]]) -> list[list[object]]:
    rows: list[list[object]] = []
    for each in results:
        for arm in ARMS:
            found = each["arms"][arm]
            ratio = each["ratio_rps_per_core"] if arm == "pop" else ""
            figures = [round(found[key], 1) for key in ("rps", "cpu_us", "rps_per_core")]
            rows.append([each["answer"], each["bytes"], arm, *map(str, figures), ratio])
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="a server and round")
    parser.add_argument("--connections", type=int, default=16)
    harness.run("exact_hit", parser, bench)


if __name__ == "__main__":
    main()
