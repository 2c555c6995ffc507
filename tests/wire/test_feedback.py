from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.errors import BadRequest
from edgecache.wire.feedback import MAX_NOTE, Opinion, parse


def test_a_verdict_on_a_request_or_an_entry() -> None:
    assert parse(b'{"request_id": "r-1", "verdict": "good"}') == Opinion(good=True, request_id="r-1")
    assert parse(b'{"entry": 7, "verdict": "bad", "note": "no"}') == Opinion(good=False, note="no", entry=7)
    assert parse(b'{"entry": "7", "verdict": "bad", "note": null, "request_id": null}') == Opinion(good=False, entry=7)


def test_only_an_operator_names_a_tenant() -> None:
    body = b'{"request_id": "r", "verdict": "bad", "tenant": "acme"}'
    assert parse(body, operator=True).tenant == "acme"
    with pytest.raises(BadRequest):
        parse(body)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"verdict": "maybe"}, "verdict"),
        ({"verdict": None}, "verdict"),
        ({"verdict": ["good"]}, "verdict"),
        ({"verdict": True}, "verdict"),
        ({"entry": 1}, "request_id"),
        ({"request_id": None}, "request_id"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "a b"}, "request_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"request_id": 1}, "request_id"),
        ({"request_id": None, "entry": -1}, "entry"),
        ({"request_id": None, "entry": True}, "entry"),
        ({"request_id": None, "entry": 1.0}, "entry"),
        ({"request_id": None, "entry": 10**19}, "entry"),
        ({"request_id": None, "entry": "1a"}, "entry"),
        ({"note": "x" * (MAX_NOTE + 1)}, "note"),
        ({"note": 1}, "note"),
        ({"comment": "x"}, "comment"),
        ({"tenant": "acme"}, "tenant"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(orjson.dumps({"request_id": "r", "verdict": "good"} | change))
    assert refused.value.param == param


def test_a_tenant_is_a_name() -> None:
    with pytest.raises(BadRequest):
        parse(b'{"request_id": "r", "verdict": "good", "tenant": 1}', operator=True)


@settings(max_examples=40)
@given(st.one_of(st.binary(max_size=40), st.recursive(st.none() | st.text(), st.lists).map(orjson.dumps)))
def test_nothing_else_is_raised_whatever_comes(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(raw)
