"""Each change against an open transaction; how they work together is shown by test_entries."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgecache import config
from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store import changes, schema
from edgecache.store.changes import Purges
from edgecache.store.database import Database
from edgecache.store.epochs import Kind, Selector
from edgecache.store.schema import key_of
from edgecache.store.writer import Batch

ROW = np.ones(8, np.float16)


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    db = Database(tmp_path, config.Store(sync=False))
    with db.env.begin(write=True) as txn:
        yield Batch(db, txn, 0)
    db.close()


def test_an_insert_writes_record_digest_and_vector_under_one_new_id(batch, make_entry) -> None:
    entry = make_entry()
    entry_id = changes.insert(batch, entry, ROW, None, Purges())
    assert entry_id == batch.last_id == 1
    assert batch.txn.get(entry.digest, db=batch.db.digests) == key_of(1)
    head, _ = schema.decode(1, batch.txn.get(key_of(1), db=batch.db.entries))
    assert head.since == 1
    assert schema.decode_vector(1, batch.txn.get(key_of(1), db=batch.db.vectors), 8)[0] == entry.scope


def test_an_insert_of_a_known_digest_takes_the_old_entry_and_its_vector_away(batch, make_entry) -> None:
    changes.insert(batch, make_entry(), ROW, None, Purges())
    changes.insert(batch, make_entry(), None, None, Purges())
    assert batch.txn.get(key_of(1), db=batch.db.entries) is None
    assert batch.txn.get(key_of(1), db=batch.db.vectors) is None
    assert batch.removed == [(1, make_entry().scope)]


def test_an_insert_that_is_refused_has_written_nothing(batch, make_entry) -> None:
    purges = Purges()
    token = batch.last_id
    changes.mark(batch, Selector(Kind.ALL), soft=False, at=1.0, purges=purges)
    for entry in (make_entry(), make_entry(text="\ud800")):
        with pytest.raises(StoreError):
            changes.insert(batch, entry, ROW, token if entry.text != "\ud800" else None, purges)
    assert batch.txn.stat(batch.db.entries)["entries"] == batch.txn.stat(batch.db.digests)["entries"] == 0
    assert batch.last_id == 1


def test_a_damaged_record_goes_with_its_digest_when_that_is_known(batch, make_entry) -> None:
    entry = make_entry()
    changes.insert(batch, entry, None, None, Purges())
    batch.txn.put(key_of(1), b"garbage", db=batch.db.entries)
    assert changes.delete(batch, [1, 2], {1: entry.digest}) == 1
    assert batch.txn.get(entry.digest, db=batch.db.digests) is None


def test_a_damaged_record_leaves_the_digest_of_its_successor(batch, make_entry) -> None:
    entry = make_entry()
    changes.insert(batch, entry, None, None, Purges())
    batch.txn.put(key_of(1), b"garbage", db=batch.db.entries)
    changes.insert(batch, entry, None, None, Purges())
    changes.delete(batch, [1], {1: entry.digest})
    assert batch.txn.get(entry.digest, db=batch.db.digests) == key_of(2)


def test_deleting_an_entry_leaves_the_digest_of_its_successor(batch, make_entry) -> None:
    changes.insert(batch, make_entry(), None, None, Purges())
    batch.txn.put(make_entry().digest, key_of(7), db=batch.db.digests)
    changes.delete(batch, [1], {})
    assert batch.txn.get(make_entry().digest, db=batch.db.digests) == key_of(7)


def test_marks_and_the_counter_are_restored(batch) -> None:
    purges = Purges()
    long = "x" * 5000
    selectors = [Selector(Kind.ALL), Selector(Kind.TAG, long, "acme"), Selector(Kind.TAG, long)]
    for selector in selectors:
        changes.mark(batch, selector, soft=False, at=5.0, purges=purges)
    changes.mark(batch, selectors[1], soft=True, at=6.0, purges=purges)
    batch.finish()
    restored, last = changes.restore(batch.db, batch.txn)
    assert last == 4
    assert [restored.epochs.get(selector) for selector in selectors] == [batch.epochs.get(s) for s in selectors]
    mark = restored.epochs.get(selectors[1])
    assert mark is not None
    assert (mark.hard, mark.soft, mark.at) == (2, 4, 6.0)


@pytest.mark.parametrize("value", [b"\xc1", b"\x93\x01\x02\x03", msgspec.msgpack.encode(["odd", "", None, 1, 1, 1])])
def test_a_purge_that_cannot_be_read_is_not_passed_over(batch, value) -> None:
    batch.txn.put(b"k", value, db=batch.db.purges)
    with pytest.raises(StoreCorrupt, match="a purge cannot be read"):
        changes.restore(batch.db, batch.txn)


def test_one_entry_is_purged_only_for_its_own_tenant(batch, make_entry) -> None:
    changes.insert(batch, make_entry(), None, None, Purges())
    for selector in (Selector(Kind.ENTRY, "1", "other"), Selector(Kind.ENTRY, "2"), Selector(Kind.ENTRY, "x")):
        assert changes.purge_entry(batch, selector, soft=False) == 0
    assert changes.purge_entry(batch, Selector(Kind.ENTRY, "1", "acme"), soft=True) == 2
    head, body = schema.decode(1, batch.txn.get(key_of(1), db=batch.db.entries))
    assert head.soft
    assert bytes(body) == make_entry().body
    assert changes.purge_entry(batch, Selector(Kind.ENTRY, "1"), soft=False) == 3
    assert batch.txn.get(key_of(1), db=batch.db.entries) is None


def test_vectors_of_another_embedder_are_dropped_and_entries_stay(batch, make_entry) -> None:
    assert not changes.use_embedder(batch, "one/8")
    changes.insert(batch, make_entry(), ROW, None, Purges())
    assert not changes.use_embedder(batch, "one/8")
    assert batch.txn.stat(batch.db.vectors)["entries"] == 1
    assert changes.use_embedder(batch, "two/8")
    assert batch.txn.stat(batch.db.vectors)["entries"] == 0
    assert batch.txn.stat(batch.db.entries)["entries"] == 1
    assert changes.embedder(batch.db, batch.txn) == "two/8"


def test_a_forgotten_purge_leaves_a_floor_below_which_answers_are_refused(batch, make_entry) -> None:
    purges = Purges()
    changes.mark(batch, Selector(Kind.TAG, "t"), soft=False, at=5.0, purges=purges)
    purges.committed(batch)
    batch.epochs = type(batch.epochs)()
    assert changes.forget(batch, 2, 5.0, purges) == 0
    assert changes.forget(batch, 2, 6.0, purges) == 1
    purges.committed(batch)
    assert len(purges.epochs) == 0
    with pytest.raises(StoreError, match="purged"):
        changes.insert(batch, make_entry(tags=("t",)), None, 0, purges)
    assert changes.insert(batch, make_entry(tags=("t",)), None, 1, purges) == 2
    restored, _ = changes.restore(batch.db, batch.txn)
    assert restored.floor == 1


def test_a_purge_repeated_in_the_same_batch_is_not_forgotten(batch) -> None:
    purges = Purges()
    changes.mark(batch, Selector(Kind.TAG, "t"), soft=False, at=5.0, purges=purges)
    purges.committed(batch)
    batch.epochs = type(batch.epochs)()
    changes.mark(batch, Selector(Kind.TAG, "t"), soft=False, at=9.0, purges=purges)
    assert changes.forget(batch, 2, 6.0, purges) == 0


def test_a_writer_at_its_limit_stores_nothing_more_with_a_vector_but_may_renew_what_it_has(batch, make_entry) -> None:
    for number in range(2):
        changes.insert(batch, make_entry(str(number), writer="k1"), ROW, None, Purges(), 2)
    with pytest.raises(StoreError) as refused:
        changes.insert(batch, make_entry("2", writer="k1"), ROW, None, Purges(), 2)
    assert refused.value.code == changes.WRITER_ENTRIES
    assert batch.last_id == 2
    changes.insert(batch, make_entry("1", writer="k1"), ROW, None, Purges(), 2)
    changes.insert(batch, make_entry("2", writer="k1"), None, None, Purges(), 2)
    changes.insert(batch, make_entry("3", writer="k2"), ROW, None, Purges(), 2)
    changes.insert(batch, make_entry("4", writer=""), ROW, None, Purges(), 1)
    batch.remove(1)
    changes.insert(batch, make_entry("5", writer="k1"), ROW, None, Purges(), 2)


def test_taking_over_the_entry_of_another_writer_counts_like_a_new_one(batch, make_entry) -> None:
    changes.insert(batch, make_entry("mine", writer="k1"), ROW, None, Purges(), 1)
    changes.insert(batch, make_entry("yours", writer="k2"), ROW, None, Purges(), 1)
    with pytest.raises(StoreError):
        changes.insert(batch, make_entry("yours", writer="k1"), ROW, None, Purges(), 1)
    assert batch.txn.get(key_of(2), db=batch.db.entries) is not None


def held(batch: Batch) -> str:
    return schema.decode(1, batch.txn.get(key_of(1), db=batch.db.entries))[0].held


def test_a_held_entry_is_let_in_once_with_its_vector(batch, make_entry) -> None:
    changes.insert(batch, make_entry(writer="k1", held="second-sighting"), None, None, Purges())
    assert changes.release(batch, 1, ROW, 1, Purges())
    assert held(batch) == ""
    assert schema.decode_vector(1, batch.txn.get(key_of(1), db=batch.db.vectors), 8)[0] == make_entry().scope
    assert not changes.release(batch, 1, ROW, 1, Purges())


def test_a_held_entry_of_a_writer_at_its_limit_is_held_for_that_from_then_on(batch, make_entry) -> None:
    changes.insert(batch, make_entry(writer="k1", held="second-sighting"), None, None, Purges())
    changes.insert(batch, make_entry("other", writer="k1"), ROW, None, Purges())
    assert not changes.release(batch, 1, ROW, 1, Purges())
    assert held(batch) == changes.WRITER_ENTRIES
    assert batch.txn.get(key_of(1), db=batch.db.vectors) is None
    assert changes.release(batch, 1, ROW, 0, Purges())  # an operator's pin knows no limit


def test_what_is_gone_damaged_or_purged_is_not_let_in(batch, make_entry) -> None:
    purges = Purges()
    assert not changes.release(batch, 9, ROW, 0, purges)
    for number in range(2):
        changes.insert(batch, make_entry(str(number), writer="k1", held="second-sighting"), None, None, purges)
    record = bytearray(batch.txn.get(key_of(1), db=batch.db.entries))
    record[-1] ^= 1
    batch.txn.put(key_of(1), bytes(record), db=batch.db.entries)
    assert not changes.release(batch, 1, ROW, 0, purges)
    changes.mark(batch, Selector(Kind.WRITER, "k1"), soft=False, at=1.0, purges=purges)
    assert not changes.release(batch, 2, ROW, 0, purges)
