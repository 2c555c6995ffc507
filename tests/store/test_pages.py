import numpy as np
import pytest

from edgecache.errors import StoreError
from edgecache.store.epochs import Kind, Selector
from edgecache.store.schema import key_of

VECTOR = np.eye(1, 8, dtype=np.float32)[0]


@pytest.fixture
async def store(open_store, make_entry):
    opened = open_store()
    await opened.use_embedder("e", 8)
    for number in range(10):
        await opened.put(make_entry(str(number), tags=(f"t{number}",)), VECTOR if number % 2 else None)
    return opened


def damage(store, table, entry_id: int) -> None:
    with store._db.env.begin(write=True) as txn:
        record = bytearray(txn.get(key_of(entry_id), db=table))
        record[-1] ^= 1
        txn.put(key_of(entry_id), bytes(record), db=table)


async def test_a_scan_goes_on_where_the_last_one_ended(store) -> None:
    assert [record.id for record in store.scan(0, 4)] == [1, 2, 3, 4]
    assert [record.id for record in store.scan(4, 100)] == [5, 6, 7, 8, 9, 10]
    assert store.scan(10, 4) == []


async def test_a_scan_says_what_was_purged_and_what_is_damaged(store) -> None:
    await store.purge(Selector(Kind.TAG, "t0"))
    await store.purge(Selector(Kind.TAG, "t1"), soft=True)
    damage(store, store._db.entries, 3)
    first, second, third, fourth = store.scan(0, 4)
    assert first.purged
    assert not second.purged
    assert third.head is None
    assert not third.purged
    assert fourth.head.text == "3"
    assert fourth.size > 100
    assert store.suspects() == [3]


async def test_records_for_export_leave_out_what_may_not_be_served(store, make_entry, clock) -> None:
    await store.put(make_entry("expired", expires=clock.now()), VECTOR)
    await store.purge(Selector(Kind.TAG, "t0"))
    damage(store, store._db.entries, 3)
    found = {entry_id: vector is not None for entry_id, _, vector in store.records()}
    assert found == {entry_id: entry_id % 2 == 0 for entry_id in (2, 4, 5, 6, 7, 8, 9, 10)}


async def test_vectors_come_in_pages_without_damaged_ones(store) -> None:
    damage(store, store._db.vectors, 4)
    assert store.vector_ids().tolist() == [2, 4, 6, 8, 10]
    assert [entry_id for page in store.vectors() for entry_id, _, _ in page] == [2, 6, 8, 10]
    assert [entry_id for entry_id, _, _ in store.vectors_of([1, 2, 4, 99])] == [2]
    assert store.suspects() == [4]


async def test_more_than_a_page_is_read_completely(open_store, make_entry) -> None:
    store = open_store()
    await store.use_embedder("e", 8)
    for number in range(1100):
        await store.put(make_entry(str(number), body=b""), VECTOR)
    assert store.vector_ids().tolist() == list(range(1, 1101))
    pages = list(store.vectors())
    assert [entry_id for page in pages for entry_id, _, _ in page] == list(range(1, 1101))
    assert len(pages) == 2
    assert len(list(store.records())) == 1100


async def test_reading_a_closed_store_is_a_store_error(store) -> None:
    store.close()
    with pytest.raises(StoreError):
        store.scan(0, 1)
