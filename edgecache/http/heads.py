"""Request heads that aiohttp's parser accepts and we do not: smuggling shapes, malformed `Host`. Pure.

aiohttp 3.14 lets absolute-form targets, any `Host`, and `Transfer-Encoding` in HTTP/1.0 pass.
"""

import re

from aiohttp import hdrs
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage

from edgecache.errors import BadRequest, ClientError

_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
"""Stricter than RFC 3986 `authority`: names, IPv4, bracketed IPv6, port. No user info, no escapes, no slashes."""
_KNOWN_HOSTS = 256


def fault(message: RawRequestMessage, hosts: "Hosts") -> ClientError | None:
    """What is wrong with a request head that the parser accepted, or None."""
    if not message.path.startswith("/") or "#" in message.path:
        return BadRequest("The request target must be an absolute path.")
    if message.version != HttpVersion11:
        if message.version != HttpVersion10:
            return BadRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        if message.chunked or hdrs.TRANSFER_ENCODING in message.headers:
            return BadRequest("Transfer-Encoding is not allowed in HTTP/1.0.")
    if message.chunked and (framing := _framing_fault(message)) is not None:
        return framing
    if hdrs.EXPECT in message.headers and message.headers[hdrs.EXPECT].lower() != "100-continue":
        return BadRequest("Only `Expect: 100-continue` is supported.")
    host = message.headers.get(hdrs.HOST)
    return None if host in hosts else BadRequest("The Host header is missing, malformed or not served here.")


def _framing_fault(message: RawRequestMessage) -> ClientError | None:
    """RFC 9112, section 6.1: a message with both lengths, or codings other than `chunked`, is not worth guessing at."""
    if hdrs.CONTENT_LENGTH in message.headers:
        return BadRequest("A request carries Content-Length or Transfer-Encoding, not both.")
    codings = message.headers.getall(hdrs.TRANSFER_ENCODING)
    if len(codings) != 1 or codings[0].lower() != "chunked":
        return BadRequest("The only transfer coding supported is `chunked`.")
    return None


class Hosts:
    """Which `Host` values are accepted. Well-formed ones are remembered, so that the grammar runs once for each."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = frozenset(name.lower() for name in allowed)
        self._known: set[str | None] = set()

    def __contains__(self, host: str | None) -> bool:
        if host in self._known:
            return True
        if not self._accepts(host):
            return False
        if len(self._known) < _KNOWN_HOSTS:
            self._known.add(host)
        return True

    def _accepts(self, host: str | None) -> bool:
        if host is None:  # HTTP/1.0 only: the parser requires it in HTTP/1.1
            return not self._allowed
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        return not self._allowed or match["name"].lower() in self._allowed or host.lower() in self._allowed


def size(message: RawRequestMessage) -> int:
    """Bytes of the request line and header section on the wire, give or take optional white space."""
    return len(message.path) + 16 + sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
