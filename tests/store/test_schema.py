import asyncio
import struct
from hashlib import blake2b
from pathlib import Path

import lmdb
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store import schema, transfer
from edgecache.store.epochs import Kind, Selector
from edgecache.types import Endpoint, Entry

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
entries = st.builds(
    Entry,
    tenant=texts,
    namespace=texts,
    model=texts,
    scope=st.binary(min_size=16, max_size=16),
    digest=st.binary(min_size=32, max_size=32),
    text=st.none() | texts,
    endpoint=st.sampled_from(Endpoint),
    body=st.binary(max_size=2000),
    created=st.floats(0, 2e9),
    expires=st.floats(0, 2e9),
    finish_reason=texts,
    max_tokens=st.none() | st.integers(0, 2**40),
    prompt_tokens=st.none() | st.integers(0, 2**40),
    completion_tokens=st.none() | st.integers(0, 2**40),
    tags=st.lists(texts, max_size=4).map(tuple),
    upstream=texts,
    id=st.integers(1, 2**62),
    soft_purged=st.booleans(),
    writer=texts,
    held=texts,
)


class HeadBefore(msgspec.Struct, frozen=True, array_like=True):
    """The fields of a record as schema 1 had them."""

    tenant: str
    namespace: str
    model: str
    scope: bytes
    digest: bytes
    text: str | None
    endpoint: str
    created: float
    expires: float
    finish_reason: str
    max_tokens: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    tags: tuple[str, ...]
    upstream: str
    since: int
    soft: bool


def record_before(entry_id: int, entry: Entry) -> bytes:
    """One record as a program with schema 1 wrote it."""
    now = schema.head_of(entry, entry_id)
    head = msgspec.msgpack.encode(HeadBefore(**{name: getattr(now, name) for name in HeadBefore.__struct_fields__}))
    checksum = blake2b(struct.pack(">QQ", entry_id, len(head)) + head + entry.body, digest_size=8).digest()
    return struct.pack("<B8sI", 1, checksum, len(head)) + head + entry.body


def store_before(folder: Path, entries: list[Entry]) -> None:
    """A store as a program with schema 1 left it: every entry with a vector, and one purge by tag."""
    folder.mkdir()
    env = lmdb.open(str(folder), max_dbs=8)
    tables = {name: env.open_db(name) for name in (b"meta", b"entries", b"vectors", b"digests", b"purges")}
    with env.begin(write=True) as txn:
        for entry_id, entry in enumerate(entries, 1):
            key = schema.key_of(entry_id)
            txn.put(key, record_before(entry_id, entry), db=tables[b"entries"])
            txn.put(entry.digest, key, db=tables[b"digests"])
            vector = schema.encode_vector(entry_id, entry.scope, np.ones(8, np.float16))
            txn.put(key, vector, db=tables[b"vectors"])
        purge = msgspec.msgpack.encode(("tag", "old", None, len(entries) + 1, 0, 1.0))
        name = schema.name_key(msgspec.msgpack.encode(("tag", "old", None)))
        txn.put(name, purge, db=tables[b"purges"])
        for name, value in {b"schema": b"1", b"last": schema.key_of(len(entries) + 1), b"embedder": b"e/8"}.items():
            txn.put(name, value, db=tables[b"meta"])
    env.close()


@given(entries)
def test_a_record_of_schema_1_is_read_as_one_of_an_unknown_writer(entry: Entry) -> None:
    head, body = schema.decode(entry.id, record_before(entry.id, entry))
    assert schema.entry_of(entry.id, head, bytes(body), soft=False) == msgspec.structs.replace(
        entry, writer="", held=""
    )


async def test_a_store_of_schema_1_is_taken_over_as_it_is(tmp_path, open_store, make_entry) -> None:
    questions = [make_entry(str(number), tags=("old",) if number == 2 else ()) for number in range(4)]
    store_before(tmp_path / "before", questions)
    store = open_store(tmp_path / "before")
    assert not await store.use_embedder("e", 8)
    for number in (0, 1, 3):
        found = store.find(questions[number].digest)
        assert (found.body, found.writer, found.held) == (questions[number].body, "", "")
    assert store.find(questions[2].digest) is None
    assert len(store.vectors_of([1, 2, 3, 4])) == 4
    assert await store.purge(Selector(Kind.ENTRY, "1"), soft=True) > 0
    assert store.get(1).soft_purged
    assert await store.put(make_entry("new", writer="k1"), None) == 7
    assert await store.delete([2]) == 1
    store.close()
    again = open_store(tmp_path / "before")
    assert again.find(make_entry("new").digest).writer == "k1"
    assert again.find(questions[3].digest) is not None


def test_an_export_of_schema_1_can_be_imported(tmp_path, open_store, make_entry) -> None:
    store = open_store(tmp_path / "to")
    items = [
        {"format": "edgecache-export", "schema": 1, "embedder": "e/8"},
        [1, record_before(1, make_entry()), schema.encode_vector(1, make_entry().scope, np.ones(8, np.float16))],
        {"count": 1},
    ]

    async def parts():
        for item in items:
            yield msgspec.msgpack.encode(item)

    async def run() -> None:
        await store.use_embedder("e", 8)
        done = await transfer.import_(store, parts())
        assert (done.stored, done.vectors) == (1, 1)

    asyncio.run(run())
    assert store.find(make_entry().digest).writer == ""


@given(entries)
def test_an_entry_survives_the_trip_to_bytes_and_back(entry: Entry) -> None:
    record = schema.encode(entry.id, schema.head_of(entry, entry.id), entry.body)
    head, body = schema.decode(entry.id, record)
    assert schema.entry_of(entry.id, head, bytes(body), soft=False) == entry


@given(entries, st.data())
def test_any_flipped_bit_is_noticed(entry: Entry, data: st.DataObject) -> None:
    record = bytearray(schema.encode(entry.id, schema.head_of(entry, entry.id), entry.body))
    at = data.draw(st.integers(0, len(record) - 1))
    record[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(StoreCorrupt):
        schema.decode(entry.id, bytes(record))


@given(entries, st.data())
def test_a_record_cut_short_or_under_another_id_is_noticed(entry: Entry, data: st.DataObject) -> None:
    record = schema.encode(entry.id, schema.head_of(entry, entry.id), entry.body)
    with pytest.raises(StoreCorrupt):
        schema.decode(entry.id, record[: data.draw(st.integers(0, len(record) - 1))])
    with pytest.raises(StoreCorrupt):
        schema.decode(entry.id + 1, record)


@given(st.binary(max_size=200))
def test_garbage_is_neither_decoded_nor_salvaged_with_another_exception(garbage: bytes) -> None:
    schema.salvage(garbage)
    with pytest.raises(StoreCorrupt):
        schema.decode(1, garbage)


def test_a_record_of_another_schema_version_names_both_versions(make_entry) -> None:
    entry = make_entry()
    record = b"\x07" + schema.encode(1, schema.head_of(entry, 1), entry.body)[1:]
    with pytest.raises(StoreCorrupt, match="schema 7, this program reads 1 and 2"):
        schema.decode(1, record)


def test_what_a_record_with_a_damaged_body_points_at_can_still_be_salvaged(make_entry) -> None:
    entry = make_entry()
    record = bytearray(schema.encode(1, schema.head_of(entry, 1), entry.body))
    record[-1] ^= 1
    head = schema.salvage(record)
    assert head is not None
    assert head.digest == entry.digest


def test_fields_that_cannot_be_carried_are_a_store_error(make_entry) -> None:
    for entry in (make_entry(text="\ud800"), make_entry(max_tokens=2**70)):
        with pytest.raises(StoreError, match="cannot be encoded"):
            schema.encode(1, schema.head_of(entry, 1), b"")
    for entry in (make_entry(scope=b"short"), make_entry(digest=b"short")):
        with pytest.raises(StoreError, match="16 bytes"):
            schema.head_of(entry, 1)


def test_keys_sort_by_id() -> None:
    ids = [1, 255, 256, 65_536, 2**40]
    assert sorted(map(schema.key_of, ids)) == [schema.key_of(entry_id) for entry_id in ids]
    assert [schema.id_of(schema.key_of(entry_id)) for entry_id in ids] == ids


@given(st.integers(0, 8 * (16 + 4 + 2 * 8) - 1))
def test_a_vector_survives_and_any_flipped_bit_in_it_is_noticed(bit: int) -> None:
    row = schema.half(np.linspace(-1, 1, 8, dtype=np.float32))
    record = bytearray(schema.encode_vector(3, b"s" * 16, row))
    scope, back = schema.decode_vector(3, record, 8)
    assert scope == b"s" * 16
    assert np.array_equal(back, row)
    record[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StoreCorrupt):
        schema.decode_vector(3, bytes(record), 8)


def test_a_vector_of_another_dimension_or_id_is_refused() -> None:
    record = schema.encode_vector(3, b"s" * 16, np.ones(8, np.float16))
    with pytest.raises(StoreCorrupt, match="wrong length"):
        schema.decode_vector(3, record, 16)
    with pytest.raises(StoreCorrupt, match="checksum"):
        schema.decode_vector(4, record, 8)
