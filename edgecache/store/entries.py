"""The store of answers: found by digest or id in microseconds, written in group commits, purged in constant time."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from edgecache import config
from edgecache.clock import Clock
from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store import changes, schema
from edgecache.store.database import Database, translate
from edgecache.store.epochs import Kind, Selector
from edgecache.store.evidence import Evidence
from edgecache.store.pages import Pages, Scanned, VectorRow
from edgecache.store.schema import Half, Single, id_of, key_of
from edgecache.store.writer import Batch, Removed, Writer
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Entry

_MAX_USES = 255


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Sizes of the store. `used_bytes` is pages in use; entries may fill `limit_bytes` of the `budget_bytes`."""

    entries: int
    vectors: int
    used_bytes: int
    map_bytes: int
    limit_bytes: int
    budget_bytes: int
    purges: int
    corrupt: int


class EntryStore:
    """The answers of one POP. Opening raises StoreError kinds; the daemon then runs without a cache.

    Reads are synchronous and meant for the event loop; a damaged record reads as absent, is counted and swept later.
    Writes are awaited, and acknowledged once they are committed.
    """

    def __init__(self, path: Path, settings: config.Store, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._db = Database(path, settings)
        self._uses: dict[int, int] = {}
        self._suspects: dict[int, bytes | None] = {}
        self._removed: deque[Removed] = deque()
        self._corrupt = 0
        self._near_full = False
        self.last_purge = 0
        """The id of the latest purge since this store was opened."""
        self._dimension: int | None = None
        try:
            with self._db.env.begin() as txn:
                self._purges, last = changes.restore(self._db, txn)
        except lmdb.Error as error:
            self._db.close()
            raise translate(error) from error
        except StoreError:
            self._db.close()
            raise
        self._pages = Pages(self._db, self._purges.epochs, self._suspect)
        self._writer = Writer(self._db, last, self._committed)
        try:
            self.evidence = Evidence(self._db, self._writer, metrics)
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Commit what is queued and close the file; a second call does nothing."""
        self._writer.close()
        self._db.close()

    # ------------------------------------------------------------------------------------------ reading

    def epoch(self) -> int:
        """The token to hand to `put` for an answer whose upstream request starts now."""
        return self._writer.last_id

    def find(self, digest: bytes) -> Entry | None:
        """The entry of a digest, expired or soft-purged ones too; raises StoreError when the file cannot be read."""
        try:
            with self._db.lock, self._db.env.begin(buffers=True) as txn:
                key = txn.get(digest, db=self._db.digests)
                return None if key is None else self._read(txn, id_of(key), digest)
        except lmdb.Error as error:
            raise translate(error) from error

    def get(self, entry_id: int) -> Entry | None:
        """The entry of an id, under the same rules as `find`."""
        if not 0 < entry_id <= self._writer.last_id:
            return None
        try:
            with self._db.lock, self._db.env.begin(buffers=True) as txn:
                return self._read(txn, entry_id, None)
        except lmdb.Error as error:
            raise translate(error) from error

    def _read(self, txn: Any, entry_id: int, digest: bytes | None) -> Entry | None:
        record = txn.get(key_of(entry_id), db=self._db.entries)
        if record is None:
            return None
        try:
            head, body = schema.decode(entry_id, record)
        except StoreCorrupt:
            self._suspect(entry_id, digest)
            return None
        if digest is not None and head.digest != digest:
            return None
        hard, soft = self._purges.epochs.covers(head)
        return None if hard else schema.entry_of(entry_id, head, bytes(body), soft=soft)

    def _suspect(self, entry_id: int, digest: bytes | None = None) -> None:
        if entry_id not in self._suspects:
            self._suspects[entry_id] = digest
            self._corrupt += 1
            self._metrics.cache_side_errors.labels("store").inc()

    def stats(self) -> StoreStats:
        """Sizes; takes microseconds. Raises StoreError when the file cannot be read."""
        db = self._db
        try:
            with db.lock, db.env.begin() as txn:
                entries, vectors = (txn.stat(table)["entries"] for table in (db.entries, db.vectors))
                return StoreStats(
                    entries=entries,
                    vectors=vectors,
                    used_bytes=db.used(txn),
                    map_bytes=db.map_bytes(),
                    limit_bytes=db.put_limit,
                    budget_bytes=db.budget,
                    purges=len(self._purges.epochs),
                    corrupt=self._corrupt,
                )
        except lmdb.Error as error:
            raise translate(error) from error

    # ------------------------------------------------------------------------------------------ writing

    async def put(self, entry: Entry, vector: Single | None, *, token: int | None = None, limit: int = 0) -> int:
        """Store an answer with its vector and return its id once committed; an older one of the same digest goes.

        `token` is `epoch()` at the start of the upstream request: when a matching purge came between, this raises
        StoreError with the code "purged". With a `limit`, the code `changes.WRITER_ENTRIES` says that the writer has as
        many entries with a vector. Raises StoreFull at the byte budget, StoreReadOnly, and StoreError for what cannot
        be stored.
        """
        row = None if vector is None else self._row(vector)
        size = len(entry.body) + len(entry.text or "") + 1024
        return int(
            await self._writer.submit(
                lambda batch: changes.insert(batch, entry, row, token, self._purges, limit),
                size=size,
            )
        )

    async def release(self, entry_id: int, vector: Single, *, limit: int) -> bool:
        """Let an entry that was held back serve other wordings by `vector`; False where it may not, see `changes`."""
        row = self._row(vector)
        return bool(
            await self._writer.submit(
                lambda batch: changes.release(batch, entry_id, row, limit, self._purges), size=2 * row.nbytes + 1024
            )
        )

    def _row(self, vector: Single) -> Half:
        if vector.ndim != 1 or (self._dimension is not None and len(vector) != self._dimension):
            raise StoreError(f"the vector has shape {vector.shape}, the embedder gives {self._dimension}")
        return schema.half(vector)

    async def delete(self, entry_ids: Iterable[int]) -> int:
        """Remove entries physically; how many there were."""
        wanted = [entry_id for entry_id in entry_ids if 0 < entry_id <= self._writer.last_id]
        if not wanted:
            return 0
        gone = await self._writer.submit(lambda batch: changes.delete(batch, wanted, self._suspects))
        for entry_id in wanted:
            self._suspects.pop(entry_id, None)
            self._uses.pop(entry_id, None)
        return int(gone)

    async def purge(self, selector: Selector, *, soft: bool = False) -> int:
        """Void every matching answer, stored or in flight; committed when it returns. The id of the purge.

        A soft purge only marks them stale. Purging one entry returns 0 when the tenant has no such entry. A hard purge
        of an entry, of a tenant or of everything takes the evidence along, see `store.evidence`.
        """
        whole = selector.kind in {Kind.ALL, Kind.TENANT} and not soft
        purge, words = await self._writer.submit(lambda batch: self._purge(batch, selector, soft=soft))
        if whole:
            await self.evidence.forget_tenant(selector.value or None, words)
        else:
            self.evidence.forget(words)
        self.last_purge = max(self.last_purge, purge)
        return int(purge)

    def _purge(self, batch: Batch, selector: Selector, *, soft: bool) -> tuple[int, list[bytes]]:
        """The id of the purge, and the keys of the words on pairs that went with it."""
        if selector.kind is Kind.ENTRY:
            head = changes.head_of(batch, selector)
            purge = changes.purge_entry(batch, selector, soft=soft)
            if head is None or not purge or soft:
                return purge, []
            return purge, self.evidence.erase_entry(batch, head.tenant, head.digest)
        purge = changes.mark(batch, selector, soft=soft, at=self._clock.now(), purges=self._purges)
        if soft or selector.kind not in {Kind.ALL, Kind.TENANT}:
            return purge, []
        return purge, self.evidence.erase(batch, selector.value or None)

    def _committed(self, batch: Batch) -> None:
        self._purges.committed(batch)
        self._removed.extend(batch.removed)
        self._near_full = batch.used > 0.9 * self._db.put_limit

    # ------------------------------------------------------------------------------------------ vectors

    async def use_embedder(self, fingerprint: str, dimension: int) -> bool:
        """Say whose vectors are stored from now on; True if those of another embedder had to be dropped.

        Entries without a vector are found by digest alone.
        """
        name = f"{fingerprint}/{dimension}"
        self._dimension = dimension
        return bool(await self._writer.submit(lambda batch: changes.use_embedder(batch, name)))

    def embedder(self) -> str:
        """Whose vectors are stored, as `fingerprint/dimension`; empty before the first."""
        with self._db.lock, self._db.env.begin() as txn:
            return changes.embedder(self._db, txn)

    def vector_ids(self) -> NDArray[np.int64]:
        """Ids of all entries with a vector, ascending. Takes time: not for the event loop."""
        return self._pages.vector_ids()

    def vectors(self) -> Iterator[list[VectorRow]]:
        """All sound vectors in pages, for a rebuild of the index. Takes time."""
        return self._pages.vectors(self._known_dimension())

    def vectors_of(self, entry_ids: Iterable[int]) -> list[VectorRow]:
        """The sound vectors among `entry_ids`. Takes time."""
        return self._pages.vectors_of(entry_ids, self._known_dimension())

    def _known_dimension(self) -> int:
        if self._dimension is None:
            raise StoreError("no embedder is in use")
        return self._dimension

    def take_removed(self) -> list[Removed]:
        """(id, scope) of the vectors that left the store since the last call: the index must drop them."""
        return [self._removed.popleft() for _ in range(len(self._removed))]

    # ------------------------------------------------------------------------------------------ upkeep

    def scan(self, after: int, count: int) -> list[Scanned]:
        """The next `count` records above id `after`, each verified. Takes time."""
        return self._pages.scan(after, count)

    def records(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Id, record and vector record of all entries that are neither purged nor expired. Takes time."""
        return self._pages.records(self._clock.now())

    def touch(self, entry_id: int) -> None:
        """Note that an entry was served: kept in memory only, for eviction."""
        self._uses[entry_id] = min(self._uses.get(entry_id, 0) + 1, _MAX_USES)

    def uses(self, entry_id: int) -> int:
        """How often an entry was served of late."""
        return self._uses.get(entry_id, 0)

    def cool(self, entry_ids: Iterable[int]) -> None:
        """Halve the use counts of entries, so that old fame fades."""
        for entry_id in entry_ids:
            left = self._uses.pop(entry_id, 0) // 2
            if left:
                self._uses[entry_id] = left

    def suspects(self) -> list[int]:
        """Ids of the damaged records met so far, to be deleted."""
        return list(self._suspects)

    @property
    def refused(self) -> bool:
        """Whether a put was refused for want of space since `relieve`."""
        return self._writer.refused

    @property
    def near_full(self) -> bool:
        """Whether more than 90 % of what entries may fill was in use at the last commit, or a put was refused."""
        return self._near_full or self._writer.refused

    async def relieve(self) -> None:
        """Forget the refusals: room has been made. What was freed last can be used once this returns."""
        await self._writer.submit(lambda _: None)  # LMDB uses pages again from the next commit but one
        self._writer.refused = False

    async def forget_purges(self, oldest: int, before: float) -> int:
        """Drop purges that cannot matter any more; how many.

        `oldest` is the least `since` of all stored entries, `before` the time (Unix s) since which no upstream request
        can still be running; an answer to one that is all the same is refused by `put`.
        """
        if not self._purges.epochs.older(oldest, before):
            return 0
        return int(await self._writer.submit(lambda batch: changes.forget(batch, oldest, before, self._purges)))
