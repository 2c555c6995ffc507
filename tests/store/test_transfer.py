import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache import config
from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store.entries import EntryStore
from edgecache.store.epochs import Kind, Selector
from edgecache.store.transfer import export, import_

VECTOR = np.eye(1, 8, dtype=np.float32)[0]


async def chunks(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def recut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.fixture
async def exported(open_store, make_entry, tmp_path) -> bytes:
    store = open_store(tmp_path / "from")
    await store.use_embedder("e", 8)
    await store.put(make_entry("purged", tags=("t",)), VECTOR)
    await store.purge(Selector(Kind.TAG, "t"))
    for number in range(100):
        await store.put(make_entry(str(number), tags=("a", str(number))), VECTOR if number % 2 else None)
    await store.purge(Selector(Kind.ENTRY, "3"), soft=True)
    data = b"".join(export(store))
    store.close()
    return data


@pytest.mark.parametrize("size", [1, 1000, 10**9])
async def test_an_export_comes_back_whole_however_it_is_cut(exported, open_store, make_entry, tmp_path, size) -> None:
    store = open_store(tmp_path / "to")
    await store.use_embedder("e", 8)
    done = await import_(store, chunks(recut(exported, size)))
    assert (done.stored, done.kept, done.vectors) == (100, 0, 50)
    for number in range(100):
        found = store.find(make_entry(str(number)).digest)
        assert found.body == make_entry(str(number)).body
        assert found.tags == ("a", str(number))
        assert found.soft_purged is (number == 0)
    assert store.find(make_entry("purged").digest) is None
    assert len(store.vector_ids()) == 50


async def test_an_import_keeps_newer_entries_and_replaces_older_ones(
    exported, open_store, make_entry, tmp_path
) -> None:
    store = open_store(tmp_path / "to")
    await store.put(make_entry("0", body=b"newer", created=make_entry().created + 1), None)
    await store.put(make_entry("1", body=b"older", created=make_entry().created - 1), None)
    done = await import_(store, chunks([exported]))
    assert (done.stored, done.kept) == (99, 1)
    assert store.find(make_entry("0").digest).body == b"newer"
    assert store.find(make_entry("1").digest).body == make_entry("1").body


async def test_vectors_of_another_embedder_are_left_out(exported, open_store, tmp_path) -> None:
    store = open_store(tmp_path / "to")
    await store.use_embedder("another", 8)
    done = await import_(store, chunks([exported]))
    assert (done.stored, done.vectors) == (100, 0)
    assert store.stats().vectors == 0


async def test_another_schema_or_format_is_refused_before_anything_is_stored(exported, open_store, tmp_path) -> None:
    store = open_store(tmp_path / "to")
    for first, reason in [
        ({"format": "edgecache-export", "schema": 3}, "schema 3; this program reads 1 and 2"),
        ({"format": "other"}, "no export of edgecache"),
        ([1, b"", None], "no export of edgecache"),
    ]:
        with pytest.raises(StoreError, match=reason):
            await import_(store, chunks([msgpack.packb(first)]))
    assert store.stats().entries == 0


@pytest.mark.parametrize("item", [["1", b"", None], [-1, b"", None], [1, b"", 7], [1, None, None]])
async def test_an_item_that_is_no_record_is_refused(open_store, tmp_path, item) -> None:
    header = {"format": "edgecache-export", "schema": 2, "embedder": "e/8"}
    with pytest.raises(StoreCorrupt, match="no record"):
        await import_(open_store(tmp_path / "to"), chunks([msgpack.packb(header) + msgpack.packb(item)]))


async def test_an_export_carries_who_wrote_an_entry_and_what_it_is_held_for(open_store, make_entry, tmp_path) -> None:
    store = open_store(tmp_path / "from")
    await store.use_embedder("e", 8)
    await store.put(make_entry("a", writer="k1.u1"), VECTOR)
    await store.put(make_entry("b", writer="k1", held="second-sighting"), None)
    data = b"".join(export(store))
    other = open_store(tmp_path / "to")
    await other.use_embedder("e", 8)
    await import_(other, chunks([data]))
    assert other.find(make_entry("a").digest).writer == "k1.u1"
    assert other.find(make_entry("b").digest).held == "second-sighting"


@pytest.mark.parametrize("keep", [0, 10, 5000, -1])
async def test_an_export_cut_short_says_so(exported, open_store, tmp_path, keep) -> None:
    with pytest.raises(StoreCorrupt, match="cut short"):
        await import_(open_store(tmp_path / "to"), chunks([exported[:keep]]))


async def test_an_export_that_goes_on_after_its_end_is_refused(exported, open_store, tmp_path) -> None:
    with pytest.raises(StoreCorrupt, match="after its end"):
        await import_(open_store(tmp_path / "to"), chunks([exported, b"\x01"]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_never_stores_a_wrong_answer(
    data, exported, make_entry, tmp_path_factory, clock, metrics
) -> None:
    changed = bytearray(exported)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path_factory.mktemp("to")
    store = EntryStore(folder, config.Store(sync=False), clock=clock, metrics=metrics)

    async def run() -> None:
        await store.use_embedder("e", 8)
        await import_(store, chunks([bytes(changed)]))

    with contextlib.suppress(StoreError):
        asyncio.run(run())
    for number in range(100):
        found = store.find(make_entry(str(number)).digest)
        assert found is None or found.body == make_entry(str(number)).body
    store.close()
