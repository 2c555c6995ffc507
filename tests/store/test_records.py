import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import StoreError
from edgecache.store.records import LONGEST, Record, key_of, pack, unpack
from edgecache.types import Attempt

ATTEMPT = Attempt("core", "core", "eu", "m", 10, 20, 3, False, 0.25, "2026-01", 0.1, 0.2, "ok", True)
RECORD = Record(1.7e9, "r1", "acme", "k1", model="m", cache="MISS", status=200, cost=0.25, attempts=[ATTEMPT])

TEXTS = st.text(max_size=40)
COUNTS = st.integers(0, 2**40)
AMOUNTS = st.floats(0, 1e9)
ATTEMPTS = st.builds(
    Attempt,
    upstream=TEXTS, tier=TEXTS, region=TEXTS, model=TEXTS, prompt_tokens=COUNTS, completion_tokens=COUNTS,
    cached_tokens=COUNTS, estimated=st.booleans(), cost=AMOUNTS, price=TEXTS, ttft=AMOUNTS, seconds=AMOUNTS,
    outcome=TEXTS, hedge=st.booleans(),
)  # fmt: skip
KINDS = {str: TEXTS, int: COUNTS, float: AMOUNTS, bool: st.booleans()}
RECORDS = st.builds(
    Record,
    **{field.name: KINDS[field.type] for field in msgspec.structs.fields(Record) if field.name != "attempts"},
    attempts=st.lists(ATTEMPTS, max_size=3),
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    key = key_of(record.at, 7)
    assert unpack(key, pack(key, record)) == record


@given(st.integers(0), st.integers(0, 7))
def test_a_changed_bit_is_noticed(place: int, bit: int) -> None:
    key = key_of(RECORD.at, 1)
    row = bytearray(pack(key, RECORD))
    row[place % len(row)] ^= 1 << bit
    assert unpack(key, bytes(row)) is None


@given(st.integers(0, 300))
def test_a_torn_row_and_one_under_another_key_are_noticed(length: int) -> None:
    key = key_of(RECORD.at, 1)
    row = pack(key, RECORD)
    assert unpack(key, row[: min(length, len(row) - 1)]) is None
    assert unpack(key_of(RECORD.at, 2), row) is None


def test_a_row_with_fewer_fields_takes_defaults_and_one_with_more_loses_them() -> None:
    key = key_of(RECORD.at, 1)
    values = msgspec.msgpack.decode(pack(key, RECORD)[5:])
    values[-1][0] = values[-1][0][:10]
    shorter = Attempt("core", "core", "eu", "m", 10, 20, 3, False, 0.25, "2026-01")
    assert unpack(key, framed(key, values)) == msgspec.structs.replace(RECORD, attempts=[shorter])
    assert unpack(key, framed(key, [*msgspec.msgpack.decode(pack(key, RECORD)[5:]), "later"])) == RECORD


def framed(key: bytes, values: list[object]) -> bytes:
    payload = msgspec.msgpack.encode(values)
    return struct.pack("<BI", 1, zlib.crc32(payload, zlib.crc32(key))) + payload


def test_a_row_of_another_version_is_not_read() -> None:
    key = key_of(RECORD.at, 1)
    assert unpack(key, b"\x02" + pack(key, RECORD)[1:]) is None


@given(st.floats(0, 1e10), st.floats(0, 1e10), st.integers(0, 9), st.integers(0, 9))
def test_keys_are_in_the_order_of_time_and_number(one: float, other: float, first: int, second: int) -> None:
    if (one, first) < (other, second) and (one == other or other - one > 1e-6):
        assert key_of(one, first) < key_of(other, second)


@pytest.mark.parametrize("at", [float("nan"), -1.0, float("-inf")])
def test_a_strange_time_is_the_first_of_all(at: float) -> None:
    assert key_of(at, 1) == key_of(0.0, 1)


def test_an_endless_time_is_after_all_others() -> None:
    assert key_of(float("inf"), 0) > key_of(1e10, 2**31)


def test_a_model_name_of_a_megabyte_is_cut_off_and_a_strange_one_is_made_printable() -> None:
    key = key_of(RECORD.at, 1)
    long = msgspec.structs.replace(RECORD, model="m" * 10**6)
    row = pack(key, long)
    assert len(row) < 1000
    assert unpack(key, row) == msgspec.structs.replace(RECORD, model="m" * LONGEST)
    strange = msgspec.structs.replace(RECORD, model="a\ud800b", attempts=[Attempt("u", "t", "r", "\udfff")])
    found = unpack(key, pack(key, strange))
    assert found is not None
    assert (found.model, found.attempts[0].model) == ("a?b", "?")


def test_what_msgpack_cannot_carry_is_a_store_error() -> None:
    with pytest.raises(StoreError, match="cannot be encoded"):
        pack(key_of(1.0, 1), msgspec.structs.replace(RECORD, prompt_tokens=2**70))


@pytest.mark.parametrize(("key", "holders"), [("", ("acme",)), ("k1", ("acme", "acme/k1"))])
def test_a_record_counts_against_the_tenant_and_its_key(key: str, holders: tuple[str, ...]) -> None:
    assert Record(1.0, "r", "acme", key).holders == holders
