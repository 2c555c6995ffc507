"""What is taken for an answer, and what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import answer
from edgecache.wasm.base import Limits


@pytest.mark.parametrize("text", [b"200", b"204", b"404", b"599"])
def test_statuses(text) -> None:
    assert answer.status_of(text) == int(text)


@pytest.mark.parametrize(
    "text", [b"", b"0", b"-1", b"99", b"100", b"101", b"600", b"2000", b"200 OK", b" 200", b"\xff"]
)
def test_what_is_no_status(text) -> None:
    with pytest.raises(FunctionFault, match="not one of 200 to 599") as fault:
        answer.status_of(text)
    assert fault.value.fault == Fault.ANSWER


def test_names_are_lower_case_and_values_without_blanks_around() -> None:
    found = answer.headers_of([(b"Content-Type", b" text/plain\t"), (b"x-a", b""), (b"x-a", "ä".encode())])
    assert found == (("content-type", "text/plain"), ("x-a", ""), ("x-a", "ä"))


def test_bytes_that_are_no_text_survive() -> None:
    ((_, value),) = answer.headers_of([(b"x", b"\xff\xfe")])
    assert answer.encoded(value) == b"\xff\xfe"


@pytest.mark.parametrize("name", [b"", b"a b", b"a\r\nb", b"a:", b"\xc3\xa4", b"x" * 201])
def test_bad_names(name) -> None:
    with pytest.raises(FunctionFault, match="a header with the name"):
        answer.headers_of([(name, b"v")])


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\0", b"\x1b[31m", b"\x7f"])
def test_bad_values(value) -> None:
    with pytest.raises(FunctionFault, match="a header x with the value"):
        answer.headers_of([(b"x", value)])


def test_sizes_say_by_how_much() -> None:
    answer.check_head(answer.HEAD)
    answer.check_body(10, Limits(response=10))
    with pytest.raises(FunctionFault, match="head of 65537 bytes, 1 more than") as fault:
        answer.check_head(65537)
    assert fault.value.fault == Fault.SIZE
    with pytest.raises(FunctionFault, match="answered 12 bytes, 2 more than the 10 that it may answer") as fault:
        answer.check_body(12, Limits(response=10))
    assert fault.value.fault == Fault.SIZE


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=4))
def test_whatever_is_taken_holds_no_line_break(fields) -> None:
    try:
        found = answer.headers_of(fields)
    except FunctionFault:
        return
    assert len(found) == len(fields)
    for name, value in found:
        assert name == name.lower()
        assert not set(name + value) & set("\r\n\0")
