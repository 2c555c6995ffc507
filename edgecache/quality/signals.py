"""What all policies and peers are shown: vectors, neighbours among them, the verifier's logits, each made once.

Everything is kept on disk under the fingerprint of the model that made it, so that a second run starts at once. A logit
belongs to a pair whatever its order. Nothing is decided here.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from edgecache.embed.base import Embedder, Engine, Matrix, Pair, Vector

Progress = Callable[[str, int, int], None]
"""Called with what is done, steps done and steps in all."""

DEPTH: Final = 64
_BLOCK: Final = 1 << 23
"""Similarities held at once."""
_BATCH: Final = 256
_PAIRS: Final = 128


def silent(_what: str, _done: int, _total: int) -> None:
    """No progress is shown."""


class Vectors:
    """One vector a text, each embedded once in a process, and kept on disk by the list that was asked for."""

    def __init__(self, embedder: Embedder, cache: Path | None = None, progress: Progress = silent) -> None:
        self._embedder = embedder
        self._cache = cache
        self._progress = progress
        self._known: dict[str, Vector] = {}

    def of(self, texts: Sequence[str]) -> Matrix:
        """One row a text; of one longer than the window, that of its beginning: no POP would embed it at all."""
        fingerprint = self._embedder.fingerprint
        file = None if self._cache is None else self._cache / f"vectors-{_named(fingerprint, texts)}.npy"
        if file is not None and file.exists():
            found: Matrix = np.load(file)
        else:
            self._embed([text for text in dict.fromkeys(texts) if text not in self._known])
            found = np.stack([self._known[text] for text in texts])
            if file is not None:
                _write(file, lambda out: np.save(out, found))
        self._known.update(zip(texts, found, strict=True))
        return found

    def _embed(self, texts: Sequence[str]) -> None:
        tokens = [ids[: self._embedder.window] for ids in self._embedder.tokenise(texts)] if texts else []
        by_length = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        for start in range(0, len(by_length), _BATCH):
            part = by_length[start : start + _BATCH]
            rows = self._embedder.encode([tokens[i] for i in part])
            self._known.update(zip((texts[i] for i in part), rows, strict=True))
            self._progress("vectors", start + len(part), len(texts))


class Neighbours:
    """For each of some queries the nearest rows among all, itself left out, nearest first."""

    def __init__(self, ids: NDArray[np.int32], similarities: NDArray[np.float32]) -> None:
        self.ids = ids
        self.similarities = similarities

    @classmethod
    def among(
        cls, rows: Matrix, queries: int | None = None, depth: int = DEPTH, progress: Progress = silent
    ) -> "Neighbours":
        """Of the first `queries` of `rows` (all if None). Exact: every pair is compared."""
        many = len(rows) if queries is None else queries
        depth = min(depth, len(rows) - 1)
        ids = np.empty((many, depth), np.int32)
        similarities = np.empty((many, depth), np.float32)
        block = max(_BLOCK // len(rows), 1)
        for start in range(0, many, block):
            end = min(start + block, many)
            scores = rows[start:end] @ rows.T
            scores[np.arange(end - start), np.arange(start, end)] = -2.0
            if depth < scores.shape[1] - 1:
                top = np.argpartition(-scores, depth, axis=1)[:, :depth]
            else:
                top = np.argsort(-scores, axis=1)[:, :depth]
            values = np.take_along_axis(scores, top, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            ids[start:end] = np.take_along_axis(top, order, axis=1)
            similarities[start:end] = np.take_along_axis(values, order, axis=1)
            progress("neighbours", end, many)
        return cls(ids, similarities)


class Logits:
    """The pair verifier's word on pairs of numbered texts, asked at most once a pair, and remembered on disk."""

    def __init__(
        self,
        texts: Sequence[str],
        engine: Engine[Pair] | None,
        fingerprint: str = "",
        cache: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        self._texts = texts
        self._engine = engine
        self._progress = progress
        self._file = None if cache is None or engine is None else cache / f"logits-{_named(fingerprint, ())}.npz"
        self._known: dict[tuple[int, int], float] = {}
        self._kept: dict[int, float] = {}
        self._new: dict[int, float] = {}
        self.asked = 0
        """Pairs that went through the verifier, not those remembered."""
        if self._file is not None and self._file.exists():
            with np.load(self._file) as held:
                self._kept = dict(zip(held["pairs"].tolist(), held["logits"].tolist(), strict=True))

    def of(self, question: int, others: Iterable[int]) -> dict[int, float]:
        """The logit of `question` with each of `others`; none of a pair that is too long or without a verifier."""
        others = list(others)
        self.want([(question, other) for other in others])
        known = {other: self._known.get(_key(question, other)) for other in others}
        return {other: logit for other, logit in known.items() if logit is not None and logit == logit}  # noqa: PLR0124

    def want(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Have the logits of `pairs` ready: one large batch is much faster than many small ones."""
        missing = []
        for a, b in pairs:
            key = _key(a, b)
            if key not in self._known:
                kept = self._kept.get(self._hash(key))
                if kept is not None:
                    self._known[key] = kept
                elif self._engine is not None:
                    missing.append(key)
        if self._engine is not None:
            self._score(self._engine, list(dict.fromkeys(missing)))

    def _score(self, engine: Engine[Pair], missing: list[tuple[int, int]]) -> None:
        tokens = engine.tokenise([Pair(self._texts[a], self._texts[b]) for a, b in missing]) if missing else []
        by_length = sorted(range(len(missing)), key=lambda i: len(tokens[i]))
        for start in range(0, len(missing), _PAIRS):
            part = [i for i in by_length[start : start + _PAIRS] if len(tokens[i]) <= engine.window]
            found = engine.encode([tokens[i] for i in part])[:, 0].tolist() if part else []
            self._learn(missing, dict(zip(part, found, strict=True)), by_length[start : start + _PAIRS])
            if len(missing) > 8 * _PAIRS:
                self._progress("verifier", start, len(missing))

    def _learn(self, missing: list[tuple[int, int]], found: Mapping[int, float], part: list[int]) -> None:
        for i in part:
            logit = found.get(i, float("nan"))  # too long
            self._known[missing[i]] = logit
            self._new[self._hash(missing[i])] = logit
        self.asked += len(part)

    def _hash(self, key: tuple[int, int]) -> int:
        both = "\n".join(sorted((self._texts[key[0]], self._texts[key[1]])))
        return int.from_bytes(hashlib.blake2b(both.encode(), digest_size=8).digest(), "big", signed=True)

    def save(self) -> None:
        """Write what was learned to disk, together with what others wrote there meanwhile."""
        if self._file is None or not self._new:
            return
        if self._file.exists():
            with np.load(self._file) as held:
                self._kept |= dict(zip(held["pairs"].tolist(), held["logits"].tolist(), strict=True))
        self._kept |= self._new
        self._new = {}
        kept = self._kept
        pairs = np.fromiter(kept.keys(), np.int64, len(kept))
        logits = np.fromiter(kept.values(), np.float32, len(kept))
        _write(self._file, lambda out: np.savez(out, pairs=pairs, logits=logits))


def _write(file: Path, save: Callable[[BinaryIO], None]) -> None:
    """Write `file` as a whole: other processes may be reading or writing it at this moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{token_hex(8)}.tmp")
    with draft.open("wb") as out:
        save(out)
    draft.replace(file)


def _key(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _named(fingerprint: str, texts: Sequence[str]) -> str:
    digest = hashlib.blake2b(fingerprint.encode(), digest_size=10)
    for text in texts:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
