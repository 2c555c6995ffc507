"""What functions fetch: one request, to an address that was checked, over a connection of its own.

The name is resolved once, every address it has is checked (`network`), and the connection goes to those very
addresses: a name server that answers otherwise the next time is not asked again. TLS certificates are verified for the
name. No redirects, cookies, proxies, environment or decompression. Connections are not kept: none is ever handed to a
request that was checked under other rules. Whether a function may ask at all is `functions.grants`' part.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable, Sequence

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from edgecache import __version__
from edgecache.errors import TooLarge, UpstreamDied, UpstreamTimeout, UpstreamUnreachable
from edgecache.upstream.names import Names
from edgecache.upstream.network import Address, Reach
from edgecache.upstream.target import OutOfReach, Target, TargetRefused, parse

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CONNECT_TIMEOUT = 5.0
"""Seconds to connect, TLS included."""
_MOST_HEADERS, _HEADER_BYTES = 100, 16 * 1024
"""Header fields and their bytes, either way; a single field that comes back has at most `_FIELD` bytes."""
_FIELD = 8190
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*")
_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
"""Fields that are about the connection (RFC 9110, section 7.6.1)."""
_OURS = _HOP | {"content-length", "expect", "host", "http2-settings"}
"""Request fields that a function has no say in; they and `proxy-*` are left out."""


class Fetch(msgspec.Struct, frozen=True):
    """One request that is well-formed; only `outgoing` makes one."""

    method: str
    target: Target
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Fetched(msgspec.Struct, frozen=True):
    """What came back: the body as it was sent, still in its `content-encoding`."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def outgoing(method: str, url: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Fetch:
    """The request as it may be sent; raises TargetRefused with the reason.

    Fields that belong to the connection are left out; the body is as long as it is, and goes to the host of the URL.
    """
    if method not in METHODS:
        raise TargetRefused(f"{method[:32]!r} is not one of {', '.join(sorted(METHODS))}")
    kept = tuple(_sent(headers))
    size = sum(len(name) + len(value) for name, value in kept)
    if len(kept) > _MOST_HEADERS or size > _HEADER_BYTES:
        raise TargetRefused(
            f"{len(kept)} header fields with {size} characters, of at most {_MOST_HEADERS} with {_HEADER_BYTES}"
        )
    return Fetch(method, parse(url), kept, body)


def _sent(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise TargetRefused(f"{name[:64]!r} is not a header name")
        if not _VALUE.fullmatch(value):
            raise TargetRefused(f"the header {name} holds a control character")
        folded = name.lower()
        if folded not in _OURS and not folded.startswith("proxy-"):
            yield folded, value


class Outbound:
    """Sends what functions fetch. Belongs to one event loop."""

    def __init__(self, reach: Reach, names: Names, *, most: int, tls: ssl.SSLContext | None = None) -> None:
        """`most`: bytes of the largest body, either way. `tls`: whom to trust; None = the system's authorities."""
        self._reach = reach
        self._names = names
        self._most = most
        self._tls = tls or True

    async def fetch(
        self,
        request: Fetch,
        *,
        owner: str,
        most: int,
        timeout: float,  # noqa: ASYNC109 - of the whole
    ) -> Fetched:
        """Send `request` for a function of `owner`; the whole answer, of at most `most` bytes, within `timeout` s.

        Raises:
            OutOfReach: no connection may be made to where the name leads.
            TooLarge: the body of the request, or of the answer.
            UpstreamUnreachable: there is no such name, or no connection; or `owner` asks for too many names.
            UpstreamTimeout: the time is over.
            UpstreamDied: the answer broke off, or is not HTTP.
        """
        most = min(most, self._most)
        origin = request.target.origin
        if len(request.body) > self._most:
            raise TooLarge(f"the request to {origin} has {len(request.body)} bytes, of at most {self._most}")
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(request, await self._checked(request.target, owner), most)
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamUnreachable(f"no connection to {origin} within {_CONNECT_TIMEOUT:g} s") from error
        except TimeoutError as error:
            raise UpstreamTimeout(f"{origin} took more than the {timeout:.3g} s that were left") from error
        except aiohttp.ClientConnectorError as error:
            raise UpstreamUnreachable(f"{origin} cannot be reached ({_reason(error)})") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamDied(f"{origin} broke off, or answered with something other than HTTP") from error

    async def _checked(self, target: Target, owner: str) -> list[Address]:
        """The addresses to connect to: all that `target` has. One that may not be reached spoils them all."""
        if target.address is not None:
            found: Sequence[Address] = [target.address]
        else:
            try:
                found = await self._names.addresses(target.host, target.port, owner)
            except OSError as error:
                raise UpstreamUnreachable(f"there is no address for {target.host}") from error
        if not found:
            raise UpstreamUnreachable(f"there is no address for {target.host}")
        for address in found:
            refusal = self._reach.refusal(address)
            if refusal is not None:
                raise OutOfReach(f"{target.host} has an address that functions may not connect to ({refusal})")
        return list(found)

    async def _exchange(self, request: Fetch, addresses: list[Address], most: int) -> Fetched:
        async with (
            self._session(addresses) as session,
            session.request(
                request.method,
                URL(request.target.origin + request.target.path, encoded=True),
                headers=_with_defaults(request.headers),
                data=request.body or None,
                allow_redirects=False,
            ) as response,
        ):
            if response.status < 200:
                raise UpstreamDied(f"{request.target.origin} switched to a protocol that nobody asked for")
            headers = tuple(pair for pair in response.raw_headers if pair[0].lower().decode("latin-1") not in _HOP)
            size = sum(len(name) + len(value) for name, value in headers)
            if size > _HEADER_BYTES:
                raise TooLarge(f"{request.target.origin} sent headers of {size} bytes, of at most {_HEADER_BYTES}")
            return Fetched(response.status, headers, await _read(response, request, most))

    def _session(self, addresses: list[Address]) -> aiohttp.ClientSession:
        """A client for one request, which connects to `addresses` whatever it is told to resolve."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Pinned(addresses), use_dns_cache=False, force_close=True, ssl=self._tls
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
            skip_auto_headers=("Content-Type",),
            auto_decompress=False,
            trust_env=False,
            max_line_size=_FIELD,
            max_field_size=_FIELD,
            max_headers=_MOST_HEADERS,
        )


class _Pinned(AbstractResolver):
    """Knows one answer."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._addresses = tuple(addresses)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp asks for any
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _with_defaults(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    said = {name for name, _ in headers}
    ours = (("user-agent", f"edgecache/{__version__}"), ("accept-encoding", "identity"))
    return [*headers, *(pair for pair in ours if pair[0] not in said)]


async def _read(response: aiohttp.ClientResponse, request: Fetch, most: int) -> bytes:
    parts, size = [], 0
    if request.method != "HEAD":
        size = response.content_length or 0
    if size <= most:
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > most:
                break
            parts.append(part)
    if size > most:
        raise TooLarge(f"{request.target.origin} answered with more than the {most} bytes that were left")
    return b"".join(parts)


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Why no connection was made, without the address."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not valid for that name"
    return "TLS failed" if isinstance(error, aiohttp.ClientSSLError) else "no connection"
