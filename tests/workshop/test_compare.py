from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.wasm.base import Response
from edgecache.workshop import compare
from edgecache.workshop.cases import Expected

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
ANSWER = Response(200, (("x-a", "1"), ("x-edgecache-action", "miss")), b'{"a": {"b": [1, true]}, "c": "x"}')


@pytest.mark.parametrize(
    ("expected", "lines"),
    [
        ({}, []),
        ({"status": 204}, ["status: expected 204, got 200"]),
        ({"headers": {"X-A": "1", "x-b": None}}, []),
        ({"headers": {"x-a": None}}, ['header x-a: expected none, got "1"']),
        ({"headers": {"x-b": "2"}}, ['header x-b: expected "2", got none']),
        ({"action": "refuse"}, ["x-edgecache-action: expected 'refuse', got 'miss'"]),
        ({"key": "k"}, ["x-edgecache-key: expected 'k', got ''"]),
        ({"json": {"a": {"b": [1, True]}}}, []),
        ({"json": {"a": {"b": [1, 1]}}}, ["$.a.b[1]: expected 1, got true"]),
        ({"json": {"a": {"b": [1]}}}, ["$.a.b: expected 1 items, got 2: [1, true]"]),
        ({"json": {"d": 1}}, ["$.d: expected 1, got no such field"]),
        ({"body_contains": ["b", '"c"']}, []),
    ],
)
def test_a_line_says_what_differs_and_where(expected: dict[str, Any], lines: list[str]) -> None:
    assert compare.differences(msgspec.convert(expected, Expected), ANSWER) == lines


def test_a_body_that_differs_is_shown_by_its_lines() -> None:
    (one, other) = compare.differences(Expected(body="Hello Ada"), Response(200, (), b"Hello"))
    assert (one, other) == ('body: - "Hello Ada"', 'body: + "Hello"')
    lines = compare.differences(Expected(body='{"a": 1, "b": 2}'), Response(200, (), b'{"a": 1, "b": 3}'))
    assert lines == ['body:   "a": 1,', 'body: - "b": 2', 'body: + "b": 3'] or "body: - " in "".join(lines)


def test_a_text_that_is_missing_is_named() -> None:
    (line,) = compare.differences(Expected(body_contains="Ada"), Response(200, (), b"x" * 1000))
    assert line.startswith('body: expected "Ada" in it, got "xxx')
    assert len(line) < 400


def test_json_is_expected_where_there_is_none() -> None:
    (line,) = compare.differences(Expected(json={}), Response(200, (), b"\xff<"))
    assert line.startswith("body: expected JSON, got ")


@given(JSON)
def test_anything_is_part_of_itself(value: Any) -> None:
    assert list(compare.part("$", value, value)) == []


@given(st.dictionaries(st.text(max_size=2), JSON, max_size=4), st.text(max_size=2), JSON)
def test_more_fields_do_no_harm_but_less_do(value: dict[str, Any], name: str, more: Any) -> None:
    without = {key: each for key, each in value.items() if key != name}
    whole = without | {name: more}
    assert list(compare.part("$", without, whole)) == []
    assert list(compare.part("$", whole, without))
