"""The LMDB environment: opening it safely, its tables, map growth, and lmdb's errors in this program's terms."""

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any, NoReturn

import lmdb
from lmdb.verify import VerifyError, verify

from edgecache import config
from edgecache.errors import StoreCorrupt, StoreError, StoreFull, StoreReadOnly
from edgecache.store import schema

PAGE = 4096
LOCK_NAME = "owner.lock"
# LMDB answers EIO to a short write, which is how a disk that fills up shows first.
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_CORRUPT = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError, lmdb.PanicError)


def translate(error: Exception) -> StoreError:
    """The StoreError kind that `error` of lmdb or of the operating system amounts to."""
    code = error.errno if isinstance(error, OSError) else getattr(error, "code", None)
    if isinstance(error, (lmdb.MapFullError, lmdb.DiskError)) or code in _FULL:
        return StoreFull(f"the store is full: {error}")
    if isinstance(error, lmdb.ReadonlyError) or code in _READ_ONLY:
        return StoreReadOnly(f"the store cannot be written: {error}")
    if isinstance(error, _CORRUPT):
        return StoreCorrupt(f"the store is damaged: {error}")
    return StoreError(f"the store failed: {error}")


class Database:
    """One LMDB environment, owned by one process.

    `lock` must be held during every read transaction: growing the map moves it, which no open transaction survives.
    Raises StoreError kinds when the folder is read-only, in use, damaged or of another schema.
    """

    def __init__(self, path: Path, settings: config.Store) -> None:
        self.lock = threading.Lock()
        self.budget = max(settings.max_bytes // PAGE, 64) * PAGE
        # Deletes and purges copy pages too: this much of the budget is theirs, so that a full store can be emptied.
        self.put_limit = self.budget - min(max(self.budget // 32, 64 * PAGE), self.budget // 4) // PAGE * PAGE
        self._owner: int | None = own(path)
        try:
            self._open(path, settings)
        except (lmdb.Error, OSError) as error:
            self._abandon()
            raise translate(error) from error
        except StoreError:
            self._abandon()
            raise

    env: Any = None

    def _open(self, path: Path, settings: config.Store) -> None:
        initial = max(min(settings.initial_map_bytes, self.put_limit) // PAGE, 64) * PAGE
        self.env = lmdb.open(
            str(path),
            map_size=initial,
            max_dbs=16,
            max_readers=256,
            mode=0o700,
            sync=settings.sync,
            metasync=True,
            readahead=False,
        )
        check_length(self.env, path)
        self.env.reader_check()
        self.meta, self.entries, self.vectors, self.digests, self.purges = (
            self.env.open_db(name) for name in (b"meta", b"entries", b"vectors", b"digests", b"purges")
        )
        self.segments, self.tracks, self.words, self.marks, self.serves = (
            self.env.open_db(name) for name in (b"segments", b"tracks", b"words", b"marks", b"serves")
        )
        self.evidence = (self.segments, self.tracks, self.words, self.marks, self.serves)
        self.writers = self.env.open_db(b"writers")
        with self.env.begin(write=True) as txn:
            found = txn.get(b"schema", db=self.meta)
            if found is not None and found not in {str(version).encode() for version in schema.READABLE}:
                raise StoreError(f"the store has schema {found.decode()}; this program reads {schema.readable()}")
            if found != str(schema.SCHEMA).encode():  # older records stay as they are; older programs refuse the store
                txn.put(b"schema", str(schema.SCHEMA).encode(), db=self.meta)

    def _abandon(self) -> None:
        if self.env is not None:
            self.env.close()
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def used(self, txn: Any) -> int:
        """Bytes in pages that hold something."""
        pages = 0
        for table in (self.meta, self.entries, self.vectors, self.digests, self.purges, self.writers, *self.evidence):
            stat = txn.stat(table)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages) * PAGE

    def map_bytes(self) -> int:
        """Present size of the map."""
        return int(self.env.info()["map_size"])

    def grow(self, limit: int) -> bool:
        """Double the map, up to `limit`; False when it is there already. Only between transactions of the writer."""
        now = self.map_bytes()
        if now >= limit:
            return False
        self.resize(min(now * 2, limit))
        return True

    def resize(self, size: int) -> None:
        """Set the map's size; what is in use is never cut off."""
        with self.lock:
            self.env.set_mapsize(size)

    def close(self) -> None:
        """Close the environment and let others own it; a second call does nothing."""
        with self.lock:
            self._abandon()


def own(path: Path) -> int:
    """Take the folder for this process: a second writer would hand out the same ids again."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise translate(error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StoreError(f"{path} is in use by another process") from error
    return handle


def check_length(env: Any, path: Path) -> None:
    """Refuse a file that was cut off: touching a missing page through the map would kill the process.

    A sound file may lack pages at its end that were allocated and freed in one transaction, hence the full check.
    """
    data = path / "data.mdb"
    expected = (env.info()["last_pgno"] + 1) * PAGE
    if data.stat().st_size >= expected:
        return
    try:
        problems = verify(str(data))
    except VerifyError as error:
        _cut_off(data, str(error))
    if problems:
        _cut_off(data, problems[0])
    os.truncate(data, expected)


def _cut_off(data: Path, problem: str) -> NoReturn:
    raise StoreCorrupt(f"{data} is shorter than its own page count: {problem}")
