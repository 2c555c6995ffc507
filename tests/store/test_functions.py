import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import msgspec
import pytest

from edgecache.errors import StoreCorrupt, StoreError, StoreFull
from edgecache.store.functions import FunctionStore, Table, Txn, decode, encode, name_key, owner_key


class Thing(msgspec.Struct, frozen=True):
    name: str
    number: int


@pytest.fixture
def store(tmp_path: Path):
    made = FunctionStore(tmp_path / "state", sync=False)
    yield made
    made.close()


def put(key: bytes, payload: bytes):
    return lambda txn: txn.put(Table.META, key, payload)


def get(store: FunctionStore, key: bytes) -> bytes | None:
    return store.read(lambda txn: txn.get(Table.META, key))


def spoil(path: Path, table: Table, key: bytes) -> None:
    """Flip a bit of a row in a closed store."""
    env = lmdb.open(str(path), max_dbs=16)
    handle = env.open_db(table.value.encode())
    with env.begin(write=True) as txn:
        row = bytearray(txn.get(key, db=handle))
        row[-1] ^= 1
        txn.put(key, bytes(row), db=handle)
    env.close()


def test_what_was_written_is_there_when_opened_again_and_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    store = FunctionStore(path)
    store.write(lambda txn: txn.put(Table.SECRETS, b"k", encode(Thing("a", 1))))
    store.close()
    store.close()
    store = FunctionStore(path)
    assert store.read(lambda txn: txn.load(Table.SECRETS, b"k", Thing)) == Thing("a", 1)
    assert store.read(lambda txn: txn.load(Table.SECRETS, b"other", Thing)) is None
    store.close()
    assert path.stat().st_mode & 0o077 == 0


def test_one_transaction_changes_several_tables_or_none(store: FunctionStore) -> None:
    def run(txn: Txn) -> None:
        txn.put(Table.VERSIONS, b"v", b"1")
        txn.put(Table.DEPLOYMENTS, b"d", b"1")
        raise TypeError("a mistake of the program")

    with pytest.raises(TypeError, match="a mistake"):
        store.write(run)
    assert store.read(lambda txn: (txn.get(Table.VERSIONS, b"v"), txn.get(Table.DEPLOYMENTS, b"d"))) == (None, None)
    store.write(put(b"a", b"1"))
    assert get(store, b"a") == b"1"


def test_items_and_drop_keep_to_their_prefix(store: FunctionStore) -> None:
    def run(txn: Txn) -> None:
        for key in (b"a1", b"a2", b"b1", b"b2", b"b3", b"c"):
            txn.put(Table.KV, key, key)

    store.write(run)
    assert store.read(lambda txn: [key for key, _ in txn.items(Table.KV, b"b")]) == [b"b1", b"b2", b"b3"]
    assert store.write(lambda txn: txn.drop(Table.KV, b"b", 2)) == 2
    assert store.write(lambda txn: txn.drop(Table.KV, b"b")) == 1
    assert store.read(lambda txn: list(txn.items(Table.KV))) == [(b"a1", b"a1"), (b"a2", b"a2"), (b"c", b"c")]
    assert store.write(lambda txn: (txn.delete(Table.KV, b"c"), txn.delete(Table.KV, b"c"))) == (True, False)


def test_a_changed_bit_is_noticed_and_does_not_hide_the_other_rows(tmp_path: Path) -> None:
    store = FunctionStore(tmp_path, sync=False)
    store.write(lambda txn: [txn.put(Table.VERSIONS, key, key) for key in (b"a", b"b", b"c")])
    store.close()
    spoil(tmp_path, Table.VERSIONS, b"b")
    store = FunctionStore(tmp_path, sync=False)
    with pytest.raises(StoreCorrupt, match="a row of versions fails its checksum"):
        store.read(lambda txn: txn.get(Table.VERSIONS, b"b"))
    assert store.read(lambda txn: list(txn.items(Table.VERSIONS))) == [(b"a", b"a"), (b"b", None), (b"c", b"c")]
    store.close()


def test_a_row_under_another_key_is_noticed(store: FunctionStore) -> None:
    def move(txn: Txn) -> None:
        txn.put(Table.KV, b"a", b"value")
        row = bytes(txn.scan(Table.KV, b"a").row())
        txn._txn.put(b"b", row, db=txn._tables[Table.KV])

    store.write(move)
    with pytest.raises(StoreCorrupt, match="checksum"):
        store.read(lambda txn: txn.get(Table.KV, b"b"))


@pytest.mark.parametrize("row", [b"", b"\x01\x02", b"\x07" + bytes(8)])
def test_a_row_that_is_too_short_or_of_another_schema_is_noticed(store: FunctionStore, row: bytes) -> None:
    store.write(lambda txn: txn._txn.put(b"k", row, db=txn._tables[Table.KV]))
    with pytest.raises(StoreCorrupt, match=r"too short|schema 7, this program reads 1"):
        store.read(lambda txn: txn.get(Table.KV, b"k"))


def test_another_schema_of_the_whole_is_refused_by_name(tmp_path: Path) -> None:
    store = FunctionStore(tmp_path, sync=False)
    store.write(lambda txn: txn.put(Table.META, b"schema", b"9"))
    store.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="has schema 9; this program reads 1"):
            FunctionStore(tmp_path)


def test_two_owners_of_one_folder_are_refused(tmp_path: Path) -> None:
    store = FunctionStore(tmp_path, sync=False)
    code = (
        "import sys; from pathlib import Path; from edgecache.errors import StoreError\n"
        "from edgecache.store.functions import FunctionStore\n"
        "try: FunctionStore(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "in use by another process" in done.stdout
    store.close()


def test_a_damaged_file_is_refused_and_the_folder_is_free_again(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a database" * 1000)
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            FunctionStore(tmp_path)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = FunctionStore(tmp_path, sync=False)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.read(lambda txn: txn.get(Table.KV, b"k"))
    with pytest.raises(StoreError, match="closed"):
        store.write(put(b"a", b"1"))


def test_the_map_grows_while_others_read_and_write(tmp_path: Path) -> None:
    store = FunctionStore(tmp_path, sync=False, initial=256 * 1024)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(40):
                key = b"%d %d" % (number, i)
                store.write(put(key, key * 2000))
                assert get(store, key) == key * 2000
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.read(lambda txn: len(list(txn.items(Table.META)))) == 6 * 40 + 1
    store.close()


@pytest.mark.slow
def test_the_map_does_not_grow_under_a_reader(tmp_path: Path) -> None:
    store = FunctionStore(tmp_path, sync=False, initial=256 * 1024)
    store.write(put(b"k", b"value"))
    writer = threading.Thread(target=store.write, args=(put(b"large", bytes(1024**2)),))

    def read(txn: Txn) -> tuple[bool, bytes | None]:
        writer.start()
        writer.join(0.3)
        return writer.is_alive(), txn.get(Table.META, b"k")

    assert store.read(read) == (True, b"value")
    writer.join()
    assert get(store, b"large") == bytes(1024**2)
    store.close()


def test_a_full_store_refuses_what_adds_and_can_be_emptied(tmp_path: Path) -> None:
    store = FunctionStore(tmp_path, sync=False, initial=256 * 1024, largest=2 * 1024**2)
    count = 0
    with pytest.raises(StoreFull):
        while True:
            store.write(put(b"%08d" % count, bytes(8000)))
            count += 1
    assert count > 100
    with pytest.raises(StoreFull):  # fills the last pages: now even removing needs space
        while True:
            store.write(put(b"1%08d" % count, bytes(400)))
            count += 1
    with pytest.raises(StoreFull):
        store.write(lambda txn: txn.drop(Table.META, b"0", 50))
    while store.write(lambda txn: txn.drop(Table.META, b"0", 50), frees=True):
        pass
    store.write(put(b"again", bytes(8000)))
    store.close()


def test_writes_of_several_threads_share_a_commit_and_one_that_is_refused_fails_alone(store: FunctionStore) -> None:
    """The first holds the lock until nine others have queued; what they do is then one transaction."""
    queued, outcomes, commits = threading.Semaphore(0), {}, set()

    def first(txn: Txn) -> None:
        for _ in range(9):
            queued.acquire()
        while len(store._queue) < 9:
            pass
        txn.put(Table.META, b"first", b"")

    def attempt(number: int) -> None:
        def run(txn: Txn) -> int:
            commits.add(txn._txn.id())
            if number == 5:
                raise StoreError("not this one")
            txn.put(Table.META, b"n%d" % number, b"")
            return number

        queued.release()
        try:
            outcomes[number] = store.write(run)
        except StoreError as error:
            outcomes[number] = str(error)

    threads = [threading.Thread(target=store.write, args=(first,))]
    threads[0].start()
    threads += [threading.Thread(target=attempt, args=(number,)) for number in range(9)]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {number: "not this one" if number == 5 else number for number in range(9)}
    assert len(commits) == 1
    assert store.read(lambda txn: len(list(txn.items(Table.META, b"n")))) == 8


def test_a_mistake_in_one_write_does_not_leave_another_thread_waiting(store: FunctionStore) -> None:
    """Whoever holds the lock runs the writes of others too."""
    holds, outcomes = threading.Event(), []

    def first(txn: Txn) -> None:
        holds.set()
        while len(store._queue) < 2:
            pass

    def attempt(run) -> None:
        try:
            outcomes.append(store.write(run))
        except (StoreError, ZeroDivisionError) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=store.write, args=(first,))]
    threads[0].start()
    holds.wait()
    threads += [threading.Thread(target=attempt, args=(run,)) for run in (lambda _: 1 / 0, lambda _: "well")]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    assert set(outcomes) <= {ZeroDivisionError, StoreError, "well"}
    assert store.write(lambda _: "after") == "after"


def test_names_of_any_content_make_keys_that_differ() -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("a\0b", "c"), ("a", "1:bc"), ("x" * 999, "y")]
    assert len({owner_key(*pair) for pair in pairs}) == len(pairs)
    assert owner_key("a", "b") == name_key("a", "b") != name_key("a") != name_key("a", "b", "")


def test_records_that_cannot_be_encoded_or_decoded_are_store_errors() -> None:
    with pytest.raises(StoreError, match="cannot be encoded"):
        encode(Thing("a", 2**70))
    with pytest.raises(StoreError, match="cannot be encoded"):
        encode(Thing("\ud800", 1))
    with pytest.raises(StoreCorrupt, match="cannot be decoded"):
        decode(b"\x93", Thing)
