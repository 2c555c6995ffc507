"""Netstrings, and the defaults of a call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.wasm.base import Kind, Limits, NoHost, Response, Usage, pack, unpack
from tests.wasm.conftest import request


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_fields_come_back(fields) -> None:
    assert unpack(pack(*fields)) == fields


def test_netstrings_are_those_of_the_specification() -> None:
    assert pack(b"hello world!", b"") == b"12:hello world!,0:,"


@pytest.mark.parametrize(
    "packed", [b"1", b":a,", b"a:b,", b"2:a,", b"1:ab", b"1:a", b"-1:,", b"1 :a,", b"99999999999999999999:a,", b"1:a,x"]
)
def test_what_is_no_netstring(packed) -> None:
    with pytest.raises(ValueError, match="netstring"):
        unpack(packed)


@given(st.binary(max_size=60))
def test_any_bytes_are_either_fields_or_an_error(packed) -> None:
    try:
        fields = unpack(packed)
    except ValueError:
        return
    assert sum(map(len, fields)) <= len(packed)


def test_defaults() -> None:
    made = request(b"x")
    assert (made.scheme, made.authority, made.reads, made.writes) == ("http", "edgecache.local", False, False)
    assert Response(204, (), b"").usage == Usage(0.0, 0.0, 0, 0)
    assert Limits().cpu < Limits().wall
    assert [str(kind) for kind in Kind] == ["component", "script", "core", "command"]


def test_no_host_says_what_was_asked() -> None:
    assert NoHost().call("llm.infer", b"...") == b"!denied\nllm.infer is not granted to this function"
