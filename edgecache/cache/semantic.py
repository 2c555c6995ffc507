"""The semantic tier: stored questions near to this one, within its scope only. Whether one fits is `verify`'s word."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgecache.errors import StoreError
from edgecache.store import snapshot
from edgecache.store.entries import EntryStore
from edgecache.store.flat import Ids
from edgecache.store.pages import VectorRow
from edgecache.store.schema import Single
from edgecache.store.vectors import Piece, Recall, VectorIndex
from edgecache.types import CacheKey, Entry

log = logging.getLogger(__name__)

_REPAIR_BATCH = 1024
_LOAD_BATCH = 8192
_MAX_WIDENING = 4


class SemanticTier:
    """The store and the index over it, kept in agreement. `embedder` is the fingerprint of whose vectors these are."""

    def __init__(self, store: EntryStore, index: VectorIndex, *, embedder: str, path: Path) -> None:
        self._store = store
        self._index = index
        self._embedder = embedder
        self._path = path
        self._saving = asyncio.Lock()

    # ------------------------------------------------------------------------------------------ the daily work

    async def neighbours(
        self, key: CacheKey, vector: Single, k: int, *, least: float = -1.0
    ) -> list[tuple[Entry, float]]:
        """Up to `k` live entries of the key's scope with their similarity, best first. Raises StoreError.

        The nearest one is always among them, others only if their similarity is `least`: reading an entry costs more
        than finding it.

        Entries that the store no longer gives out (purged, damaged) are dropped from the index here, and the search
        widened, so that a purged neighbourhood does not hide what lies behind it.
        """
        want = k
        for _ in range(_MAX_WIDENING):
            found = await self._index.search(key.scope, vector, want)
            live: list[tuple[Entry, float]] = []
            dead: list[tuple[int, bytes]] = []
            for neighbour in found:
                if live and neighbour.similarity < least:
                    break
                entry = self._store.get(neighbour.entry_id)
                if entry is None:
                    dead.append((neighbour.entry_id, key.scope))
                elif entry.scope == key.scope and entry.tenant == key.tenant and entry.text is not None:
                    live.append((entry, neighbour.similarity))
            if dead:
                await self._index.remove(dead)
            if not dead or len(live) >= k or len(found) < want:
                break
            want *= 4
        return live[:k]

    async def store(self, entry: Entry, vector: Single | None, *, token: int | None = None, limit: int = 0) -> int:
        """Store an answer; its id, once it is committed. Raises what `EntryStore.put` raises.

        `token` is `EntryStore.epoch()` at the start of the upstream request. The index follows the commit; should that
        fail, the answer is still stored and the next repair indexes it.
        """
        entry_id = await self._store.put(entry, vector, token=token, limit=limit)
        await self._index_too(entry_id, entry.scope, vector)
        return entry_id

    async def release(self, entry: Entry, vector: Single, *, limit: int) -> bool:
        """Let a stored entry that was held back serve other wordings; False where it may not, see `EntryStore`."""
        released = await self._store.release(entry.id, vector, limit=limit)
        if released:
            await self._index_too(entry.id, entry.scope, vector)
        return released

    async def _index_too(self, entry_id: int, scope: bytes, vector: Single | None) -> None:
        try:
            if vector is not None:
                await self._index.add(entry_id, scope, vector)
                if self._store.get(entry_id) is None:  # replaced or purged between commit and here
                    await self._index.remove([(entry_id, scope)])
            await self.follow()
        except StoreError as error:
            log.warning("entry %d is stored but not indexed: %s", entry_id, error)

    def earlier(self, key: CacheKey) -> Entry | None:
        """What is stored for the same question, stale or not, unless it was purged. Raises StoreError."""
        return self._store.find(key.digest)

    async def follow(self) -> None:
        """Drop from the index what has left the store."""
        await self._index.remove(self._store.take_removed())

    def drift(self) -> int:
        """Vectors stored minus vectors indexed: 0 when nothing is in progress."""
        return self._store.stats().vectors - self._index.count

    # ------------------------------------------------------------------------------------------ start, stop, repair

    async def start(self) -> str:
        """Fill the index: "snapshot" or "rebuild" says from where. Raises StoreError when the store cannot be read."""
        await self._store.use_embedder(self._embedder, self._index.dimension)
        stored = await asyncio.to_thread(self._store.vector_ids)
        try:
            await self._load(stored)
            origin = "snapshot"
        except StoreError as error:
            if self._path.exists():  # there is none at the first start, and nothing to say about it
                log.info("no usable snapshot of the index: %s", error)
            origin = "rebuild"
            await self._rebuild()
        await self.repair()
        return origin

    async def _load(self, stored: Ids) -> None:
        pieces = snapshot.load(self._path, embedder=self._embedder, dimension=self._index.dimension)
        while batch := await asyncio.to_thread(_take, pieces, stored):
            await self._index.add_rows(batch)

    async def _rebuild(self) -> None:
        pages = self._store.vectors()
        while (rows := await asyncio.to_thread(next, pages, None)) is not None:
            await self._index.add_rows(_grouped(rows))

    async def repair(self) -> int:
        """Make the index hold what the store holds; how many vectors were missing or too many."""
        # In this order: whatever the index has now was committed before, so only what was deleted can be too many.
        indexed = np.sort(await self._index.ids())
        stored = await asyncio.to_thread(self._store.vector_ids)
        extra = np.setdiff1d(indexed, stored, assume_unique=True)
        missing = np.setdiff1d(stored, indexed, assume_unique=True)
        if len(extra):
            await self._index.discard(extra)
        for start in range(0, len(missing), _REPAIR_BATCH):
            ids = missing[start : start + _REPAIR_BATCH].tolist()
            await self._index.add_rows(_grouped(await asyncio.to_thread(self._store.vectors_of, ids)))
        return len(extra) + len(missing)

    async def check_recall(self, samples: int) -> Recall:
        """Compare `samples` searches of each large scope with exact ones; see `VectorIndex.check_recall`."""
        return await self._index.check_recall(samples)

    async def save(self) -> int:
        """Write the snapshot; the number of vectors in it. Raises StoreError kinds."""
        async with self._saving:
            return await snapshot.save(self._index, self._path, embedder=self._embedder)


def _take(pieces: Iterator[Piece], stored: Ids) -> list[Piece]:
    """The next few thousand vectors of a snapshot, without those that the store no longer has."""
    batch: list[Piece] = []
    rows = 0
    for scope, ids, vectors in pieces:
        at = np.minimum(np.searchsorted(stored, ids), len(stored) - 1)
        keep = stored[at] == ids if len(stored) else np.zeros(len(ids), bool)
        batch.append((scope, ids[keep], vectors[keep]))
        rows += len(ids)
        if rows >= _LOAD_BATCH:
            break
    return batch


def _grouped(rows: list[VectorRow]) -> list[Piece]:
    by_scope: dict[bytes, list[VectorRow]] = {}
    for row in rows:
        by_scope.setdefault(row[1], []).append(row)
    return [
        (scope, np.array([row[0] for row in group], np.int64), np.stack([row[2] for row in group]))
        for scope, group in by_scope.items()
    ]
