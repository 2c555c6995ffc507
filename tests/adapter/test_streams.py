"""Streaming through the adapter: parts come and go through the host while the guest runs."""

import itertools

import pytest

from edgecache.errors import Fault, FunctionFault
from tests.adapter.conftest import LIMITS, Host, give, refuse, request


def parts(*given: bytes):
    """A host's `body.read`: the parts, then the end."""
    left = iter(given)

    def read() -> bytes:
        part = next(left, None)
        return give() if part is None else give(part)

    return read


def streamed(host: Host) -> list[tuple[str, list[bytes]]]:
    return [(op, fields) for op, fields in host.asked if op != "log"]


@pytest.mark.parametrize("path", ["/stream", "/splice"])
def test_parts_go_through_one_by_one(guest, path):
    host = Host(body_read=parts(b"one", b"\x00\xff", b"", b"three"))
    response = guest.run(request(path, reads=True, writes=True), LIMITS, host)
    assert (response.status, response.body) == (200, b"")
    written = [fields[0] for fields in host.all("body.write")]
    assert written == [b"before;"] * (path == "/stream") + [b"one", b"\x00\xff", b"three"]
    assert host.all("body.head") == [[b"200", b"content-type", b"text/plain"]]
    ops = [op for op, _ in streamed(host)]
    first = ["body.head", "body.write"] if path == "/stream" else []
    assert ops.index("body.head") < ops.index("body.write")
    assert ops[: len(first)] == first  # what was written before the response was set goes when it is set


def test_a_part_goes_out_before_the_next_comes_in(guest):
    host = Host(body_read=parts(b"one", b"two"))
    guest.run(request("/stream", reads=True, writes=True), LIMITS, host)
    ops = [op for op, _ in streamed(host)]
    assert ops == ["body.head", "body.write", *["body.read", "body.write"] * 2, "body.read"]


def test_only_the_request_may_stream(guest):
    response = guest.run(request("/echo", reads=True), LIMITS, Host(body_read=parts(b"a" * 5000, b"b")))
    assert response.body == b"a" * 5000 + b"b"


def test_only_the_response_may_stream(guest):
    host = Host()
    response = guest.run(request("/echo", b"whole", writes=True), LIMITS, host)
    assert response.body == b""
    assert b"".join(fields[0] for fields in host.all("body.write")) == b"whole"


def test_a_response_without_body_sends_its_head(guest):
    host = Host()
    guest.run(request("/empty", writes=True), LIMITS, host)
    assert [op for op, _ in streamed(host)] == ["body.head"]


def test_a_response_that_is_not_finished_is_a_fault_though_its_beginning_has_gone(guest):
    host = Host()
    with pytest.raises(FunctionFault) as failed:
        guest.run(request("/dropped", writes=True), LIMITS, host)
    assert failed.value.fault == Fault.ANSWER
    assert host.all("body.write") == [[b"half an"]]


def test_a_client_that_has_gone_is_an_error_of_the_stream(guest):
    answers = itertools.chain([give(), give()], itertools.repeat(refuse("unavailable", "the client has gone")))
    host = Host(body_read=parts(b"one", b"two", b"three"), body_write=lambda _part: next(answers))
    with pytest.raises(FunctionFault) as failed:
        guest.run(request("/stream", reads=True, writes=True), LIMITS, host)
    assert failed.value.fault == Fault.ANSWER
    assert host.all("log") == [[b"error", b"the client has gone"]]


def test_a_request_that_breaks_off_ends_its_stream(guest):
    answers = iter([give(b"one"), refuse("timeout")])
    response = guest.run(request("/echo", reads=True), LIMITS, Host(body_read=lambda: next(answers)))
    assert response.body == b"one"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/stream", "/splice"])
def test_a_long_stream_takes_no_more_memory_than_a_part(guest, path):
    part = b"\xe9" * 65536
    host = Host(body_read=parts(*[part] * 1000))  # 64 MiB, in a sandbox of 48
    guest.run(request(path, reads=True, writes=True), LIMITS, host)
    assert sum(len(fields[0]) for fields in host.all("body.write")) >= 1000 * len(part)
