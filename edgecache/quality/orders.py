"""Whether a budget is kept: the same requests in many random orders, each played with every budget.

Orders are shared out among processes, because plays are pure Python. Each process opens the models for itself and
finds vectors and logits in the cache folder.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import msgspec

from edgecache import config
from edgecache.quality import datasets
from edgecache.quality.datasets import Stream
from edgecache.quality.intervals import Share
from edgecache.quality.kit import Kit
from edgecache.quality.room import Room
from edgecache.quality.signals import Progress
from edgecache.quality.stream import Rules, play

BUDGETS: Final = (0.002, 0.005, 0.01, 0.02)
_PIECE: Final = 5
"""Orders given to a process at a time."""


class Job(msgspec.Struct, frozen=True):
    """Orders for one process."""

    file: Path
    limit: int | None
    cache: Path
    embed: config.Embed
    policy: config.HitPolicy
    budgets: tuple[float, ...]
    seeds: tuple[int, ...]


class Kept(msgspec.Struct, frozen=True):
    """What came of one order under one budget."""

    seed: int
    budget: float
    hits: Share
    wrong: Share

    @property
    def ok(self) -> bool:
        """Whether the observed share of wrong answers is within the budget."""
        return self.wrong.rate <= self.budget


def shuffled(requests: int, seed: int) -> list[int]:
    """The order of `seed`."""
    order = list(range(requests))
    random.Random(seed).shuffle(order)  # noqa: S311 - an order of requests, not a secret
    return order


def run(room: Room, stream: Stream, policy: config.HitPolicy, budgets: Iterable[float], seed: int) -> Iterator[Kept]:
    """One order under every budget."""
    order = shuffled(len(stream.asked), seed)
    for budget in budgets:
        rules = Rules(f"budget {budget:.2%}", msgspec.structs.replace(policy, policy="budget", budget=budget))
        played = play(room, stream, rules, seed=seed, order=order)
        yield Kept(seed, budget, played.hits, played.wrong_hits)


def work(job: Job) -> list[Kept]:
    """What one process does."""
    room, stream = _opened(job.file, job.limit, job.cache, msgspec.json.encode(job.embed))
    found = [kept for seed in job.seeds for kept in run(room, stream, job.policy, job.budgets, seed)]
    room.logits.save()
    return found


@lru_cache(maxsize=1)
def _opened(file: Path, limit: int | None, cache: Path, settings: bytes) -> tuple[Room, Stream]:
    stream = datasets.read_stream(file, limit)
    return Kit.open(msgspec.json.decode(settings, type=config.Embed), cache).room(stream), stream


def shared_out(job: Job, workers: int, progress: Progress) -> list[Kept]:
    """All seeds of `job`, by as many processes; the models are opened once in each."""
    pieces = [msgspec.structs.replace(job, seeds=job.seeds[i : i + _PIECE]) for i in range(0, len(job.seeds), _PIECE)]
    found: list[Kept] = []
    with ProcessPoolExecutor(min(workers, len(pieces)), mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(work, piece) for piece in pieces]):
            found += done.result()
            progress(f"orders of {job.file.name}", len(found) // len(job.budgets), len(job.seeds))
    return sorted(found, key=lambda each: (each.budget, each.seed))


def summary(found: Sequence[Kept]) -> list[dict[str, Any]]:
    """By budget: orders that kept it, and the hit rate and wrong-hit rate over all orders."""
    rows = []
    for budget in sorted({each.budget for each in found}):
        mine = [each for each in found if each.budget == budget]
        wrong = [each.wrong.rate for each in mine]
        rows.append(
            {
                "budget": budget,
                "kept": Share(sum(each.ok for each in mine), len(mine)).to_dict(),
                "hit rate": round(sum(each.hits.rate for each in mine) / len(mine), 6),
                "wrong rate": round(sum(wrong) / len(wrong), 6),
                "worst": round(max(wrong), 6),
                "observed": [round(rate, 6) for rate in wrong],
            }
        )
    return rows
