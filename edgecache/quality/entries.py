"""Whether errors grow with the cache: the same requests against caches that were filled with more and more questions.

The fill is questions that the stream does not ask. Those known to be duplicates of an asked one answer it; the others
are others as far as labels go, so an unlabelled duplicate counts as an error: that part does grow with the entries.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from edgecache.quality.datasets import Stream
from edgecache.quality.intervals import Share, difference, together
from edgecache.quality.orders import shuffled
from edgecache.quality.room import Room
from edgecache.quality.stream import Filled, Rules, play

SIZES: Final = (1_000, 16_000, 100_000)


def fillings(
    more: Sequence[str], names: Mapping[str, str], sizes: Sequence[int], first: int, seed: int
) -> list[Filled]:
    """Nested fills of each size out of `more`, whose numbers in the room begin at `first`; what is known of it first.

    The largest is what there is, if that is less.
    """
    chosen = list(range(len(more)))
    random.Random(seed).shuffle(chosen)  # noqa: S311 - which questions, not a secret
    found = []
    for size in sizes:
        part = chosen[:size]
        found.append(Filled(tuple(first + i for i in part), tuple(names.get(more[i], f"\0{more[i]}") for i in part)))
    return found


def run(
    room: Room, stream: Stream, fills: Sequence[Filled], rules: Sequence[Rules], *, requests: int, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """For each policy the wrong-hit rate at each size, pooled over `seeds`, and whether it is flat."""
    found = []
    for each in rules:
        sizes = []
        for fill in fills:
            played = [
                play(room, stream, each, seed=seed, order=shuffled(len(stream.asked), seed)[:requests], filled=fill)
                for seed in seeds
            ]
            sizes.append((len(fill.ids), together([p.hits for p in played]), together([p.wrong_hits for p in played])))
        found.append(_row(each.name, sizes))
    return found


def _row(name: str, sizes: Sequence[tuple[int, Share, Share]]) -> dict[str, Any]:
    low, high = difference(sizes[-1][2], sizes[0][2])
    return {
        "name": name,
        "sizes": [{"entries": n, "hits": hits.to_dict(), "wrong": wrong.to_dict()} for n, hits, wrong in sizes],
        "growth": {
            "value": round(sizes[-1][2].rate - sizes[0][2].rate, 6),
            "low": round(low, 6),
            "high": round(high, 6),
        },
        "flat": low <= 0.0,
    }
