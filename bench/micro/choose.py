"""How long choosing an upstream takes, by how many there are, against a plain scan for the least loaded.

    python -m bench.micro.choose [--rounds 2000] [--upstreams 1 4 100 4400] [--out bench/results]

Upstreams of all tiers, prices and places, some ejected, full or slow, with a load that they told; requests with
features, a residency, a deadline and a known prefix. All variants take turns in one process on the same requests, so
that a busy machine hits each alike. The floor is what a proxy does at the least: a loop in Python that leaves out who
is full, down or elsewhere and takes the one with the fewest requests in progress. It predicts nothing.
"""

import argparse
import random
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import numpy as np

from bench.load import harness
from edgecache.clock import SystemClock
from edgecache.config import Price, ServiceLevel, Upstream
from edgecache.router import policy
from edgecache.router.affinity import Affinity
from edgecache.router.board import Board
from edgecache.router.choice import Choice
from edgecache.router.demand import Demand, Feature, Prefix
from edgecache.router.offers import Offers, facts
from edgecache.router.predict import predict
from edgecache.types import Tier

NOW = 1000.0
LEVEL = ServiceLevel(ttft=1.0)
PLACES = ("EU", "US", "JP")
TARGETS = {100: 150.0, 4400: 2000.0}
"""Microseconds that are aimed at, by number of upstreams."""


class Market(NamedTuple):
    """What there is to choose from."""

    board: Board
    offers: Offers
    affinity: Affinity


def market(count: int, draw: random.Random) -> Market:
    """`count` upstreams, no two alike."""
    upstreams = [
        Upstream(
            name=f"u{number}",
            url="http://unused",
            tier=draw.choice(list(Tier)),
            jurisdiction=draw.choice(PLACES),
            context=draw.choice([0, 8192, 131_072]),
            max_concurrency=draw.choice([0, 16, 64]),
            price=Price(input=draw.uniform(0.1, 3), output=draw.uniform(0.3, 9)),
        )
        for number in range(count)
    ]
    board = Board([each.name for each in upstreams])
    offers = Offers("m", range(count), [facts(each, "m") for each in upstreams])
    board.slots[:] = [each.max_concurrency or inf for each in upstreams]
    board.inflight[:] = [draw.randrange(16) for _ in upstreams]
    board.rtt[:] = [draw.uniform(0.001, 0.2) for _ in upstreams]
    board.out[:] = [NOW + 5 if draw.random() < 0.05 else 0 for _ in upstreams]
    board.told[:] = [NOW - draw.uniform(0, 20) for _ in upstreams]
    board.queued[:] = [draw.randrange(4) for _ in upstreams]
    board.running[:] = [draw.randrange(32) for _ in upstreams]
    board.capacity[:] = 64
    board.kv[:] = [draw.random() for _ in upstreams]
    offers.overhead[:] = [draw.uniform(0.02, 0.5) for _ in upstreams]
    return Market(board, offers, Affinity())


def demand(draw: random.Random) -> Demand:
    """A request that uses most of the filters."""
    return Demand(
        "m",
        prompt_tokens=draw.randrange(100, 4000),
        output_tokens=draw.uniform(20, 400),
        features=draw.choice([Feature.NONE, Feature.TOOLS]),
        residency=frozenset(PLACES[:2]),
        due=NOW + 120,
        budget=1.0,
        prefixes=tuple(Prefix(draw.randbytes(16), 256 * 2**power) for power in range(4)),
    )


def least_loaded(upstreams: list[dict[str, Any]], wanted: Demand) -> str | None:
    """The floor."""
    best, fewest = None, inf
    for each in upstreams:
        if each["out"] > NOW or each["inflight"] >= each["slots"] or each["place"] not in wanted.residency:
            continue
        if each["inflight"] < fewest:
            best, fewest = each["name"], each["inflight"]
    return best


def variants(there: Market, draw: random.Random) -> dict[str, Callable[[Demand], object]]:
    """What is timed, each on one request."""
    board, offers, affinity = there
    plain = [
        {
            "name": name,
            "out": board.out[row],
            "inflight": board.inflight[row],
            "slots": board.slots[row],
            "place": place,
        }
        for row, (name, place) in enumerate(zip(offers.names, offers.jurisdictions, strict=True))
    ]
    for each in plain:
        each |= {key: float(each[key]) for key in ("out", "inflight", "slots")}  # as fast as plain numbers are
    none = np.zeros(len(offers))

    def chosen(wanted: Demand) -> Choice:
        known = affinity.known(offers, wanted, NOW)
        return policy.choose(
            offers, board, wanted, LEVEL, near=0.1, most_out=0.5, now=NOW, draw=draw.random, known=known
        )

    return {
        "least loaded, plain loop": lambda wanted: least_loaded(plain, wanted),
        "predicting alone": lambda wanted: predict(offers, board, wanted, none, 0.9, NOW),
        "choosing": chosen,
    }


def measure(count: int, rounds: int, draw: random.Random) -> list[dict[str, Any]]:
    """Microseconds of each variant among `count` upstreams."""
    clock, there = SystemClock(), market(count, draw)
    tried = variants(there, draw)
    taken: dict[str, list[float]] = {name: [] for name in tried}
    for turn in range(rounds + 20):
        wanted = demand(draw)
        there.affinity.note(wanted, draw.choice(there.offers.names), NOW)
        for name, variant in tried.items():
            begun = clock.monotonic()
            variant(wanted)
            if turn >= 20:
                taken[name].append((clock.monotonic() - begun) * 1e6)
    rows = []
    for name, values in taken.items():
        p50, p90, p99 = (float(each) for each in np.quantile(values, [0.5, 0.9, 0.99]))
        target = TARGETS.get(count, "") if name == "choosing" else ""
        rows.append(
            {"upstreams": count, "variant": name, "p50_us": p50, "p90_us": p90, "p99_us": p99, "target_us": target}
        )
    return rows


async def work(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure and print."""
    draw = random.Random(options.seed)
    rows = [row for count in options.upstreams for row in measure(count, options.rounds, draw)]
    harness.table("choosing an upstream", list(rows[0]), [list(row.values()) for row in rows])
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help="requests timed for each figure")
    parser.add_argument("--upstreams", type=int, nargs="+", default=[1, 4, 100, 4400], help="how many there are")
    parser.add_argument("--seed", type=int, default=1, help="which upstreams and requests are drawn")
    harness.run("choose", parser, work)
