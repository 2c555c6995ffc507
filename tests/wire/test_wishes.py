from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from edgecache.errors import BadRequest
from edgecache.types import ServiceClass, Wishes
from edgecache.wire.wishes import HEADERS, wishes


def test_without_headers_there_is_only_the_time() -> None:
    assert wishes({}, 5.0) == Wishes(arrived=5.0)


def test_all_of_them_are_read() -> None:
    headers = CIMultiDict(
        {
            "edgecache-class": "Batch",
            "EDGECACHE-DEADLINE": "2.5",
            "EdgeCache-Residency": "EU, CH",
            "EdgeCache-Hop": "1",
        }
    )
    assert wishes(headers, 0.0) == Wishes(ServiceClass.BATCH, 2.5, frozenset({"EU", "CH"}), 1, 0.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EdgeCache-Class", "urgent"),
        ("EdgeCache-Deadline", "soon"),
        ("EdgeCache-Deadline", "0"),
        ("EdgeCache-Deadline", "-1"),
        ("EdgeCache-Deadline", "inf"),
        ("EdgeCache-Residency", "EU,,CH"),
        ("EdgeCache-Residency", ", ".join(f"p{i}" for i in range(40))),
        ("EdgeCache-Hop", "-1"),
        ("EdgeCache-Hop", "1000"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadRequest) as refused:
        wishes({name: value}, 0.0)
    assert refused.value.param == name


@given(st.sampled_from(HEADERS), st.text())
def test_every_value_is_read_or_refused(name: str, value: str) -> None:
    with suppress(BadRequest):
        assert wishes({name: value}, 0.0).arrived == 0.0
