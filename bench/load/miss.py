"""What a POP adds to a miss: whole JSON answers and first bytes of streams, directly and through it, in turns.

    python -m bench.load.miss [--rounds 5] [--requests 40] [--ttft 0.2] [--think 0.2] [--out bench/results]

Every request asks something new. `exact` asks for no semantic lookup (`EdgeCache-Mode: exact`), `bypass` for no cache
at all; `semantic` pays for the embedder, whose own time is taken from `Server-Timing` and told apart. Added times are
medians, over the rounds, of the difference between the medians of two neighbouring blocks.

Several connections pause at random between requests (`--think`): against an upstream with one fixed delay they would
else fall into step, and the figure would be the time it takes to serve a burst of all of them. One connection asks
again at once.
"""

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.load import harness
from bench.load.client import Exchange, drive, post
from edgecache.sim.pop import own_pop

ARMS: dict[str, dict[str, str]] = {
    "direct": {},
    "bypass": {"EdgeCache-Mode": "bypass"},
    "exact": {"EdgeCache-Mode": "exact"},
    "semantic": {},
}
WORDS = """anchor basket candle desert engine forest garden hammer island jacket kettle ladder market needle orange
pencil quarry rocket saddle temple umbrella valley window yellow zebra bridge castle dragon falcon glacier harbour
insect jungle kitchen lantern meadow network orchard planet quiver river silver tunnel village whistle""".split()  # noqa: SIM905 - as a list it would take thirty lines


def questions(seed: int) -> Iterator[str]:
    """Questions without end, no two alike in meaning."""
    rng = random.Random(seed)
    while True:
        yield "Tell me what links " + ", ".join(rng.sample(WORDS, 6)) + " in folk tales"


async def bench(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every combination of answer form and connections."""
    results = []
    asked = questions(options.seed)
    with tempfile.TemporaryDirectory() as name:
        async with (
            harness.core(time_to_first_token=options.ttft) as upstream,
            own_pop(harness.pop_config(Path(name), upstream.url)) as pop,
        ):
            for stream in (False, True):
                for connections in options.connections:
                    bench_round = _Round(
                        upstream.url,
                        pop.url,
                        asked,
                        options.requests,
                        stream=stream,
                        connections=connections,
                        think=options.think if connections > 1 else 0.0,
                    )
                    await bench_round()  # warm up
                    rounds = [await bench_round() for _ in range(options.rounds)]
                    results.append(_summary(stream, connections, rounds))
    columns = (
        "answer",
        "connections",
        "arm",
        "ms",
        "added ms",
        "embed ms",
        "added less embed",
        "unexpected",
    )
    harness.table(f"Miss against the upstream itself (first token after {options.ttft} s)", columns, _rows(results))
    return results


class _Round:
    """One block of requests an arm, in random order."""

    def __init__(
        self,
        upstream: str,
        pop: str,
        asked: Iterator[str],
        requests: int,
        *,
        stream: bool,
        connections: int,
        think: float,
    ) -> None:
        self._urls = {arm: upstream if arm == "direct" else pop for arm in ARMS}
        self._asked = asked
        self._requests = max(requests, 4 * connections)
        self._stream = stream
        self._connections = connections
        self._think = think

    async def __call__(self) -> dict[str, dict[str, float]]:
        found = {}
        for arm in random.sample(list(ARMS), len(ARMS)):
            url = self._urls[arm]
            requests = (
                post(url, harness.PATH, harness.question(next(self._asked), stream=self._stream), ARMS[arm])
                for _ in range(self._requests)
            )
            found[arm] = self._figures(arm, await drive(url, requests, self._connections, think=self._think))
        return found

    def _figures(self, arm: str, exchanges: list[Exchange]) -> dict[str, float]:
        expected = {"direct": "", "bypass": "BYPASS"}.get(arm, "MISS")
        usable = [e for e in exchanges if e.status == 200 and e.header("x-edgecache-status") == expected]
        times = [e.first if self._stream else e.total for e in usable]
        embed = [stage for e in usable if (stage := e.stage("embed")) is not None]
        return {
            "ms": harness.median(times) * 1000,
            "embed_ms": harness.median(embed) * 1000 if embed else 0.0,
            "without_embed_ms": harness.median(
                [time - (e.stage("embed") or 0.0) for time, e in zip(times, usable, strict=True)]
            )
            * 1000,
            "unexpected": len(exchanges) - len(usable),
        }


def _summary(stream: bool, connections: int, rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:  # noqa: FBT001
    arms = {}
    for arm in ARMS:
        added = [each[arm]["ms"] - each["direct"]["ms"] for each in rounds]
        net = [each[arm]["without_embed_ms"] - each["direct"]["ms"] for each in rounds]
        arms[arm] = {
            "median_ms": harness.median([each[arm]["ms"] for each in rounds]),
            "added_ms": harness.median(added),
            "embed_ms": harness.median([each[arm]["embed_ms"] for each in rounds]),
            "added_without_embed_ms": harness.median(net),
            "unexpected": sum(each[arm]["unexpected"] for each in rounds),
        }
    answer = "stream, first byte" if stream else "json, whole"
    return {"answer": answer, "connections": connections, "arms": arms, "rounds": rounds}


def _rows(results: list[dict[str, Any]]) -> list[list[object]]:
    keys = ("median_ms", "added_ms", "embed_ms", "added_without_embed_ms", "unexpected")
    return [
        [each["answer"], each["connections"], arm, *(found[key] for key in keys)]
        for each in results
        for arm, found in each["arms"].items()
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=40, help="an arm and round; at least four a connection")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--ttft", type=float, default=0.2, help="s to the upstream's first token")
    parser.add_argument("--think", type=float, default=0.2, help="most s before a request; 0 = all in step, bursts")
    parser.add_argument("--seed", type=int, default=0)
    harness.run("miss", parser, bench)


if __name__ == "__main__":
    main()
