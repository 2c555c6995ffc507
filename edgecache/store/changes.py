"""What can be changed in one write transaction. Each function raises StoreError before it writes, or not at all."""

from collections.abc import Mapping, Sequence
from typing import Any

import lmdb
import msgspec

from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store import schema, tally
from edgecache.store.database import Database
from edgecache.store.epochs import Epochs, Kind, Mark, Selector
from edgecache.store.schema import Half, Head, id_of, key_of
from edgecache.store.writer import LAST, Batch
from edgecache.types import Entry

_FLOOR, _EMBEDDER = b"floor", b"embedder"

WRITER_ENTRIES = "writer-entries"
"""Code of the StoreError for a writer who has as many entries as it may have, and what such an entry is held for."""


class Purges:
    """The purges in force and the floor: an answer older than that is refused, because its purge may be forgotten."""

    def __init__(self) -> None:
        self.epochs = Epochs()
        self.floor = 0

    def committed(self, batch: Batch) -> None:
        """Take over what `batch` changed."""
        self.epochs.merge(batch.epochs)
        self.epochs.forget(batch.forgotten)


def restore(db: Database, txn: Any) -> tuple[Purges, int]:
    """The purges in force and the newest id ever used; raises StoreCorrupt."""
    purges = Purges()
    try:
        for value in txn.cursor(db=db.purges).iternext(keys=False, values=True):
            kind, text, tenant, hard, soft, at = msgspec.msgpack.decode(value)
            purges.epochs.set(Selector(Kind(kind), text, tenant), Mark(hard, soft, at))
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        # Serving on without a purge would bring back what it removed.
        raise StoreCorrupt(f"a purge cannot be read: {error}") from error
    last, floor = (txn.get(name, db=db.meta) for name in (LAST, _FLOOR))
    purges.floor = id_of(floor) if floor else 0
    return purges, id_of(last) if last else 0


def insert(batch: Batch, entry: Entry, row: Half | None, token: int | None, purges: Purges, limit: int = 0) -> int:
    """Store an entry with its vector, in place of an older one of the same digest; its id.

    With a `limit`, StoreError with the code `WRITER_ENTRIES` says that the writer has that many with a vector already.
    """
    entry_id = batch.last_id + 1
    head = schema.head_of(entry, entry_id if token is None else token)
    if head.since < purges.floor or purges.epochs.covers(head)[0] or batch.epochs.covers(head)[0]:
        raise StoreError("purged while it was being made", code="purged")
    record = schema.encode(entry_id, head, entry.body)
    old = batch.txn.get(entry.digest, db=batch.db.digests)
    if row is not None and 0 < limit <= _others(batch, head, old):
        raise StoreError("the writer has as many entries as it may have", code=WRITER_ENTRIES)
    batch.next_id()
    if old is not None:
        batch.remove(id_of(old))
    key = key_of(entry_id)
    _append(batch, key, record, batch.db.entries)
    batch.txn.put(entry.digest, key, db=batch.db.digests)
    if row is not None:
        _append(batch, key, schema.encode_vector(entry_id, entry.scope, row), batch.db.vectors)
        tally.add(batch.txn, batch.db.writers, head, 1)
    return entry_id


def _others(batch: Batch, head: Head, old: bytes | None) -> int:
    """Entries with a vector that the writer of `head` has, without the one under key `old`, which is to be replaced."""
    many = tally.count(batch.txn, batch.db.writers, head)
    record = batch.txn.get(old, db=batch.db.entries) if many and old is not None else None
    before = schema.salvage(record) if record is not None else None
    if before is None or (before.tenant, before.writer) != (head.tenant, head.writer):
        return many
    return many - (batch.txn.get(old, db=batch.db.vectors) is not None)


def release(batch: Batch, entry_id: int, row: Half, limit: int, purges: Purges) -> bool:
    """Let an entry that was held back serve other wordings; False if it is not there, not held, or has no room.

    Without room under the writer's `limit` it is held for that from now on.
    """
    key = key_of(entry_id)
    record = batch.txn.get(key, db=batch.db.entries)
    try:
        head, body = schema.decode(entry_id, record) if record is not None else (None, None)
    except StoreCorrupt:
        return False
    if head is None or body is None or not head.held or purges.epochs.covers(head)[0] or batch.epochs.covers(head)[0]:
        return False
    room = limit == 0 or tally.count(batch.txn, batch.db.writers, head) < limit
    freed = msgspec.structs.replace(head, held="" if room else WRITER_ENTRIES)
    batch.txn.put(key, schema.encode(entry_id, freed, bytes(body)), db=batch.db.entries)
    if room:
        batch.txn.put(key, schema.encode_vector(entry_id, head.scope, row), db=batch.db.vectors)
        tally.add(batch.txn, batch.db.writers, head, 1)
    return room


def _append(batch: Batch, key: bytes, value: bytes, table: Any) -> None:
    # Appending fills pages to the brim, plain insertion leaves them half empty.
    if not batch.txn.put(key, value, db=table, append=True):
        raise lmdb.CorruptedError(f"the store holds ids above {batch.last_id}")


def delete(batch: Batch, entry_ids: Sequence[int], digests: Mapping[int, bytes | None]) -> int:
    """Remove entries; how many there were. `digests` names those of damaged records, where known."""
    for entry_id in entry_ids:
        digest = digests.get(entry_id)
        if digest is not None and batch.txn.get(digest, db=batch.db.digests) == key_of(entry_id):
            batch.txn.delete(digest, db=batch.db.digests)
    return sum(batch.remove(entry_id) for entry_id in entry_ids)


def mark(batch: Batch, selector: Selector, *, soft: bool, at: float, purges: Purges) -> int:
    """Record a purge of everything that `selector` matches; its id."""
    epoch = batch.next_id()
    before = batch.epochs.get(selector) or purges.epochs.get(selector) or Mark()
    after = before.after(epoch, soft=soft, at=at)
    packed = msgspec.msgpack.encode((*selector, after.hard, after.soft, after.at))
    batch.txn.put(_mark_key(selector), packed, db=batch.db.purges)
    batch.epochs.set(selector, after)
    return epoch


def _mark_key(selector: Selector) -> bytes:
    return schema.name_key(msgspec.msgpack.encode(tuple(selector)))


def head_of(batch: Batch, selector: Selector) -> Head | None:
    """The fields of the one entry that `selector` names, as far as they can be read."""
    _, record = _named(batch, selector)
    return None if record is None else schema.salvage(record)


def _named(batch: Batch, selector: Selector) -> tuple[int, bytes | None]:
    entry_id = int(selector.value) if selector.value.isdecimal() else 0
    there = 0 < entry_id <= batch.last_id
    return entry_id, batch.txn.get(key_of(entry_id), db=batch.db.entries) if there else None


def purge_entry(batch: Batch, selector: Selector, *, soft: bool) -> int:
    """Remove one entry, or mark it stale; the id of the purge, 0 when the tenant has no such entry."""
    entry_id, record = _named(batch, selector)
    if record is None:
        return 0
    head = schema.salvage(record)
    if selector.tenant is not None and (head is None or head.tenant != selector.tenant):
        return 0
    if not soft:
        batch.remove(entry_id)
        return batch.next_id()
    try:
        head, body = schema.decode(entry_id, record)
    except StoreCorrupt:
        return 0
    stale = schema.encode(entry_id, msgspec.structs.replace(head, soft=True), bytes(body))
    batch.txn.put(key_of(entry_id), stale, db=batch.db.entries)
    return batch.next_id()


def use_embedder(batch: Batch, name: str) -> bool:
    """Make `name` the embedder of the stored vectors; True if those of another had to be dropped."""
    known = batch.txn.get(_EMBEDDER, db=batch.db.meta)
    if known == name.encode():
        return False
    batch.txn.drop(batch.db.vectors, delete=False)
    batch.txn.drop(batch.db.writers, delete=False)
    batch.txn.put(_EMBEDDER, name.encode(), db=batch.db.meta)
    return known is not None


def embedder(db: Database, txn: Any) -> str:
    """The embedder of the stored vectors; empty before the first."""
    return (txn.get(_EMBEDDER, db=db.meta) or b"").decode()


def forget(batch: Batch, oldest: int, before: float, purges: Purges) -> int:
    """Drop purges below id `oldest` made before `before` (Unix s); how many."""
    selectors = [s for s in purges.epochs.older(oldest, before) if batch.epochs.get(s) is None]
    for selector in selectors:
        known = purges.epochs.get(selector) or Mark()
        purges.floor = max(purges.floor, known.hard, known.soft)
        batch.txn.delete(_mark_key(selector), db=batch.db.purges)
    if selectors:
        batch.txn.put(_FLOOR, key_of(purges.floor), db=batch.db.meta)
        batch.forgotten.extend(selectors)
    return len(selectors)
