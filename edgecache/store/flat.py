"""The exact rung of the index ladder: every vector of a scope is compared.

Few vectors lie in a plain array, because a FAISS object costs kilobytes and most scopes hold a handful; more lie in a
FAISS half-precision scalar quantiser. Not safe for threads: one thread owns an index.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from edgecache.store.schema import Half, Single

Ids = NDArray[np.int64]
Found = tuple[Ids, Single]
"""Entry ids and their similarities, best first."""

_TINY = 64


class Flat:
    """The vectors of one scope, searched exactly. `len` is how many."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._count = 0
        self._ids: Ids = np.empty(1, np.int64)
        self._tiny: Half | None = np.empty((1, dimension), np.float16)
        self._faiss: faiss.IndexScalarQuantizer | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, ids: Ids, rows: Half) -> None:
        """Append vectors whose ids are not here yet."""
        end = self._count + len(ids)
        if end > len(self._ids):
            self._ids = _grown(self._ids, self._count, end)
        self._ids[self._count : end] = ids
        if self._tiny is not None and end <= _TINY:
            if end > len(self._tiny):
                self._tiny = _grown(self._tiny, self._count, end)
            self._tiny[self._count : end] = rows
        else:
            self._quantiser().add(rows.astype(np.float32))
        self._count = end

    def _quantiser(self) -> faiss.IndexScalarQuantizer:
        if self._faiss is None:
            kind = faiss.ScalarQuantizer.QT_fp16
            self._faiss = faiss.IndexScalarQuantizer(self._dimension, kind, faiss.METRIC_INNER_PRODUCT)
            if self._tiny is not None:
                self._faiss.add(self._tiny[: self._count].astype(np.float32))
                self._tiny = None
        return self._faiss

    def _rows(self) -> Half:
        """The rows in place: valid until the next `add` or `remove`."""
        if self._faiss is None:
            assert self._tiny is not None  # noqa: S101 - one of the two is there
            return self._tiny[: self._count]
        codes = faiss.rev_swig_ptr(self._faiss.codes.data(), self._count * 2 * self._dimension)
        rows: Half = codes.view(np.float16).reshape(self._count, self._dimension)
        return rows

    def remove(self, ids: Ids) -> int:
        """Drop vectors; how many were here. The last one takes the place of each, so nothing dead is left behind."""
        gone = 0
        for entry_id in ids:
            at = np.flatnonzero(self._ids[: self._count] == entry_id)
            if len(at):
                rows = self._rows()
                last = self._count - 1
                rows[at[0]] = rows[last]
                self._ids[at[0]] = self._ids[last]
                self._count = last
                gone += 1
                if self._faiss is not None:
                    self._faiss.codes.resize(last * 2 * self._dimension)
                    self._faiss.ntotal = last
        return gone

    def search(self, vector: Single, k: int) -> Found:
        """The `k` nearest."""
        k = min(k, self._count)
        if self._faiss is not None:
            similarities, at = self._faiss.search(vector[None], k)
            return self._ids[at[0]], similarities[0]
        return best(self._ids[: self._count], self._rows().astype(np.float32) @ vector, k)

    def has(self, entry_id: int) -> bool:
        """Whether a vector is here."""
        return bool((self._ids[: self._count] == entry_id).any())

    def ids(self) -> Ids:
        """A copy of all ids."""
        return self._ids[: self._count].copy()

    def piece(self, number: int) -> tuple[Ids, Half] | None:
        """A copy of ids and rows; there is one piece only."""
        return (self.ids(), self._rows().copy()) if number == 0 and self._count else None


def best(ids: Ids, similarities: Single, k: int) -> Found:
    """The `k` highest similarities with their ids, best first."""
    if k < len(ids):
        top = np.argpartition(-similarities, k)[:k]
        ids, similarities = ids[top], similarities[top]
    order = np.argsort(-similarities, kind="stable")[:k]
    return ids[order], similarities[order]


def _grown(array: NDArray[Any], used: int, need: int) -> NDArray[Any]:
    bigger = np.empty((max(need, 2 * len(array)), *array.shape[1:]), array.dtype)
    bigger[:used] = array[:used]
    return bigger
