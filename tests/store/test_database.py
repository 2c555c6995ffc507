import errno
import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from edgecache import config
from edgecache.errors import StoreCorrupt, StoreError, StoreFull, StoreReadOnly
from edgecache.store.database import PAGE, Database, translate

SMALL = config.Store(sync=False, initial_map_bytes=1024**2, max_bytes=16 * 1024**2)


def fill(db: Database, count: int) -> None:
    with db.env.begin(write=True) as txn:
        for number in range(count):
            txn.put(number.to_bytes(8, "big"), bytes(3000), db=db.entries)


def test_what_was_written_is_there_when_opened_again_and_only_the_owner_can_read_it(tmp_path: Path) -> None:
    db = Database(tmp_path / "s", SMALL)
    fill(db, 10)
    db.close()
    db = Database(tmp_path / "s", SMALL)
    with db.env.begin() as txn:
        assert txn.stat(db.entries)["entries"] == 10
        assert db.used(txn) > 10 * 3000
    db.close()
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0


def test_two_owners_of_one_folder_are_refused(tmp_path: Path) -> None:
    db = Database(tmp_path, SMALL)
    code = (
        "import sys; from pathlib import Path; from edgecache import config; from edgecache.errors import StoreError\n"
        "from edgecache.store.database import Database\n"
        "try: Database(Path(sys.argv[1]), config.Store())\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "in use by another process" in done.stdout
    with pytest.raises(StoreError, match="in use"):
        Database(tmp_path, SMALL)
    db.close()
    Database(tmp_path, SMALL).close()


@pytest.mark.parametrize("content", [b"not a database" * 1000, bytes(8192)], ids=["text", "zeros"])
def test_a_file_that_is_no_database_is_refused_and_the_folder_is_free_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            Database(tmp_path, SMALL)


def test_a_file_cut_short_is_refused_and_does_not_kill_the_process(tmp_path: Path) -> None:
    db = Database(tmp_path, SMALL)
    fill(db, 100)
    db.close()
    os.truncate(tmp_path / "data.mdb", 10 * PAGE)
    with pytest.raises(StoreCorrupt, match="shorter than its own page count"):
        Database(tmp_path, SMALL)


def test_a_file_that_lacks_only_pages_that_hold_nothing_is_opened(tmp_path: Path) -> None:
    db = Database(tmp_path, SMALL)
    fill(db, 100)
    with db.env.begin(write=True) as txn:
        txn.drop(db.entries, delete=False)
    for _ in range(3):  # lets the pages of the dropped table become free in both meta pages
        with db.env.begin(write=True) as txn:
            txn.put(b"x", b"y", db=db.meta)
    db.close()
    size = (tmp_path / "data.mdb").stat().st_size
    os.truncate(tmp_path / "data.mdb", size - 20 * PAGE)
    db = Database(tmp_path, SMALL)
    fill(db, 100)
    db.close()
    assert (tmp_path / "data.mdb").stat().st_size >= size


def test_another_schema_is_refused_by_name(tmp_path: Path) -> None:
    db = Database(tmp_path, SMALL)
    with db.env.begin(write=True) as txn:
        txn.put(b"schema", b"9", db=db.meta)
    db.close()
    with pytest.raises(StoreError, match="the store has schema 9; this program reads 1"):
        Database(tmp_path, SMALL)


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        Database(tmp_path / "file" / "store", SMALL)


def test_the_map_doubles_up_to_the_limit_and_not_further(tmp_path: Path) -> None:
    db = Database(tmp_path, SMALL)
    sizes = [db.map_bytes()]
    while db.grow(db.put_limit):
        sizes.append(db.map_bytes())
    assert sizes[1] == 2 * sizes[0]
    assert sizes[-1] == db.put_limit < db.budget == SMALL.max_bytes
    db.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "no space"), StoreFull),
        (OSError(errno.EROFS, "read-only"), StoreReadOnly),
        (lmdb.MapFullError("x"), StoreFull),
        (lmdb.ReadonlyError("x"), StoreReadOnly),
        (lmdb.CorruptedError("x"), StoreCorrupt),
        (lmdb.Error("x"), StoreError),
    ],
)
def test_foreign_errors_become_the_kinds_that_callers_know(error: Exception, kind: type[StoreError]) -> None:
    assert type(translate(error)) is kind
