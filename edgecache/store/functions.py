"""What functions keep, in an LMDB environment of its own: the cache's budget and evictions do not touch it.

Tables of checked rows and transactions over them; what the rows mean is known to `store.kv` and `functions`. A row is
`version(1) checksum(4) payload`, the checksum over the key too. Every write is durable when `write` returns. Writes of
several threads share a commit: whoever leads commits all that has queued, and hands the lead to the next in the queue.
"""

import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, TypeVar

import lmdb
import msgspec

from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store.database import PAGE, check_length, own, translate

SCHEMA = 1
OWNER_BYTES = 16
GROUP = 64
"""Writes that share a commit at most."""
INITIAL = 16 * 1024**2
LARGEST = 64 * 1024**3
"""Bytes of the map at first and at most; quotas and the disk end sooner."""

_HEAD = struct.Struct("<BI")

T = TypeVar("T")


class Table(StrEnum):
    """What is kept."""

    VERSIONS = "versions"
    DEPLOYMENTS = "deployments"
    SECRETS = "secrets"
    KV = "kv"
    EXPIRIES = "expiries"
    """Which key-value rows end when, in the order in which they do."""
    USAGE = "usage"
    """What each function's key-value data takes."""
    META = "meta"


def owner_key(tenant: str, function: str) -> bytes:
    """What the keys of a function's rows begin with. Lengths are hashed too: no two names make the same key."""
    return name_key(tenant, function)


def name_key(*names: str) -> bytes:
    """A key for names of any length: LMDB keys end at 511 bytes."""
    digest = blake2b(digest_size=OWNER_BYTES)
    for name in names:
        data = name.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
    return digest.digest()


def _check(key: bytes, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(key))


class Txn:
    """One transaction. Memory views that it gives end with it."""

    def __init__(self, txn: Any, tables: dict[Table, Any]) -> None:
        self._txn = txn
        self._tables = tables

    def get(self, table: Table, key: bytes) -> bytes | None:
        """The payload under `key`; raises StoreCorrupt when any bit of it has changed."""
        row = self._txn.get(key, db=self._tables[table])
        return None if row is None else _payload(table, key, row)

    def peek(self, table: Table, key: bytes) -> memoryview | None:
        """The payload under `key`, unchecked: for its length and for the beginning of large ones."""
        row = self._txn.get(key, db=self._tables[table])
        return None if row is None else row[_HEAD.size :]

    def load(self, table: Table, key: bytes, kind: type[T]) -> T | None:
        """The struct under `key`; raises StoreCorrupt."""
        payload = self.get(table, key)
        return None if payload is None else decode(payload, kind)

    def put(self, table: Table, key: bytes, payload: bytes) -> None:
        """Store `payload` under `key`."""
        row = _HEAD.pack(SCHEMA, _check(key, payload)) + payload
        self._txn.put(key, row, db=self._tables[table])

    def delete(self, table: Table, key: bytes) -> bool:
        """Remove what is under `key`; False if nothing is."""
        return bool(self._txn.delete(key, db=self._tables[table]))

    def scan(self, table: Table, start: bytes) -> "Scan":
        """A walk over the rows from `start` on, unchecked."""
        return Scan(self._txn.cursor(db=self._tables[table]), start)

    def items(self, table: Table, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes | None]]:
        """Keys that begin with `prefix`, and their payloads; None for a row that is damaged."""
        scan = self.scan(table, prefix)
        while (key := scan.key()) is not None and key.startswith(prefix):
            try:
                yield key, _payload(table, key, scan.row())
            except StoreCorrupt:
                yield key, None
            scan.next()

    def drop(self, table: Table, prefix: bytes, limit: int | None = None) -> int:
        """Remove rows whose keys begin with `prefix`, `limit` at most; how many were removed."""
        cursor, gone = self._txn.cursor(db=self._tables[table]), 0
        there = cursor.set_range(prefix)
        while there and bytes(cursor.key()).startswith(prefix) and gone != limit:
            there = cursor.delete()
            gone += 1
        return gone


class Scan:
    """A place in a table that moves on, in the order of keys."""

    def __init__(self, cursor: Any, start: bytes) -> None:
        self._cursor = cursor
        self._there = bool(cursor.set_range(start))

    def key(self) -> bytes | None:
        """The key at this place; None behind the last one."""
        return bytes(self._cursor.key()) if self._there else None

    def row(self) -> memoryview:
        """The row at this place."""
        return memoryview(self._cursor.value())

    def payload(self) -> memoryview:
        """Its payload, unchecked."""
        return self.row()[_HEAD.size :]

    def next(self) -> None:
        """Move to the next key."""
        self._there = bool(self._cursor.next())


def _payload(table: Table, key: bytes, row: memoryview) -> bytes:
    if len(row) < _HEAD.size:
        raise StoreCorrupt(f"a row of {table} is too short")
    version, checksum = _HEAD.unpack_from(row)
    if version != SCHEMA:
        raise StoreCorrupt(f"a row of {table} has schema {version}, this program reads {SCHEMA}")
    payload = bytes(row[_HEAD.size :])
    if checksum != _check(key, payload):
        raise StoreCorrupt(f"a row of {table} fails its checksum")
    return payload


def _schema(txn: Txn) -> bytes | None:
    """The schema of the whole: read without its checksum, which another schema may make otherwise."""
    found = txn.peek(Table.META, b"schema")
    return None if found is None else bytes(found)


def encode(value: msgspec.Struct) -> bytes:
    """A struct as a payload; raises StoreError for what msgpack cannot carry (lone surrogates, large integers)."""
    try:
        return msgspec.msgpack.encode(value)
    except (UnicodeEncodeError, OverflowError) as error:
        raise StoreError(f"the record cannot be encoded: {error}") from error


def decode(payload: bytes, kind: type[T]) -> T:
    """The struct in a payload; raises StoreCorrupt."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"a record cannot be decoded: {error}") from error


class _Write(Generic[T]):
    """A queued write, and what became of it."""

    def __init__(self, run: Callable[[Txn], T], frees: bool) -> None:  # noqa: FBT001 - private
        self.run = run
        self.frees = frees
        self.turn = threading.Lock()  # held until it is done, or is to lead
        self.turn.acquire()
        self.done = False
        self.error: StoreError | None = None
        self.value: Any = None

    def settle(self, value: Any = None, error: StoreError | None = None) -> None:
        self.value, self.error, self.done = value, error, True

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[no-any-return]  # what `run` returned


def _fail(group: list[_Write[Any]], error: StoreError) -> None:
    for write in group:
        if not write.done:
            write.settle(error=error)


class FunctionStore:
    """The environment, owned by one process; `read` and `write` block and may be called from any thread.

    Raises StoreError kinds when the folder is read-only, in use, damaged or of another schema.
    """

    def __init__(self, path: Path, *, sync: bool = True, initial: int = INITIAL, largest: int = LARGEST) -> None:
        self._largest = largest
        self._reading = threading.Lock()  # growing the map moves it, which no open transaction survives
        self._writing = threading.Lock()
        self._queueing = threading.Lock()
        self._queue: deque[_Write[Any]] = deque()
        self._led = False
        self._env: Any = None
        self._owner: int | None = own(path)
        try:
            self._open(path, sync, initial)
        except (lmdb.Error, OSError) as error:
            self._abandon()
            raise translate(error) from error
        except StoreError:
            self._abandon()
            raise

    def _open(self, path: Path, sync: bool, initial: int) -> None:  # noqa: FBT001 - passed on by position
        size = max(initial // PAGE, 64) * PAGE
        self._env = lmdb.open(
            str(path), map_size=size, max_dbs=16, max_readers=256, mode=0o700, sync=sync, metasync=True, readahead=False
        )
        check_length(self._env, path)
        self._env.reader_check()
        self._tables = {table: self._env.open_db(table.value.encode()) for table in Table}
        found = self.read(_schema)
        if found is None:
            self.write(lambda txn: txn.put(Table.META, b"schema", b"%d" % SCHEMA))
        elif found != b"%d" % SCHEMA:
            text = found.decode(errors="replace")
            raise StoreError(f"the state of functions has schema {text}; this program reads {SCHEMA}")

    def read(self, run: Callable[[Txn], T]) -> T:
        """What `run` returns; it must be short, and keep no view of what it read."""
        with self._reading:
            if self._env is None:
                raise StoreError("the state of functions is closed")
            try:
                with self._env.begin(buffers=True) as txn:
                    return run(Txn(txn, self._tables))
            except lmdb.Error as error:
                raise translate(error) from error

    def write(self, run: Callable[[Txn], T], *, frees: bool = False) -> T:
        """What `run` returns, once it is on disk; raises the StoreError that it raised, or that the commit ended in.

        `run` may be called more than once, in another thread, and raises only where what it has written until then
        may stay. `frees`: it only removes, and may use the space that is kept for that.
        """
        mine = _Write(run, frees)
        with self._queueing:
            self._queue.append(mine)
            lead, self._led = not self._led, True
        if not lead:
            mine.turn.acquire()
        if not mine.done:
            self._lead()
        return mine.result()

    def _lead(self) -> None:
        """Commit what has queued; then let the next in the queue lead, and those who are done go."""
        group: list[_Write[Any]] = []
        try:
            with self._writing:
                with self._queueing:
                    group = [self._queue.popleft() for _ in range(min(len(self._queue), GROUP))]
                self._commit(group)
        finally:
            with self._queueing:
                self._led = bool(self._queue)
                if self._queue:
                    self._queue[0].turn.release()
            for write in group[1:]:  # the first of them leads
                write.turn.release()

    def _commit(self, group: list[_Write[Any]]) -> None:
        """Settle every write of `group`. Only while writing is locked."""
        try:
            self._transact(group)
        except lmdb.MapFullError as full:
            if self._grow(self._largest):
                self._commit(group)
            elif len(group) > 1:
                for write in group:  # one that only removes may still fit
                    self._commit([write])
            elif group[0].frees and self._grow(self._largest + self._largest // 32 // PAGE * PAGE):
                self._commit(group)
            else:
                _fail(group, translate(full))
        except (lmdb.Error, OSError) as error:
            _fail(group, translate(error))
        except BaseException:
            _fail(group, StoreError("a write beside this one failed"))
            raise

    def _transact(self, group: list[_Write[Any]]) -> None:
        if self._env is None:
            _fail(group, StoreError("the state of functions is closed"))
            return
        outcomes: list[tuple[_Write[Any], Any, StoreError | None]] = []
        with self._env.begin(write=True, buffers=True) as txn:
            for write in group:
                try:
                    outcomes.append((write, write.run(Txn(txn, self._tables)), None))
                except StoreError as refusal:
                    outcomes.append((write, None, refusal))
        for write, value, refused in outcomes:
            write.settle(value, refused)

    def _grow(self, limit: int) -> bool:
        now = int(self._env.info()["map_size"])
        if now >= limit:
            return False
        with self._reading:
            self._env.set_mapsize(min(now * 2, limit))
        return True

    def close(self) -> None:
        """Close the environment and let others own it; a second call does nothing."""
        with self._writing, self._reading:
            self._abandon()

    def _abandon(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None
