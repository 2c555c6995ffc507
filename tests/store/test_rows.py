import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import StoreError
from edgecache.store import rows
from edgecache.store.rows import Mark, SegmentRow, Serve, Word

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
DIGEST = st.binary(min_size=32, max_size=32)
WORDS = st.builds(Word, TEXT, DIGEST, DIGEST, st.booleans(), st.sampled_from(rows.ORIGINS), st.floats(0, 2e9), TEXT)
MARKS = st.builds(Mark, TEXT, DIGEST, st.sampled_from(["pin", "ban"]), st.integers(1, 2**40), st.floats(0, 2e9))
SERVES = st.builds(Serve, TEXT, TEXT, TEXT, TEXT, DIGEST, DIGEST, st.floats(0, 1), st.floats(0, 1), st.floats(0, 2e9))
SEGMENTS = st.builds(SegmentRow, st.tuples(TEXT, TEXT, TEXT), st.binary(max_size=50))


@given(st.binary(min_size=1, max_size=40), st.one_of(WORDS, MARKS, SERVES, SEGMENTS))
def test_what_is_packed_comes_back(key: bytes, value: object) -> None:
    assert rows.unpack(key, rows.pack(key, value), type(value)) == value


@given(WORDS, st.data())
def test_any_flipped_bit_and_another_key_are_noticed(word: Word, data: st.DataObject) -> None:
    row = bytearray(rows.pack(b"key", word))
    assert rows.unpack(b"other", bytes(row), Word) is None
    at = data.draw(st.integers(0, 8 * len(row) - 1))
    row[at // 8] ^= 1 << at % 8
    assert rows.unpack(b"key", bytes(row), Word) is None


@pytest.mark.parametrize("row", [b"", b"abc", rows.pack(b"key", b"\xc1"), rows.pack(b"key", b"\x91\x01")])
def test_what_is_no_row_is_none(row: bytes) -> None:
    assert rows.unpack(b"key", row, Word) is None


@given(TEXT, TEXT, DIGEST, DIGEST)
def test_the_rows_of_a_tenant_stand_together(tenant: str, other: str, entry: bytes, question: bytes) -> None:
    owner = rows.tenant_key(tenant)
    keys = [rows.pair_key(owner, entry, question), rows.digest_key(owner, entry), rows.segment_key((tenant, "", "m"))]
    assert all(key.startswith(owner) for key in keys)
    assert keys[0].startswith(rows.entry_key(owner, entry))
    assert rows.digest_of(keys[1]) == entry
    assert tenant == other or rows.tenant_key(other) != owner


def test_lone_surrogates_are_a_store_error_in_a_row_and_nothing_in_a_key() -> None:
    assert rows.segment_key(("\ud800", "", "m")) != rows.segment_key(("", "", "m"))
    with pytest.raises(StoreError):
        rows.pack(b"key", Word("\ud800", b"", b"", True, "feedback", 0.0))


def test_authority_rises_from_comparisons_to_people_to_operators() -> None:
    ranks = [Word("t", b"", b"", True, origin, 0.0).rank for origin in ("shadow", "feedback", "operator")]
    assert ranks == sorted(set(ranks))
