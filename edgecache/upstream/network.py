"""Which addresses a function may make this POP connect to: public ones, and what the operator opened. Pure.

Not the names and URLs (`target`), and not the connecting (`outbound`). The tables are those of the IANA registries of
special-purpose addresses (RFC 6890), kept here rather than asked of `ipaddress`, whose answers differ by version.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

SPECIAL: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "IETF protocol"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmark"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible"),
    ("::ffff:0:0:0/96", "IPv4-translated"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discard"),
    ("2001::/32", "Teredo"),
    ("2001:2::/48", "benchmark"),
    ("2001:10::/28", "ORCHID"),
    ("2001:20::/28", "ORCHID"),
    ("2001::/23", "IETF protocol"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "unique-local"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
"""Networks that hold no public server, and what they are; the narrower ones first."""

METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google Cloud, Oracle, OpenStack
            "169.254.170.2",  # AWS, tasks
            "169.254.170.23",  # AWS, pods
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle
            "168.63.129.16",  # Azure's host, in public space
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google Cloud
        ),
    )
)
"""Where clouds hand out credentials to whoever asks. Open only when the operator lists the very address."""

_SPECIAL = tuple((ip_network(network), what) for network, what in SPECIAL)
_GLOBAL = IPv6Network("2000::/3")
"""All of IPv6 that is given out to anybody."""
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The upper half of an interface identifier whose lower half is an IPv4 address (RFC 5214)."""


class Reach:
    """The addresses that may be connected to."""

    def __init__(self, private: Iterable[str] = ()) -> None:
        """`private`: networks (CIDR) that may be reached although they are not public.

        Raises:
            ValueError: names the one that is not a network.
        """
        self._private = tuple(ip_network(network) for network in private)

    def refusal(self, address: Address) -> str | None:
        """What keeps `address` from being connected to, as in `private`; None where nothing does.

        An address that carries another one (mapped, NAT64, 6to4, Teredo ...) passes only if that one would, too.
        """
        return next(filter(None, map(self._face, faces(address))), None)

    def _face(self, address: Address) -> str | None:
        if address in METADATA:
            exact = any(network.num_addresses == 1 and address in network for network in self._private)
            return None if exact else "cloud metadata"
        what = kind(address)
        opened = what is None or any(address in network for network in self._private)
        return None if opened else what


def kind(address: Address) -> str | None:
    """What makes `address` other than public, taken by itself; None for a public one."""
    for network, what in _SPECIAL:
        if address in network:
            return what
    if isinstance(address, IPv6Address) and address not in _GLOBAL:
        return "reserved"
    return None


def faces(address: Address) -> tuple[Address, ...]:
    """`address` as what a network may take it for: itself unless it stands for another, and those that it carries."""
    if isinstance(address, IPv4Address):
        return (address,)
    address = IPv6Address(int(address))  # without its zone
    if address in _MAPPED or address in _NAT64:
        return (_low(address),)
    carried: list[Address] = [address]
    if address.teredo is not None:
        carried += address.teredo
    if address.sixtofour is not None:
        carried.append(address.sixtofour)
    if int(address) >> 32 in (0, 0xFFFF_0000) and int(address) > 1:
        carried.append(_low(address))
    if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        carried.append(_low(address))
    return tuple(carried)


def _low(address: IPv6Address) -> IPv4Address:
    """The IPv4 address in the last 32 bits."""
    return IPv4Address(int(address) & 0xFFFF_FFFF)
