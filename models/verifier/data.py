"""The questions the verifier learns from, and those it must never see: split by question cluster, not by pair.

Two questions are in one cluster if any chain of labelled pairs, of either label, connects them. A cluster with a
question of an evaluation stream is for evaluation alone; the others are split between training and calibration.
CheckList is for evaluation as a whole, so that every template that judges the verifier is new to it.
"""

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from edgecache.quality.datasets import Clusters

CALIBRATION_SHARE = 0.2
_CLOSURES = 12
"""The most pairs taken from one group of duplicates beyond those that people labelled."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions; `label` 1 = the answer to `a` answers `b`."""

    a: str
    b: str
    label: int
    origin: str = "qqp"


@dataclass(frozen=True, slots=True)
class Split:
    """The labelled pairs of each part, the other sets, and which duplicates belong together in each part."""

    train: list[Pair]
    calibration: list[Pair]
    test: list[Pair]
    other: list[Pair]
    checklist: list[Pair]
    duplicates: dict[str, str]
    """Question → representative of its group of duplicates, over all parts."""


def lines(path: Path) -> Iterator[dict[str, object]]:
    """The rows of a gzipped JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def split(folder: Path, seed: int) -> Split:
    """Read `pairs.jsonl.gz` and the streams in `folder` and split them."""
    rows = [
        Pair(str(r["a"]), str(r["b"]), int(str(r["label"])), str(r["set"])) for r in lines(folder / "pairs.jsonl.gz")
    ]
    qqp = [pair for pair in rows if pair.origin == "qqp"]
    linked, same = Clusters(), Clusters()
    for pair in qqp:
        linked.join(pair.a, pair.b)
        same.root(pair.a)
        same.root(pair.b)
        if pair.label:
            same.join(pair.a, pair.b)
    judged = {
        linked.root(str(row["prompt"]))
        for name in ("stream_repeat", "stream_paraphrase")
        for row in lines(folder / f"{name}.jsonl.gz")
    }
    free = sorted({linked.root(pair.a) for pair in qqp} - judged)
    random.Random(seed).shuffle(free)
    kept_back = set(free[: int(len(free) * CALIBRATION_SHARE)])
    parts: dict[str, list[Pair]] = {"train": [], "calibration": [], "test": []}
    for pair in qqp:
        root = linked.root(pair.a)
        parts["test" if root in judged else "calibration" if root in kept_back else "train"].append(pair)
    return Split(
        parts["train"],
        parts["calibration"],
        parts["test"],
        [pair for pair in rows if pair.origin in {"mrpc", "sick"}],
        [pair for pair in rows if pair.origin.startswith("checklist:")],
        {text: same.root(text) for pair in qqp for text in (pair.a, pair.b)},
    )


def questions(pairs: Iterable[Pair]) -> list[str]:
    """Every text once, in order of first sight."""
    return list(dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b)))


def closures(pairs: list[Pair], seed: int) -> list[Pair]:
    """Duplicates of duplicates: pairs that follow from the labels, where no label denies them."""
    same = Clusters()
    for pair in pairs:
        if pair.label:
            same.join(pair.a, pair.b)
    labelled = {frozenset((pair.a, pair.b)) for pair in pairs}
    chance = random.Random(seed)
    found: list[Pair] = []
    for group in same.members().values():
        new = [both for both in combinations(group[:40], 2) if frozenset(both) not in labelled]
        found += [Pair(a, b, 1, "closure") for a, b in chance.sample(new, min(len(new), _CLOSURES, len(group)))]
    return found
