"""Export and import of a store's entries as one msgpack stream: a header, a record an entry, a footer with the count.

Entries get new ids on import. An import brings in what the export holds, whatever was purged here since: it is an
operator's act. Vectors of another embedder are left out, and those entries are then found by digest alone.
"""

import asyncio
from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store import schema
from edgecache.store.entries import EntryStore
from edgecache.store.schema import Single

FORMAT = "edgecache-export"
_IN_FLIGHT = 64
_MAX_ITEM = 256 * 1024 * 1024


@dataclass(slots=True)
class Imported:
    """What an import did: entries `stored`, entries `kept` because the store has a newer one, `vectors` taken over."""

    stored: int = 0
    kept: int = 0
    vectors: int = 0


def export(store: EntryStore) -> Iterator[bytes]:
    """The stream, a record at a time. Reads the disk: not for the event loop."""
    yield msgpack.packb({"format": FORMAT, "schema": schema.SCHEMA, "embedder": store.embedder()})
    count = 0
    for entry_id, record, vector in store.records():
        yield msgpack.packb([entry_id, record, vector])
        count += 1
    yield msgpack.packb({"count": count})


async def import_(store: EntryStore, chunks: AsyncIterable[bytes]) -> Imported:
    """Store what an export holds; raises StoreError for another format or schema and StoreCorrupt for damage.

    What came before the damage stays. Raises StoreFull when the budget is reached.
    """
    reader = _Reader(store)
    unpacker = msgpack.Unpacker(max_buffer_size=_MAX_ITEM)
    async for chunk in chunks:
        for item in _items(unpacker, chunk):
            await reader.take(item)
    return await reader.finish()


def _items(unpacker: Any, chunk: bytes) -> Iterator[Any]:
    try:
        unpacker.feed(chunk)
        yield from unpacker
    except (ValueError, msgpack.UnpackException) as error:
        raise StoreCorrupt(f"the export cannot be decoded: {error}") from error


def _is_record(item: Any) -> bool:
    """Whether `item` is an id, a record and perhaps a vector record."""
    if not (isinstance(item, list) and len(item) == 3 and isinstance(item[1], bytes)):
        return False
    return type(item[0]) is int and item[0] >= 0 and (item[2] is None or isinstance(item[2], bytes))


class _Reader:
    def __init__(self, store: EntryStore) -> None:
        self._store = store
        self._dimension = 0
        self._same_embedder = False
        self._header: dict[str, Any] | None = None
        self._count: int | None = None
        self._seen = 0
        self._batch: list[tuple[int, bytes, bytes | None]] = []
        self._done = Imported()

    async def take(self, item: Any) -> None:
        if self._header is None:
            self._open(item)
        elif self._count is not None:
            raise StoreCorrupt("the export goes on after its end")
        elif isinstance(item, dict):
            self._count = item.get("count", -1)
        elif not _is_record(item):
            raise StoreCorrupt(f"item {self._seen + 1} of the export is no record")
        else:
            self._seen += 1
            self._batch.append((item[0], item[1], item[2]))
            if len(self._batch) == _IN_FLIGHT:
                await self._flush()

    def _open(self, item: Any) -> None:
        if not isinstance(item, dict) or item.get("format") != FORMAT:
            raise StoreError("this is no export of edgecache")
        if item.get("schema") not in schema.READABLE:
            raise StoreError(f"the export has schema {item.get('schema')}; this program reads {schema.readable()}")
        self._header = item
        name = str(item.get("embedder"))
        if name and name == self._store.embedder():
            self._same_embedder = True
            self._dimension = int(name.rpartition("/")[2])

    async def _flush(self) -> None:
        batch, self._batch = self._batch, []
        await asyncio.gather(*(self._put(*record) for record in batch))

    async def _put(self, old_id: int, record: bytes, vector: bytes | None) -> None:
        head, body = schema.decode(old_id, record)
        entry = schema.entry_of(0, head, bytes(body), soft=False)
        known = self._store.find(entry.digest)
        if known is not None and known.created >= entry.created:
            self._done.kept += 1
            return
        row: Single | None = None
        if vector is not None and self._same_embedder:
            row = schema.decode_vector(old_id, vector, self._dimension)[1].astype(np.float32)
            self._done.vectors += 1
        await self._store.put(entry, row)
        self._done.stored += 1

    async def finish(self) -> Imported:
        await self._flush()
        if self._header is None or self._count != self._seen:
            raise StoreCorrupt(f"the export is cut short: {self._seen} entries were read")
        return self._done
