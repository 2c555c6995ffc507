import asyncio

import pytest
from aiohttp.http import HttpRequestParser, RawRequestMessage
from hypothesis import given
from hypothesis import strategies as st

from edgecache.http import heads
from edgecache.http.heads import Hosts


class Sink:
    """The little that aiohttp's parser wants of a protocol."""

    def resume_reading(self, *, resume_parser: bool = True) -> None: ...


def parse(head: str) -> RawRequestMessage:
    parser = HttpRequestParser(Sink(), asyncio.get_running_loop(), 2**16)
    messages, _, _ = parser.feed_data(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    return messages[0][0]


ANY = Hosts(())


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("GET http://localhost/v1/models HTTP/1.1\nHost: localhost", id="absolute form"),
        pytest.param("GET //evil/v1#frag HTTP/1.1\nHost: localhost", id="fragment"),
        pytest.param("OPTIONS * HTTP/1.1\nHost: localhost", id="asterisk form"),
        pytest.param("GET /v1/models HTTP/1.1\nHost: a/admin?x=", id="Host with a path"),
        pytest.param("GET /v1/models HTTP/1.1\nHost: user@a", id="Host with user info"),
        pytest.param("GET /v1/models HTTP/1.1\nHost: ", id="empty Host"),
        pytest.param("GET /v1/models HTTP/1.1\nHost: a:b", id="Host with a letter port"),
        pytest.param("GET /v1/models HTTP/1.1\nHost: a, b", id="Host with a list"),
        pytest.param("POST /v1/x HTTP/1.0\nHost: a\nTransfer-Encoding: chunked", id="chunked in HTTP 1.0"),
        pytest.param("POST /v1/x HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked", id="another coding"),
        pytest.param("POST /v1/x HTTP/1.1\nHost: a\nContent-Length: 1\nExpect: something", id="unknown expectation"),
    ],
)
async def test_a_head_the_parser_lets_through_is_refused(head: str) -> None:
    assert heads.fault(parse(head), ANY) is not None


@pytest.mark.parametrize(
    "head",
    [
        "GET /v1/models HTTP/1.1\nHost: localhost:8080",
        "GET /v1/models?x=%20 HTTP/1.1\nHost: [::1]:8080",
        "GET /v1/models HTTP/1.1\nHost: POP-1.example.org.",
        "GET /livez HTTP/1.0",
        "POST /v1/x HTTP/1.1\nHost: a\nTransfer-Encoding: chunked",
        "POST /v1/x HTTP/1.1\nHost: a\nContent-Length: 1\nExpect: 100-Continue",
    ],
)
async def test_an_ordinary_head_passes(head: str) -> None:
    assert heads.fault(parse(head), ANY) is None


@given(st.text(min_size=1, max_size=40))
def test_only_letters_digits_dots_dashes_and_colons_make_a_host(host: str) -> None:
    if host in ANY:
        assert set(host) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:[]")


def test_an_allow_list_of_hosts_ignores_case_and_port_and_refuses_a_missing_host() -> None:
    hosts = Hosts(("pop.example.org",))
    assert "POP.example.org" in hosts
    assert "pop.example.org:8443" in hosts
    assert "localhost" not in hosts
    assert None not in hosts


def test_remembered_hosts_are_bounded() -> None:
    hosts = Hosts(())
    for number in range(1000):
        assert f"h{number}" in hosts
    assert len(hosts._known) <= 256


async def test_the_size_of_a_head_is_what_was_on_the_wire_give_or_take() -> None:
    head = "GET /v1/models HTTP/1.1\nHost: localhost\nX-Long: " + "x" * 1000
    assert abs(heads.size(parse(head)) - len(head)) < 40
