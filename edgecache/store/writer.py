"""The only writer of the store: a thread that commits whatever has queued in one transaction.

It grows the map when it is full, and fails puts, not deletes or purges, when the budget is reached.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import lmdb

from edgecache.errors import StoreError, StoreFull
from edgecache.store import tally
from edgecache.store.database import Database, translate
from edgecache.store.epochs import Epochs, Selector
from edgecache.store.schema import SCOPE_BYTES, key_of, salvage

GROUP = 64
MAX_QUEUED_BYTES = 64 * 1024 * 1024
LAST = b"last"

Removed = tuple[int, bytes]


@dataclass(slots=True)
class Batch:
    """One open write transaction and what will hold once it is committed.

    Operations raise StoreError before they write anything, or not at all.
    """

    db: Database
    txn: Any
    last_id: int
    epochs: Epochs = field(default_factory=Epochs)
    forgotten: list[Selector] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    used: int = 0

    def next_id(self) -> int:
        """A new id: of an entry or of a purge, never used before or again."""
        self.last_id += 1
        return self.last_id

    def remove(self, entry_id: int) -> bool:
        """Delete an entry with its vector and digest; False if it is not there."""
        key = key_of(entry_id)
        record = self.txn.pop(key, db=self.db.entries)
        head = salvage(record) if record is not None else None
        if head is not None and self.txn.get(head.digest, db=self.db.digests) == key:
            self.txn.delete(head.digest, db=self.db.digests)
        vector = self.txn.pop(key, db=self.db.vectors)
        if vector is not None and head is not None:
            tally.add(self.txn, self.db.writers, head, -1)
        if vector is not None:
            self.removed.append((entry_id, bytes(vector[:SCOPE_BYTES])))
        return record is not None

    def finish(self) -> None:
        """Write the counter: the last thing before the commit."""
        self.txn.put(LAST, key_of(self.last_id), db=self.db.meta)
        self.used = self.db.used(self.txn)


@dataclass(slots=True)
class _Operation:
    run: Callable[[Batch], Any]
    size: int
    """Bytes a put adds; 0 for what only removes."""
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


_Outcome = tuple[_Operation, Any]


class Writer:
    """The writer thread. `committed` is called in it after each commit, before anyone is told of the commit."""

    def __init__(self, db: Database, last_id: int, committed: Callable[[Batch], None]) -> None:
        self._db = db
        self._committed = committed
        self._queue: SimpleQueue[_Operation | None] = SimpleQueue()
        self._queued_bytes = 0
        self._closed = False
        self.last_id = last_id
        self.refused = False
        """A put was refused for want of space since this was last cleared."""
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, run: Callable[[Batch], Any], *, size: int = 0) -> Any:
        """What `run` returned, once it is committed; raises what it raised, or the StoreError kind of the commit."""
        if self._closed:
            raise StoreError("the store is closed")
        if size and self._queued_bytes + size > MAX_QUEUED_BYTES:
            raise StoreError("the store cannot keep up with what is to be written")
        loop = asyncio.get_running_loop()
        operation = _Operation(run, size, loop.create_future(), loop)
        self._queued_bytes += size
        self._queue.put(operation)
        return await operation.future

    def close(self) -> None:
        """Commit what is queued and end the thread."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (first := self._queue.get()) is not None:
            group, last = self._gather(first)
            self._tell(self._commit(group))
            if last:
                return

    def _gather(self, first: _Operation) -> tuple[list[_Operation], bool]:
        group = [first]
        with suppress(Empty):
            while len(group) < GROUP:
                operation = self._queue.get_nowait()
                if operation is None:
                    return group, True
                group.append(operation)
        return group, False

    def _commit(self, group: list[_Operation]) -> list[_Outcome]:
        refused: list[_Outcome] = []
        while group:
            try:
                outcomes = self._transact(group)
            except lmdb.MapFullError as error:
                if self._db.grow(self._db.put_limit):
                    continue
                full = translate(error)
                puts = [operation for operation in group if operation.size]
                refused += [(operation, full) for operation in puts]
                group = [operation for operation in group if not operation.size]
                if not puts and not self._db.grow(self._db.budget):
                    return refused + [(operation, full) for operation in group]
            except (lmdb.Error, OSError) as error:
                return refused + [(operation, translate(error)) for operation in group]
            else:
                refused += outcomes
                break
        if self._db.map_bytes() > self._db.put_limit:
            self._db.resize(self._db.put_limit)
        return refused

    def _transact(self, group: Sequence[_Operation]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        with self._db.env.begin(write=True) as txn:
            batch = Batch(self._db, txn, self.last_id)
            for operation in group:
                try:
                    outcomes.append((operation, operation.run(batch)))
                except StoreError as error:
                    outcomes.append((operation, error))
            batch.finish()
        self._committed(batch)
        self.last_id = batch.last_id
        return outcomes

    def _tell(self, outcomes: list[_Outcome]) -> None:
        if any(isinstance(result, StoreFull) for _, result in outcomes):
            self.refused = True
        with suppress(RuntimeError):  # the loop has been closed: nobody is left to tell
            outcomes[0][0].loop.call_soon_threadsafe(self._resolve, outcomes)

    def _resolve(self, outcomes: list[_Outcome]) -> None:
        for operation, result in outcomes:
            self._queued_bytes -= operation.size
            if operation.future.done():
                continue
            if isinstance(result, StoreError):
                operation.future.set_exception(result)
            else:
                operation.future.set_result(result)
