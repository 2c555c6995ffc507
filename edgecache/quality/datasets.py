"""The data of the benchmark: labelled pairs and streams, what is in them, and what a verifier may have learned from.

The verifier is trained on part of the pairs (`models/verifier`). A question cluster, that is all questions that any
chain of labelled pairs connects, belongs to the test part if one of its questions is asked in a stream; CheckList is
for tests as a whole. Everything else may have been seen in training, and the report says which rows that concerns.
"""

import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgecache.errors import ConfigError
from edgecache.quality.intervals import Share
from edgecache.sim import workload

STREAMS = ("stream_repeat", "stream_paraphrase")
PAIRS = "pairs.jsonl.gz"
MORE_QUESTIONS = "banking77.jsonl.gz"
QQP = "qqp"
CHECKLIST = "checklist:"


class Pair(msgspec.Struct, frozen=True):
    """Two questions; `same` = the answer to `a` answers `b`. `family` is the set it is from, templates included."""

    family: str
    a: str
    b: str
    same: bool


class Stream(msgspec.Struct, frozen=True):
    """Questions in order of arrival. `asked[i]` is a number in `texts`, `sets[i]` names what answers it."""

    name: str
    texts: tuple[str, ...]
    asked: tuple[int, ...]
    sets: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Of all questions and sets in order."""
        lines = (f"{self.texts[q]}\n{name}\n" for q, name in zip(self.asked, self.sets, strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def repeats(self) -> Share:
        """Requests whose very words were asked before."""
        return Share(len(self.asked) - len(set(self.asked)), len(self.asked))

    @property
    def oracle(self) -> Share:
        """Hits of a cache that never errs and never forgets."""
        return Share(len(self.sets) - len(set(self.sets)), len(self.sets))

    def part(self, limit: int | None) -> "Stream":
        """The first `limit` requests."""
        if limit is None or limit >= len(self.asked):
            return self
        return stream(
            self.name, [(self.texts[q], s) for q, s in zip(self.asked[:limit], self.sets[:limit], strict=True)]
        )


class Clusters:
    """Union-find over texts."""

    def __init__(self, joined: Iterable[tuple[str, str]] = ()) -> None:
        self._parent: dict[str, str] = {}
        for a, b in joined:
            self.join(a, b)

    def join(self, a: str, b: str) -> None:
        """Put the clusters of both texts together."""
        self._parent[self.root(a)] = self.root(b)

    def root(self, text: str) -> str:
        """The representative of the cluster of `text`; a text never seen is a cluster by itself."""
        parent = self._parent
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    def members(self) -> dict[str, list[str]]:
        """Every cluster by its representative, in order of first sight."""
        found: dict[str, list[str]] = defaultdict(list)
        for text in list(self._parent):
            found[self.root(text)].append(text)
        return dict(found)


def stream(name: str, rows: Iterable[tuple[str, str]]) -> Stream:
    """A stream of (question, set)."""
    numbers: dict[str, int] = {}
    asked, sets = [], []
    for text, answer in rows:
        asked.append(numbers.setdefault(text, len(numbers)))
        sets.append(answer)
    return Stream(name, tuple(numbers), tuple(asked), tuple(sets))


def read_stream(path: Path, limit: int | None = None) -> Stream:
    """A file of `{prompt, set}`; raises ConfigError as `sim.workload.load` does."""
    return stream(path.name.split(".")[0], ((q.prompt, q.set) for q in workload.load(path, limit)))


def read_pairs(path: Path) -> list[Pair]:
    """A file of `{set, a, b, label}`."""
    try:
        return [Pair(str(r["set"]), str(r["a"]), str(r["b"]), bool(int(r["label"]))) for r in rows(path)]
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f'{path}: rows need "set", "a", "b" and "label" (0 or 1): {error}') from error


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, gzipped if named .gz."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def questions(path: Path) -> list[str]:
    """The distinct texts of a file of `{text}`; none if it is not there: it only fills a large cache up."""
    return list(dict.fromkeys(str(row["text"]) for row in rows(path) if row.get("text"))) if path.exists() else []


def held_out(pairs: Sequence[Pair], streams: Sequence[Stream]) -> list[Pair]:
    """The pairs of `qqp` that no verifier of ours may have learned from: their cluster is asked in a stream."""
    clusters = Clusters((pair.a, pair.b) for pair in pairs if pair.family == QQP)
    judged = {clusters.root(text) for each in streams for text in each.texts}
    return [pair for pair in pairs if pair.family == QQP and clusters.root(pair.a) in judged]


def answers(pairs: Iterable[Pair], streams: Sequence[Stream]) -> dict[str, str]:
    """For every question of `qqp`, what answers it: its set in one of `streams`, else a name of its own cluster.

    Sets of several streams are told apart by name alone.
    """
    pairs = [pair for pair in pairs if pair.family == QQP]
    clusters = Clusters((pair.a, pair.b) for pair in pairs if pair.same)
    sets = {
        clusters.root(each.texts[q]): name for each in streams for q, name in zip(each.asked, each.sets, strict=True)
    }
    roots = {text: clusters.root(text) for pair in pairs for text in (pair.a, pair.b)}
    return {text: sets.get(root, f"\0{root}") for text, root in roots.items()}


def describe_stream(each: Stream, pairs: Sequence[Pair]) -> dict[str, Any]:
    """What a stream holds: repeats, ceiling, look-alikes, and how much of it pairs outside the test part contain."""
    told_apart: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        if not pair.same:
            told_apart[pair.a].add(pair.b)
            told_apart[pair.b].add(pair.a)
    seen: set[str] = set()
    alike = 0
    for q in each.asked:
        text = each.texts[q]
        alike += not told_apart[text].isdisjoint(seen)
        seen.add(text)
    test = {text for pair in held_out(pairs, [each]) for text in (pair.a, pair.b)}
    learned = {text for pair in pairs if pair.family == QQP for text in (pair.a, pair.b)} - test
    return {
        "file": each.name,
        "requests": len(each.asked),
        "questions": len(each.texts),
        "sets": len(set(each.sets)),
        "exact repeats": each.repeats.to_dict(),
        "oracle hits": each.oracle.to_dict(),
        "look-alikes": Share(alike, len(each.asked)).to_dict(),
        "questions that training may have seen": len(learned.intersection(each.texts)),
        "digest": each.digest[:16],
    }


def describe_pairs(pairs: Sequence[Pair], streams: Sequence[Stream]) -> list[dict[str, Any]]:
    """Rows, labels and distinct texts of every set, and which part it is in."""
    test = {(pair.a, pair.b) for pair in held_out(pairs, streams)}
    counts: Counter[tuple[str, str, bool]] = Counter()
    texts: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for pair in pairs:
        part = "test" if pair.family.startswith(CHECKLIST) or (pair.a, pair.b) in test else "training"
        counts[pair.family, part, pair.same] += 1
        texts[pair.family, part] |= {pair.a, pair.b}
    return [
        {
            "set": family,
            "part": part,
            "pairs": counts[family, part, True] + counts[family, part, False],
            "same": counts[family, part, True],
            "texts": len(texts[family, part]),
        }
        for family, part in sorted(texts)
    ]
