from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.wire.jsontext import JsonError, decode, deeper_than, encode

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(values)
def test_what_is_encoded_decodes_to_the_same(value: object) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "truncated"),
        (b'{"a":1,}', "trailing comma"),
        (b"NaN", "invalid character"),
        (b'{"a":Infinity}', "invalid character"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":' + b"1" * 5000 + b"}", "out of range"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "invalid character"),
        (b'{"a":"\\ud800"}', "lone surrogate"),
        (b'{"a":"\\uDC00"}', "lone surrogate"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_whatever_is_wrong_one_exception_says_so(raw: bytes, says: str) -> None:
    with pytest.raises(JsonError, match=says):
        decode(raw)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    with suppress(JsonError):
        assert decode(encode(decode(raw))) == decode(raw)


@given(values, st.integers(1, 6))
def test_depth_is_measured_exactly(value: object, limit: int) -> None:
    assert deeper_than(limit, encode(value), value) == (depth(value) > limit)


def test_many_brackets_are_not_many_levels() -> None:
    value = {"messages": [{"role": "user", "content": "[" * 200}] * 100}
    assert not deeper_than(3, encode(value), value)
    assert deeper_than(2, encode(value), value)
