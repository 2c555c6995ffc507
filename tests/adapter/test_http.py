"""wasi:http through the adapter: what comes in, what goes out, and handlers that do not answer as they should."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.errors import Fault, FunctionFault
from tests.adapter.conftest import LIMITS, Host, give, refuse, request, told

EVERY_BYTE = bytes(range(256))


def run(guest, path, body=b"", headers=(), host=None, **more):
    return guest.run(request(path, body, headers, **more), LIMITS, host or Host())


@pytest.mark.parametrize("body", [b"", b"x", b"text", EVERY_BYTE, "größe ✓".encode(), b"\x80", b"\xff" * 9999])
def test_bodies_come_back_byte_for_byte(guest, body):
    assert run(guest, "/echo", body).body == body


@given(body=st.binary(max_size=3000))
@settings(max_examples=50, deadline=None)
def test_any_body_comes_back(guest, body):
    assert run(guest, "/echo", body).body == body


@pytest.mark.parametrize("unit", [b"a", b"\xe9"], ids=["ascii", "binary"])
def test_a_megabyte_comes_back(guest, unit):
    body = unit * (1 << 20)
    assert run(guest, "/echo", body).body == body


def test_headers_keep_order_duplicates_and_text_over_0x7f(guest):
    sent = (("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-name", "Zoë"), ("x-empty", ""))
    assert run(guest, "/echo", headers=sent).headers == sent


def test_headers_of_a_connection_do_not_reach_the_guest(guest):
    sent = (("host", "h"), ("connection", "close"), ("x-kept", "1"), ("transfer-encoding", "chunked"))
    assert run(guest, "/echo", headers=sent).headers == (("x-kept", "1"),)


def test_method_target_scheme_and_authority_arrive(guest):
    said = told(run(guest, "/a/b?c=d&e", method="DELETE", scheme="https", authority="edge.test:8080"))
    assert said == {"method": "4", "path": "/a/b?c=d&e", "scheme": "1", "authority": "edge.test:8080"}


def test_an_unusual_method_arrives_by_name(guest):
    assert told(run(guest, "/x", method="PURGE"))["other"] == "PURGE"


def test_a_target_that_is_not_ascii_is_percent_encoded(guest):
    assert told(run(guest, "/größe"))["path"] == "/gr%C3%B6%C3%9Fe"


def test_fields_say_what_they_do_not_take(guest):
    syntax, forbidden, immutable, fine = "0", "1", "2", "-1"
    assert told(run(guest, "/fields", headers=(("x-request", "1"),))) == {
        "append": fine,
        "append-bad-name": syntax,
        "append-bad-value": syntax,
        "append-forbidden": forbidden,
        "append-transfer-encoding": forbidden,
        "set": fine,
        "set-no-name": syntax,
        "set-forbidden": forbidden,
        "get": "2",
        "get-absent": "0",
        "has": "1",
        "has-absent": "0",
        "delete": fine,
        "has-deleted": "0",
        "append-immutable": immutable,
        "set-immutable": immutable,
        "delete-immutable": immutable,
        "append-clone": fine,
        "original-has": "0",
        "append-child": immutable,
        "from-list-forbidden": forbidden,
    }


def test_bodies_and_streams_are_taken_once_and_closed_in_time(guest):
    ended = "1"  # stream-error closed
    assert told(run(guest, "/once", b"0123456789")) == {
        "consume": "0",
        "consume-again": "1",
        "stream": "0",
        "stream-again": "1",
        "skipped": "3",
        "read": "2",
        "read-closed": ended,
        "skip-closed": ended,
        "trailers": "1",
        "trailers-again": "1",
        "status": "200",
        "set-status": "0",
        "set-bad-status": "1",
        "status-now": "404",
        "body": "0",
        "body-again": "1",
        "write": "0",
        "write-again": "1",
        "budget": str(1 << 20),
        "zeroes": "0",
        "finish": "0",
        "check-finished": ended,
        "write-finished": ended,
        "flush-finished": ended,
        "informational": "38",
    }


def test_a_response_may_have_no_body(guest):
    response = run(guest, "/empty")
    assert (response.status, response.body) == (200, b"")


def test_a_body_as_long_as_it_says_is_an_answer(guest):
    assert run(guest, "/promised", b"5hello").body == b"hello"


def test_a_body_of_another_length_is_none_and_the_guest_is_told(guest):
    host = Host()
    with pytest.raises(FunctionFault) as failed:
        run(guest, "/promised", b"7hello", host=host)
    assert failed.value.fault == Fault.ANSWER
    assert failed.value.message == "the body of the response is not as long as its content-length says"
    assert host.all("log") == [[b"info", b"size"]]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/never", "the handler never answered"),
        ("/error", "the function answered with the error connection-timeout"),
        ("/unfinished", "the body of the response was not finished (outgoing-body.finish)"),
        ("/dropped", "the body of the response was not finished (outgoing-body.finish)"),
    ],
)
def test_what_is_no_answer_is_a_fault_that_says_why(guest, path, said):
    with pytest.raises(FunctionFault) as failed:
        run(guest, path)
    assert (failed.value.fault, failed.value.message) == (Fault.ANSWER, said)


@pytest.mark.parametrize("path", ["/twice", "/over-budget", "/over-flush", "/poll-nothing"])
def test_what_an_interface_forbids_is_a_trap(guest, path):
    with pytest.raises(FunctionFault) as failed:
        run(guest, path)
    assert failed.value.fault == Fault.TRAP


def test_an_outgoing_request_goes_as_one_call_when_it_is_complete(guest):
    host = Host(fetch=lambda *_: give(b"201", b"made \xff", b"X-Was", b"\xe9", b"connection", b"close"))
    said = told(run(guest, "/fetch/api.test:8443/a?b=c", EVERY_BYTE, host=host))
    assert host.all("fetch") == [[b"POST", b"http://api.test:8443/a?b=c", EVERY_BYTE, b"x-asked", b"y\xe9s"]]
    assert said == {
        "early": "0",  # not there before the body is finished
        "woken": "1",  # the stream, not the response
        "status": "201",
        "header": "x-was",
        "value": "é",
        "body": "made ÿ",
        "consume-again": "1",
        "get-again": "1",
    }


@pytest.mark.parametrize(
    ("code", "error"), [("denied", "15"), ("timeout", "33"), ("unavailable", "38"), ("invalid", "38"), ("quota", "38")]
)
def test_a_refused_request_is_an_error_of_http(guest, code, error):
    said = told(run(guest, "/fetch/api.test/", host=Host(fetch=lambda *_: refuse(code, "because"))))
    assert said["error"] == error
    assert said.get("reason") == ("because" if error == "38" else None)


def test_outgoing_requests_that_make_no_sense_are_told_so(guest):
    host = Host(fetch=lambda *_: give(b"200", b"ok"))
    said = told(run(guest, "/fetch-badly", host=host))
    assert said["no-authority"] == "19"  # HTTP-request-URI-invalid
    assert [said[name] for name in ("method", "path", "scheme", "authority")] == ["1"] * 4
    assert (said["own-method"], said["is"]) == ("0", "PURGE")
    assert said["timeout"] == "1"  # not supported
    assert said["body-again"] == "1"
    assert said["reason"] == "the body of the request was not finished"
    # Waiting for the response to a request that will never be finished sends it as it is.
    assert [fields[1] for fields in host.all("fetch")] == [b"http://a.test/waited-for"]
    assert said["status"] == "200"
