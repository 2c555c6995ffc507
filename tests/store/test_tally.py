"""The counts by themselves, and against what is really stored, whatever is done to the store."""

import asyncio
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache import config
from edgecache.errors import StoreError
from edgecache.store import changes, schema, tally
from edgecache.store.database import Database
from edgecache.store.entries import EntryStore

VECTOR = np.eye(1, 8, dtype=np.float32)[0]


def counted(db: Database, make_entry, writer: str, tenant: str = "acme") -> int:
    with db.env.begin() as txn:
        return tally.count(txn, db.writers, schema.head_of(make_entry(tenant=tenant, writer=writer), 1))


def test_counts_are_kept_by_tenant_and_writer_and_never_fall_below_nothing(tmp_path, make_entry) -> None:
    db = Database(tmp_path, config.Store(sync=False))
    with db.env.begin(write=True) as txn:
        for tenant, writer, change in (
            ("a", "k1", 1),
            ("a", "k1", 1),
            ("b", "k1", 1),
            ("b", "k1", -1),
            ("b", "k1", -1),
        ):
            tally.add(txn, db.writers, schema.head_of(make_entry(tenant=tenant, writer=writer), 1), change)
        tally.add(txn, db.writers, schema.head_of(make_entry(), 1), 1)
        assert txn.stat(db.writers)["entries"] == 1
    assert counted(db, make_entry, "k1", "a") == 2
    assert counted(db, make_entry, "k1", "b") == counted(db, make_entry, "") == 0
    db.close()


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "held", "delete", "release"]),
        st.integers(0, 5),
        st.sampled_from(["k1", "k2", "k2.u1", ""]),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_the_counts_are_what_is_stored_whatever_happens(steps, make_entry, tmp_path_factory, clock, metrics) -> None:
    store = EntryStore(tmp_path_factory.mktemp("s"), config.Store(sync=False), clock=clock, metrics=metrics)

    async def run() -> None:
        await store.use_embedder("e", 8)
        for what, number, writer in steps:
            known = store.find(make_entry(str(number)).digest)
            if what == "delete":
                await store.delete([known.id] if known else [])
            elif what == "release":
                await store.release(known.id if known else 0, VECTOR, limit=0)
            else:
                entry = make_entry(str(number), writer=writer, held="" if what == "put" else "second-sighting")
                await store.put(entry, VECTOR if what == "put" else None)

    asyncio.run(run())
    with_vector = set(store.vector_ids().tolist())
    real = Counter(found.writer for entry_id in with_vector if (found := store.get(entry_id)) is not None)
    for writer in ("k1", "k2", "k2.u1"):
        assert counted(store._db, make_entry, writer) == real[writer]
    store.close()


async def test_another_embedder_takes_the_counts_away_with_the_vectors(open_store, make_entry) -> None:
    store = open_store()
    await store.use_embedder("e", 8)
    await store.put(make_entry(writer="k1"), VECTOR)
    assert counted(store._db, make_entry, "k1") == 1
    await store.use_embedder("another", 8)
    assert counted(store._db, make_entry, "k1") == 0


async def test_no_crowd_of_fills_gets_a_writer_over_its_limit(open_store, make_entry) -> None:
    store = open_store()
    await store.use_embedder("e", 8)
    puts = (store.put(make_entry(str(number), writer="k1"), VECTOR, limit=7) for number in range(200))
    done = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(each, StoreError) and each.code == changes.WRITER_ENTRIES for each in done) == 193
    assert len(store.vector_ids()) == counted(store._db, make_entry, "k1") == 7
