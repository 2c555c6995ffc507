"""Reading many records: a page and a transaction at a time, so that the writer is never held up. Not for the loop."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from edgecache.errors import StoreCorrupt
from edgecache.store import schema
from edgecache.store.database import Database, translate
from edgecache.store.epochs import Epochs
from edgecache.store.schema import Half, Head, id_of, key_of

VectorRow = tuple[int, bytes, Half]
"""Id, scope and row of one stored vector."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """One record as the sweeper sees it; `head` is None where the record is damaged."""

    id: int
    head: Head | None
    size: int
    purged: bool


class Pages:
    """Bulk reads of one database. `suspect` is told of each damaged record."""

    def __init__(self, db: Database, epochs: Epochs, suspect: Callable[[int], None]) -> None:
        self._db = db
        self._epochs = epochs
        self._suspect = suspect

    def scan(self, after: int, count: int) -> list[Scanned]:
        """The next `count` records above id `after`, each verified."""
        return [self._scanned(*item) for item in self._page(self._db.entries, count, after)]

    def _scanned(self, entry_id: int, record: bytes) -> Scanned:
        try:
            head, _ = schema.decode(entry_id, record)
        except StoreCorrupt:
            self._suspect(entry_id)
            return Scanned(entry_id, None, len(record), purged=False)
        return Scanned(entry_id, head, len(record), purged=self._epochs.covers(head)[0])

    def records(self, now: float) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Id, record and vector record of each sound entry that is neither purged nor expired at `now` (Unix s)."""
        for page in self._pages(self._db.entries, 64):
            with self._db.lock, self._db.env.begin() as txn:
                vectors = [txn.get(key_of(entry_id), db=self._db.vectors) for entry_id, _ in page]
            for (entry_id, record), vector in zip(page, vectors, strict=True):
                scanned = self._scanned(entry_id, record)
                if scanned.head is not None and not scanned.purged and scanned.head.expires > now:
                    yield entry_id, record, vector

    def vector_ids(self) -> NDArray[np.int64]:
        """Ids of all entries with a vector, ascending."""
        pages = self._pages(self._db.vectors, 4096, values=False)
        return np.array([entry_id for page in pages for entry_id, _ in page], np.int64)

    def vectors(self, dimension: int) -> Iterator[list[VectorRow]]:
        """All sound vectors by ascending id, in pages."""
        for page in self._pages(self._db.vectors, 1024):
            yield self._rows(page, dimension)

    def vectors_of(self, entry_ids: Iterable[int], dimension: int) -> list[VectorRow]:
        """The sound vectors of those of `entry_ids` that have one."""
        found = []
        for entry_id in entry_ids:
            with self._db.lock, self._db.env.begin() as txn:
                record = txn.get(key_of(entry_id), db=self._db.vectors)
            if record is not None:
                found.append((entry_id, record))
        return self._rows(found, dimension)

    def _rows(self, records: Iterable[tuple[int, bytes]], dimension: int) -> list[VectorRow]:
        rows = []
        for entry_id, record in records:
            try:
                rows.append((entry_id, *schema.decode_vector(entry_id, record, dimension)))
            except StoreCorrupt:
                self._suspect(entry_id)
        return rows

    def _pages(self, table: Any, count: int, *, values: bool = True) -> Iterator[list[tuple[int, bytes]]]:
        after = 0
        while page := self._page(table, count, after, values=values):
            yield page
            after = page[-1][0]

    def _page(self, table: Any, count: int, after: int, *, values: bool = True) -> list[tuple[int, bytes]]:
        page: list[tuple[int, bytes]] = []
        try:
            with self._db.lock, self._db.env.begin() as txn:
                cursor = txn.cursor(db=table)
                if not cursor.set_range(key_of(after + 1)):
                    return page
                for item in cursor.iternext(keys=True, values=values):
                    page.append((id_of(item[0]), item[1]) if values else (id_of(item), b""))
                    if len(page) == count:
                        break
        except lmdb.Error as error:
            raise translate(error) from error
        return page
