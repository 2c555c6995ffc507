"""CGI: requests as variables, and what programs write as responses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import cgi
from edgecache.wasm.base import Request


def variables(target="/a%20b/c?x=1&y=%41", headers=(), body=b"", **more):
    listed = cgi.variables(Request("POST", target, headers, body, 0, bytes(32), **more))
    return dict(item.split(b"=", 1) for item in listed)


def test_a_request_becomes_the_variables_of_rfc_3875():
    found = variables(
        headers=(("content-type", "application/json"), ("x-user", "Ada")), body=b"{}", authority="pop:8443"
    )
    assert found == {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"PATH_INFO": b"/a b/c",
        b"QUERY_STRING": b"x=1&y=%41",
        b"REMOTE_ADDR": b"127.0.0.1",
        b"REQUEST_METHOD": b"POST",
        b"REQUEST_SCHEME": b"http",
        b"REQUEST_URI": b"/a%20b/c?x=1&y=%41",
        b"SCRIPT_NAME": b"",
        b"SERVER_NAME": b"pop",
        b"SERVER_PORT": b"8443",
        b"SERVER_PROTOCOL": b"HTTP/1.1",
        b"SERVER_SOFTWARE": b"edgecache",
        b"CONTENT_LENGTH": b"2",
        b"CONTENT_TYPE": b"application/json",
        b"HTTP_X_USER": b"Ada",
    }


def test_fields_that_come_twice_are_joined():
    found = variables(headers=(("accept", "a"), ("accept", "b"), ("cookie", "x=1"), ("cookie", "y=2")))
    assert found[b"HTTP_ACCEPT"] == b"a, b"
    assert found[b"HTTP_COOKIE"] == b"x=1; y=2"


@pytest.mark.parametrize(
    "name", ["proxy", "authorization", "proxy-authorization", "x_edgecache_phase", "content-length"]
)
def test_headers_that_would_lie_or_leak_become_no_variable(name):
    assert not [key for key in variables(headers=((name, "v"),)) if key.startswith(b"HTTP_") or b"LENGTH" in key]


def test_a_path_that_would_be_cut_short_stays_escaped():
    assert variables("/a%00b")[b"PATH_INFO"] == b"/a%00b"


def test_the_port_follows_the_scheme():
    assert variables(scheme="https")[b"SERVER_PORT"] == b"443"
    assert variables(authority="[::1]")[b"SERVER_NAME"] == b"[::1]"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)), st.text())
def test_no_variable_holds_a_nul(target, value):
    assert all(b"\0" not in item for item in variables(target, (("x-any", value),)).values())


@pytest.mark.parametrize(
    ("written", "status", "headers", "body"),
    [
        (b"Content-Type: text/plain\n\nhello", 200, (("content-type", "text/plain"),), b"hello"),
        (b"Status: 404 Not Found\r\nX-A: 1\r\n\r\n\r\nx", 404, (("x-a", "1"),), b"\r\nx"),
        (b"status:204\n\n", 204, (), b""),
        (b"\n\nbody", 200, (), b"\nbody"),
        (b"\r\nbody", 200, (), b"body"),
        (b"Location: https://a.example/\n\n", 302, (("location", "https://a.example/"),), b""),
        (b"Location: /x\nStatus: 201\n\n", 201, (("location", "/x"),), b""),
        (b"A: 1\n\n" + bytes(range(256)), 200, (("a", "1"),), bytes(range(256))),
        (b"A: 1\r\nB: 2\n\nx\n\ny", 200, (("a", "1"), ("b", "2")), b"x\n\ny"),
    ],
)
def test_what_a_program_writes_is_a_response(written, status, headers, body):
    assert cgi.parse(written) == ((status, headers), body)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"", "wrote no blank line after the headers of its response: nothing"),
        (b"just text", "wrote no blank line after the headers of its response: 'just text'"),
        (b"HTTP/1.1 200 OK\nA: 1\n\n", "wrote 'HTTP/1.1 200 OK' where `Name: value` was expected"),
        (b"Status: 99\n\n", "answered the status '99', which is not one of 200 to 599"),
        (b"A b: 1\n\n", "answered a header with the name 'A b'"),
        (b"A: \x01\n\n", "answered a header A with the value '\\x01'"),
    ],
)
def test_what_is_no_response_is_said(written, said):
    with pytest.raises(FunctionFault) as caught:
        cgi.parse(written)
    assert caught.value.fault is Fault.ANSWER
    assert caught.value.message == said


def test_a_head_that_does_not_end_is_too_large():
    with pytest.raises(FunctionFault) as caught:
        cgi.split(b"a: b\n" * 20_000)
    assert caught.value.fault is Fault.SIZE


@given(st.binary(max_size=200))
def test_anything_is_a_response_or_a_fault(written):
    try:
        head, body = cgi.parse(written)
    except FunctionFault:
        return
    assert written.endswith(body)
    assert 200 <= head.status <= 599


@given(st.integers(0, 60))
def test_a_response_in_pieces_is_the_same_once_its_head_is_there(cut):
    whole = b"Status: 201\r\nX-A: 1\r\n\r\nsome body\n\nmore"
    found = cgi.split(whole[:cut])
    assert found is None or (found[0] == cgi.parse(whole)[0] and whole[:cut].endswith(found[1]))
