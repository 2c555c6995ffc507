"""The vector index: one partition a scope, searched and changed in one engine thread.

A partition starts on the exact rung (`flat`), takes sign-bit codes (`coded`) once it outgrows `store.flat_max`, and
inverted lists above `store.binary_ivf_min`, which a second thread builds on copies. The index is derived: LMDB can
always rebuild it. FAISS is not safe for a search beside an addition, hence the one thread.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from threading import Lock
from typing import ParamSpec, TypeVar

import faiss
import numpy as np

from edgecache import config
from edgecache.errors import StoreError
from edgecache.store.coded import Coded, Lists
from edgecache.store.flat import Flat, Ids
from edgecache.store.schema import Half, Single, half
from edgecache.types import Neighbour

log = logging.getLogger(__name__)

LEAST_RECALL = 0.99
_WINDOW = 256
_REBUILD_SHARE = 0.25
_RELEVANT = 0.7
_INLINE = {Flat: 1024, Coded: 131_072}
"""Vectors of a rung that are searched within half a millisecond: less than waking a thread and being woken costs."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Rung = TypeVar("_Rung", Flat, Coded)
Piece = tuple[bytes, Ids, Half]
"""Scope, ids and rows of some vectors of one partition."""


@dataclass(slots=True)
class Recall:
    """How many of the `checked` nearest neighbours the index `found`."""

    checked: int = 0
    found: int = 0

    @property
    def ratio(self) -> float:
        """Share found; 1 when there was nothing to find."""
        return self.found / self.checked if self.checked else 1.0


class VectorIndex:
    """The vectors of all scopes. What touches them runs in the engine thread, in the order of the calls.

    Only searches of small scopes, when nothing else has its turn, run where they are asked for: they take less time
    than waking a thread.

    Vectors are L2-normalised; similarities are cosines, exact but for half precision. Raises StoreError when the
    engine fails or is closed.
    """

    def __init__(self, settings: config.Store, *, dimension: int, rng: Random | None = None) -> None:
        faiss.omp_set_num_threads(1)
        self.dimension = dimension
        self._settings = settings
        self._random = rng or Random(0)  # noqa: S311 - picks samples
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="index-engine")
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="index-builder")
        self._turn = Lock()
        self._closed = False
        self._scopes: dict[bytes, Flat | Coded] = {}
        self._building: dict[bytes, Future[Lists]] = {}
        self._recall: dict[bytes, Recall] = {}
        self._no_codes: set[bytes] = set()
        self._no_lists: set[bytes] = set()
        self.count = 0

    async def _run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        def in_turn() -> _T:
            with self._turn:
                return work(*args, **kwargs)

        try:
            return await asyncio.wrap_future(self._engine.submit(in_turn))
        except (RuntimeError, MemoryError) as error:
            raise StoreError(f"the vector index failed: {error}") from error

    def close(self) -> None:
        """End both threads."""
        self._closed = True
        self._builder.shutdown(cancel_futures=True)
        self._engine.shutdown(cancel_futures=True)

    # ------------------------------------------------------------------------------------------ the daily work

    async def search(self, scope: bytes, vector: Single, k: int) -> list[Neighbour]:
        """The `k` nearest of the scope, best first."""
        partition = self._scopes.get(scope)
        if partition is None:
            return []
        self._check_shape(vector)
        small = len(partition) <= _INLINE[type(partition)]
        if small and not self._closed and self._turn.acquire(blocking=False):
            try:
                return self._search(scope, vector, k)
            finally:
                self._turn.release()
        return await self._run(self._search, scope, vector, k)

    def _check_shape(self, vector: Single) -> None:
        if vector.shape != (self.dimension,):
            raise StoreError(f"the vector has shape {vector.shape}, the index has dimension {self.dimension}")

    def _search(self, scope: bytes, vector: Single, k: int) -> list[Neighbour]:
        partition = self._scopes.get(scope)
        if partition is None:
            return []
        ids, similarities = partition.search(vector, k)
        return [Neighbour(*pair) for pair in zip(ids.tolist(), similarities.tolist(), strict=True)]

    async def add(self, entry_id: int, scope: bytes, vector: Single) -> None:
        """Add one vector; an id that is here already stays as it is."""
        self._check_shape(vector)
        await self.add_rows([(scope, np.array([entry_id], np.int64), half(vector)[None])])

    async def add_rows(self, pieces: list[Piece]) -> None:
        """Add many vectors."""
        await self._run(self._add, pieces)

    def _add(self, pieces: list[Piece]) -> None:
        for scope, ids, rows in pieces:
            partition = self._scopes.get(scope)
            if partition is None:
                partition = Flat(self.dimension)
            else:
                new = np.array([not partition.has(entry_id) for entry_id in ids.tolist()], bool)
                ids, rows = ids[new], rows[new]  # noqa: PLW2901 - what is left to add
            if not len(ids):
                continue
            self._scopes.setdefault(scope, partition).add(ids, rows)
            self.count += len(ids)
            self._climb(scope, partition)

    async def remove(self, vectors: Iterable[tuple[int, bytes]]) -> int:
        """Drop vectors, given as (id, scope); how many were here."""
        by_scope: dict[bytes, list[int]] = {}
        for entry_id, scope in vectors:
            by_scope.setdefault(scope, []).append(entry_id)
        return await self._run(self._remove, by_scope) if by_scope else 0

    def _remove(self, by_scope: dict[bytes, list[int]]) -> int:
        return sum(self._drop(scope, np.array(ids, np.int64)) for scope, ids in by_scope.items())

    def _drop(self, scope: bytes, ids: Ids) -> int:
        partition = self._scopes.get(scope)
        if partition is None:
            return 0
        gone = partition.remove(ids)
        self.count -= gone
        if not len(partition):
            del self._scopes[scope]
        return gone

    # ------------------------------------------------------------------------------------------ the ladder

    def _climb(self, scope: bytes, partition: Flat | Coded) -> None:
        if isinstance(partition, Flat):
            if len(partition) > self._settings.flat_max and scope not in self._no_codes:
                self._build_lists(scope, self._replace(scope, partition, Coded(self.dimension)))
        else:
            self._build_lists(scope, partition)

    def _build_lists(self, scope: bytes, partition: Coded) -> None:
        if len(partition) < self._settings.binary_ivf_min or scope in self._building or scope in self._no_lists:
            return
        if partition.lists is None or partition.changed > _REBUILD_SHARE * partition.lists.size:
            built = self._builder.submit(Lists.build, *partition.building())
            self._building[scope] = built
            built.add_done_callback(lambda done: self._built(scope, partition, done))

    def _replace(self, scope: bytes, old: Flat | Coded, new: _Rung) -> _Rung:
        number = 0
        while (piece := old.piece(number)) is not None:
            new.add(*piece)
            number += 1
        self._scopes[scope] = new
        return new

    def _built(self, scope: bytes, partition: Coded, done: "Future[Lists]") -> None:
        with suppress(RuntimeError):  # closed in the meantime
            self._engine.submit(self._adopt, scope, partition, done)

    def _adopt(self, scope: bytes, partition: Coded, done: "Future[Lists]") -> None:
        self._building.pop(scope, None)
        if done.cancelled() or (error := done.exception()) is not None:
            self._no_lists.add(scope)
            if not done.cancelled():
                log.error("building inverted lists failed: %s", error)
        elif scope not in self._no_lists:
            partition.adopt(done.result())

    async def settled(self) -> None:
        """Wait until no inverted lists are being built."""
        while building := list(self._building.values()):
            await asyncio.wait([asyncio.wrap_future(future) for future in building])
            await self._run(lambda: None)

    # ------------------------------------------------------------------------------------------ the self-check

    async def check_recall(self, samples: int) -> Recall:
        """Compare searches for stored vectors with exact ones, in every scope above the exact rung.

        A scope that keeps finding less than 99 % of the near neighbours goes down a rung.
        """
        total = Recall()
        for scope in [scope for scope, partition in list(self._scopes.items()) if isinstance(partition, Coded)]:
            seen = await self._check_scope(scope, samples)
            total.checked += seen.checked
            total.found += seen.found
            window = self._recall.setdefault(scope, Recall())
            window.checked += seen.checked
            window.found += seen.found
            if window.checked >= _WINDOW:
                del self._recall[scope]
                if window.ratio < LEAST_RECALL:
                    log.warning("recall %.3f of an index partition is too low: it goes down a rung", window.ratio)
                    await self._run(self._step_down, scope)
        return total

    async def _check_scope(self, scope: bytes, samples: int) -> Recall:
        """The nearest other vector of each sample: exact, in steps that let searches in between, then as searched."""
        ids, queries = await self._run(self._sample, scope, samples)
        nearest = np.full(len(ids), -1.0, np.float32)
        step = 0
        while len(ids) and (found := await self._run(self._exact_step, scope, step, ids, queries)) is not None:
            nearest = np.maximum(nearest, found)
            step += 1
        seen = Recall()
        for entry_id, query, similarity in zip(ids.tolist(), queries, nearest.tolist(), strict=True):
            if similarity >= _RELEVANT:
                others = [n.similarity for n in await self.search(scope, query, 9) if n.entry_id != entry_id]
                seen.checked += 1
                seen.found += max(others, default=-1.0) >= similarity - 0.001
        return seen

    def _sample(self, scope: bytes, samples: int) -> tuple[Ids, Single]:
        partition = self._scopes.get(scope)
        if not isinstance(partition, Coded):
            return np.empty(0, np.int64), np.empty((0, self.dimension), np.float32)
        return partition.sample([self._random.random() for _ in range(samples)])

    def _exact_step(self, scope: bytes, step: int, ids: Ids, queries: Single) -> Single | None:
        partition = self._scopes.get(scope)
        return partition.exact_step(step, ids, queries) if isinstance(partition, Coded) else None

    def _step_down(self, scope: bytes) -> None:
        partition = self._scopes.get(scope)
        if not isinstance(partition, Coded):
            return
        if partition.lists is not None:
            self._no_lists.add(scope)
            partition.lists = None
        else:
            self._no_codes.add(scope)
            self._replace(scope, partition, Flat(self.dimension))

    # ------------------------------------------------------------------------------------------ all of it

    async def ids(self) -> Ids:
        """Ids of all vectors, in no order."""
        return await self._run(self._ids)

    def _ids(self) -> Ids:
        parts = [partition.ids() for partition in self._scopes.values()]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    async def discard(self, ids: Ids) -> int:
        """Drop vectors whose scopes are not known: a walk over all partitions, for repairs. How many were here."""
        return await self._run(self._discard, ids)

    def _discard(self, ids: Ids) -> int:
        gone = 0
        for scope in list(self._scopes):
            mine = self._scopes[scope].ids()
            gone += self._drop(scope, mine[np.isin(mine, ids)])
        return gone

    async def pieces(self) -> AsyncIterator[list[Piece]]:
        """Copies of everything, some megabytes at a time. What changes meanwhile may be missing."""
        scopes = list(self._scopes)
        at = part = 0
        while at < len(scopes):
            pieces, at, part = await self._run(self._take_pieces, scopes, at, part)
            yield pieces

    def _take_pieces(self, scopes: list[bytes], at: int, part: int) -> tuple[list[Piece], int, int]:
        pieces: list[Piece] = []
        rows = 0
        while at < len(scopes) and rows < 16384:
            partition = self._scopes.get(scopes[at])
            piece = partition.piece(part) if partition is not None else None
            if piece is None:
                at, part = at + 1, 0
                continue
            pieces.append((scopes[at], *piece))
            rows += len(piece[0])
            part += 1
        return pieces, at, part
