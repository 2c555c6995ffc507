import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store import schema
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
)


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
    with pytest.raises(StoreCorrupt, match="schema 7, this program reads 1"):
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
