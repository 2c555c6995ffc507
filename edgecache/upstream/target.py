"""What a function wants to fetch: a URL in the one spelling that nobody can read in two ways. Pure.

Parsers differ over the odd forms of a URL, and each difference is a way around a check: so there is no repairing here.
Whether the host may be reached is `network`'s word, whether the function may ask is `functions.grants`'.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import msgspec

PORTS = {"http": 80, "https": 443}
"""The schemes there are, and the port of each."""
_LONGEST = 8192
_URL = re.compile(r"(?i:(https?))://([^/?#]*)([^#]*)(?:#.*)?")
_VISIBLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
"""ASCII without blanks, controls and the backslash, which some parsers take for a slash."""
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that looks like this makes a host an IPv4 address (WHATWG URL, "ends in a number")."""


class TargetRefused(Exception):
    """What a function asked for is not sent, and why: malformed, too large, or not to be reached."""


class OutOfReach(TargetRefused):
    """It is well-formed, and leads where functions may not go."""


class Target(msgspec.Struct, frozen=True):
    """A place and a resource. `host` is a lower-case name without a dot at its end, or an address in its one spelling.

    `path` begins with `/` and has the query; `address` is there if `host` is one.
    """

    scheme: str
    host: str
    port: int
    path: str = "/"
    address: IPv4Address | IPv6Address | None = None

    @property
    def origin(self) -> str:
        """`scheme://host[:port]`, the port only where it is not the scheme's own: as a manifest grants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == PORTS[self.scheme] else f":{self.port}")


def parse(url: str) -> Target:
    """The target that `url` names; raises TargetRefused with the reason."""
    if len(url) > _LONGEST:
        raise TargetRefused(f"the URL has {len(url)} characters, of at most {_LONGEST}")
    if not _VISIBLE.fullmatch(url):
        raise TargetRefused(
            "a URL holds visible ASCII only and no backslash: percent-encode the rest, names in their `xn--` form"
        )
    found = _URL.fullmatch(url)
    if found is None:
        raise TargetRefused("a URL begins with http:// or https://")
    scheme, authority, path = found[1].lower(), found[2], found[3]
    host, port = _place(authority, scheme)
    address = _address(host)
    host = _name(host) if address is None else str(address)
    return Target(scheme, host, port, path if path.startswith("/") else "/" + path, address)


def _place(authority: str, scheme: str) -> tuple[str, int]:
    """Host and port of `authority`."""
    if "@" in authority:
        raise TargetRefused("a URL carries no user name or password: send an authorization header")
    if "%" in authority:
        raise TargetRefused("a host is written without percent signs: neither encoded nor with a zone")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise TargetRefused(f"{authority!r} is not a host and, if any, a port")
    port = int(found[2]) if found[2] else PORTS[scheme]
    if not 0 < port < 65536:
        raise TargetRefused(f"port {port} is not from 1 to 65535")
    return found[1].lower(), port


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` is, None for a name; raises TargetRefused for one that is not in its plain form."""
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1])
        if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
            return IPv4Address(host.removesuffix("."))
    except AddressValueError as error:
        raise TargetRefused(f"{host!r} is not an address in its plain form, as 192.0.2.1 or [2001:db8::1]") from error
    return None


def _name(host: str) -> str:
    """`host` as a host name (RFC 1123), absolute, without the dot at its end."""
    name = host.removesuffix(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
        raise TargetRefused(f"{host!r} is not a host name (RFC 1123)")
    return name
