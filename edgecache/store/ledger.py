"""The usage ledger on disk: an LMDB environment of its own, to which records are only added, and whose oldest go.

Records are taken in memory and committed by a thread, all that came within `flush` seconds together. A crash loses
those; a full disk loses what comes while it is full; both are counted, and neither holds up a request. Beside the rows
stand the sums of each UTC day and holder, so that budgets are known at a start without reading a month of records.
"""

import logging
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb

from edgecache import config
from edgecache.clock import Clock
from edgecache.errors import StoreError
from edgecache.store.database import PAGE, check_length, own, translate
from edgecache.store.records import LONGEST, Record, key_of, pack, unpack
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Purpose

SCHEMA: Final = b"1"
DAY: Final = 86_400.0

_INITIAL = 4 * 1024**2
_LEAST = 1024**2
"""Bytes of the smallest ledger, whatever `max_bytes` says."""
_GROUP = 1024
"""Records in one commit at most."""
_WAITING = 65_536
"""Records that wait for a disk that does not keep up; more are lost."""
_SWEEP = 3600.0
"""Seconds between two looks for records that are too old, where none are written."""
_CHUNK = 1000
"""Old records removed in one go."""
_KEPT_DAYS = 62
"""Days whose sums are kept at least: budgets run for a month."""
_TRIES = 4
_LIMITED = frozenset({Purpose.CLIENT.value, Purpose.FUNCTION.value})
"""Purposes whose cost counts against budgets, as `router.dispatch` has it; the rest is this POP's own doing."""
_DAY = struct.Struct(">I")
_SUM = struct.Struct("<dI")

log = logging.getLogger(__name__)


class Page(NamedTuple):
    """Some records in the order of time, where to go on (None = there are no more), and how many were damaged."""

    records: list[Record]
    next: bytes | None
    damaged: int


class _Row(NamedTuple):
    key: bytes
    row: bytes
    sums: tuple[bytes, ...]
    cost: float


class LedgerStore:
    """The ledger of one POP, owned by one process. Opening raises StoreError kinds.

    `add` never blocks and never raises; `page` and `spent` block, and may be called from any thread.
    """

    def __init__(
        self, path: Path, settings: config.Ledger, *, clock: Clock, metrics: Metrics, sync: bool = True
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics.ledger_records
        self._budget = max(settings.max_bytes, _LEAST) // PAGE * PAGE
        self._limit = self._budget - max(self._budget // 32, _LEAST // 4)  # changes copy pages: the rest is theirs
        self._waiting: deque[Record | threading.Event] = deque()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closed = False
        self._losing = False
        self._reading = threading.Lock()  # growing the map moves it, which no open transaction survives
        self._env: Any = None
        self._owner: int | None = own(path)
        try:
            self._open(path, sync)
        except (lmdb.Error, OSError) as error:
            self._abandon()
            raise translate(error) from error
        except StoreError:
            self._abandon()
            raise
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def _open(self, path: Path, sync: bool) -> None:  # noqa: FBT001 - passed on by position
        self._env = lmdb.open(
            str(path),
            map_size=self._first_size(path / "data.mdb"),
            max_dbs=4,
            mode=0o700,
            sync=sync,
            metasync=True,
            readahead=False,
        )
        check_length(self._env, path)
        self._env.reader_check()
        self._meta, self._records, self._spent = (self._env.open_db(name) for name in (b"meta", b"records", b"spent"))
        with self._env.begin(write=True) as txn:
            found = txn.get(b"schema", default=SCHEMA, db=self._meta)
            if found != SCHEMA:
                raise StoreError(f"the ledger has schema {found.decode(errors='replace')}; this program reads 1")
            txn.put(b"schema", SCHEMA, db=self._meta)
            self._number = int(txn.get(b"number", default=b"0", db=self._meta))

    def _first_size(self, data: Path) -> int:
        """Bytes of the map at first: a file from when `max_bytes` was larger needs a little more, to be emptied."""
        there = data.stat().st_size if data.exists() else 0
        return max(min(_INITIAL, self._budget), there + self._budget - self._limit if there > self._limit else 0)

    # ------------------------------------------------------------------------------------------ any thread
    def add(self, record: Record) -> None:
        """Keep `record`, which must not change any more. One that cannot be kept is counted as lost."""
        if self._closed or len(self._waiting) >= _WAITING:
            self._lose(1, "it cannot keep up" if not self._closed else "it is closed")
            return
        self._waiting.append(record)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self) -> None:
        """Wait until all that was added before is on disk, or counted as lost."""
        if self._closed:
            return
        done = threading.Event()
        self._waiting.append(done)
        self._hurry.set()
        self._wake.set()
        while not done.wait(1.0) and self._thread.is_alive():  # it may have been closed in between
            pass

    def page(self, place: bytes, until: float = float("inf"), limit: int = 256) -> Page:
        """Up to `limit` records from `place` on (`records.key_of` makes one) that came before Unix time `until`.

        A damaged row is left out and counted. Raises StoreError.
        """
        end = key_of(until, 0)
        found: list[tuple[bytes, bytes]] = []
        with self._read() as txn:
            cursor = txn.cursor(db=self._records)
            there = cursor.set_range(place)
            while there and len(found) <= limit and (key := cursor.key()) < end:
                found.append((key, cursor.value()))
                there = cursor.next()
        following = found[limit][0] if len(found) > limit else None
        records = [unpack(key, row) for key, row in found[:limit]]
        sound = [record for record in records if record is not None]
        if damaged := len(records) - len(sound):
            self._metrics.labels("damaged").inc(damaged)
        return Page(sound, following, damaged)

    def spent(self, since: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """USD that each holder has spent since the UTC day of a Unix time, by the name of that time. Raises StoreError.

        Holders are tenants (`ID`) and their keys (`ID/KEY`). What the POP asked of its own accord (`Record.purpose`) is
        left out: no budget stops that. It holds for records that are gone for want of room, too.
        """
        days = {name: int(at // DAY) for name, at in since.items()}
        sums: dict[str, dict[str, float]] = {name: {} for name in days}
        with self._read() as txn:
            cursor = txn.cursor(db=self._spent)
            there = cursor.set_range(_DAY.pack(max(min(days.values(), default=0), 0)))
            while there:
                key, cost = cursor.key(), _sum(cursor.key(), cursor.value())
                holder = key[_DAY.size :].decode(errors="replace")
                for name in (name for name, day in days.items() if _DAY.unpack_from(key)[0] >= day):
                    sums[name][holder] = sums[name].get(holder, 0.0) + cost
                there = cursor.next()
        return sums

    def close(self) -> None:
        """Commit what waits and let others own the ledger; a second call does nothing."""
        self._closed = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()
        with self._reading:
            self._abandon()

    @contextmanager
    def _read(self) -> Iterator[Any]:
        with self._reading:
            if self._env is None:
                raise StoreError("the ledger is closed")
            try:
                with self._env.begin() as txn:
                    yield txn
            except lmdb.Error as error:
                raise translate(error) from error

    def _abandon(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    # ------------------------------------------------------------------------------------------ the writer's thread
    def _run(self) -> None:
        self._sweep()
        while not (self._closed and not self._waiting):
            if not self._wake.wait(_SWEEP):
                self._sweep()
                continue
            self._wake.clear()
            self._hurry.wait(self._settings.flush)
            self._hurry.clear()
            while self._waiting:
                self._settle([self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP))])
            if self._closed:
                self._wake.set()  # somebody may have added until now

    def _settle(self, group: list[Record | threading.Event]) -> None:
        rows = [row for each in group if isinstance(each, Record) and (row := self._row(each)) is not None]
        if rows and self._write(rows):
            self._metrics.labels("written").inc(len(rows))
        for each in group:
            if isinstance(each, threading.Event):
                each.set()

    def _row(self, record: Record) -> _Row | None:
        self._number += 1
        key, day = key_of(record.at, self._number), _DAY.pack(int(max(0.0, record.at) // DAY))
        try:
            row = pack(key, record)
        except StoreError as error:
            self._lose(1, error.message)
            return None
        names = record.holders if record.cost and record.purpose in _LIMITED else ()
        return _Row(key, row, tuple(day + name.encode("utf-8", "replace")[:LONGEST] for name in names), record.cost)

    def _write(self, rows: list[_Row]) -> bool:
        """Commit `rows`, if there is any way to; whether there was."""
        for _ in range(_TRIES):
            try:
                self._transact(rows)
            except lmdb.MapFullError as full:
                if not self._grow() and not self._remove(len(rows) + _CHUNK):
                    self._lose(len(rows), str(full))
                    return False
            except (lmdb.Error, OSError) as error:
                self._lose(len(rows), translate(error).message)
                return False
            else:
                self._losing = False
                return True
        self._lose(len(rows), "there is no room")
        return False

    def _transact(self, rows: list[_Row]) -> None:
        sums: dict[bytes, float] = {}
        with self._env.begin(write=True) as txn:
            removed = self._expire(txn, _CHUNK)
            incoming = 2 * sum(len(row.row) + 64 for row in rows)
            while self._used(txn) + incoming > self._limit and (gone := self._drop(txn, len(rows) + _CHUNK)):
                removed += gone
            for row in rows:
                txn.put(row.key, row.row, db=self._records)
                for name in row.sums:
                    sums[name] = sums.get(name, 0.0) + row.cost
            for name, cost in sums.items():
                total = _sum(name, txn.get(name, db=self._spent)) + cost
                txn.put(name, _summed(name, total), db=self._spent)
            txn.put(b"number", b"%d" % self._number, db=self._meta)
        if removed:
            self._metrics.labels("expired").inc(removed)

    def _used(self, txn: Any) -> int:
        """Bytes in pages that hold something."""
        stats = [txn.stat(table) for table in (self._meta, self._records, self._spent)]
        return PAGE * sum(int(each["branch_pages"] + each["leaf_pages"] + each["overflow_pages"]) for each in stats)

    def _grow(self) -> bool:
        now = int(self._env.info()["map_size"])
        if now >= self._budget:
            return False
        with self._reading:
            self._env.set_mapsize(min(now * 2, self._budget))
        return True

    # ------------------------------------------------------------------------------------------ removing
    def _sweep(self) -> None:
        """Remove all that is too old."""
        while self._remove(0):
            pass

    def _remove(self, count: int) -> int:
        """Remove some of what is too old and the oldest `count` in one transaction; how many were removed."""
        try:
            with self._env.begin(write=True) as txn:
                removed = self._expire(txn, _CHUNK) + self._drop(txn, count)
        except (lmdb.Error, OSError) as error:
            log.warning("old records of the usage ledger stay: %s", translate(error).message)
            return 0
        self._metrics.labels("expired").inc(removed)
        return removed

    def _expire(self, txn: Any, count: int) -> int:
        now = self._clock.now()
        oldest = int((now - max(self._settings.keep, _KEPT_DAYS) * DAY) // DAY)
        _cut(txn, self._spent, _DAY.pack(max(oldest, 0)), count)
        return _cut(txn, self._records, key_of(now - self._settings.keep * DAY, 0), count)

    def _drop(self, txn: Any, count: int) -> int:
        return _cut(txn, self._records, b"\xff" * 13, count)

    def _lose(self, count: int, why: str) -> None:
        self._metrics.labels("lost").inc(count)
        if not self._losing:
            log.error("records of the usage ledger are lost: %s", why)
        self._losing = True


def _cut(txn: Any, table: Any, end: bytes, count: int) -> int:
    """Remove the first rows with keys below `end`, `count` at most; how many were removed."""
    cursor, gone = txn.cursor(db=table), 0
    there = cursor.first()
    while there and gone < count and cursor.key() < end:
        there = cursor.delete()
        gone += 1
    return gone


def _summed(key: bytes, cost: float) -> bytes:
    return _SUM.pack(cost, zlib.crc32(struct.pack("<d", cost), zlib.crc32(key)))


def _sum(key: bytes, row: bytes | None) -> float:
    """The sum in a row; 0 where there is none or it is damaged."""
    if row is None or len(row) != _SUM.size:
        return 0.0
    cost = float(_SUM.unpack(row)[0])
    return cost if _summed(key, cost) == row else 0.0
