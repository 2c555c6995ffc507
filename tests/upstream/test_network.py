from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.upstream.network import METADATA, SPECIAL, Reach, faces, kind

PUBLIC = """
    8.8.8.8 1.1.1.1 93.184.215.14 172.15.255.255 172.32.0.0 100.63.255.255 100.128.0.0 198.17.255.255 198.20.0.0
    192.0.1.0 223.255.255.255 2606:4700:4700::1111 2a00:1450:4001::200e ::ffff:8.8.8.8 64:ff9b::8.8.8.8
"""
WELL_KNOWN = """
    0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 127.255.255.255 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1
    192.0.2.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1
    255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::10.0.0.1
    64:ff9b::7f00:1 64:ff9b:1::1 64:ff9b:1::8.8.8.8 100::1 2001::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1
    2002:808:808::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1 4000::1 e000::1
"""


def addresses_of(network: str) -> st.SearchStrategy:
    return st.ip_addresses(network=network)


inside_v4 = st.sampled_from([network for network, _ in SPECIAL if ":" not in network]).flatmap(addresses_of)
inside_v6 = st.sampled_from([network for network, _ in SPECIAL if ":" in network]).flatmap(addresses_of)


def carriers(inner: IPv4Address) -> list[IPv6Address]:
    """IPv6 addresses that some network takes for `inner`."""
    low = int(inner)
    return [
        IPv6Address(number)
        for number in (
            low,
            0xFFFF << 32 | low,
            0xFFFF_0000 << 32 | low,
            (0x0064FF9B << 96) | low,
            (0x0064FF9B_0001 << 80) | low,
            (0x2002 << 112) | (low << 80) | 1,
            (0x20010000 << 96) | (low << 64) | (0xFFFF_FFFF ^ int(IPv4Address("8.8.8.8"))),
            (0x20010000 << 96) | (int(IPv4Address("8.8.8.8")) << 64) | (0xFFFF_FFFF ^ low),
            (0x2606_4700 << 96) | (0x0000_5EFE << 32) | low,
            (0x2606_4700 << 96) | (0x0200_5EFE << 32) | low,
        )
    ]


@pytest.mark.parametrize("text", PUBLIC.split())
def test_public_addresses_may_be_reached(text: str) -> None:
    assert Reach().refusal(ip_address(text)) is None


@pytest.mark.parametrize("text", WELL_KNOWN.split())
def test_what_is_not_public_may_not(text: str) -> None:
    assert Reach().refusal(ip_address(text))


@given(inside_v4 | inside_v6)
def test_every_address_of_a_special_network_is_refused(address) -> None:
    assert Reach().refusal(address) is not None


@given(inside_v4)
def test_so_is_whatever_carries_one(inner: IPv4Address) -> None:
    for carrier in carriers(inner):
        assert Reach().refusal(carrier) is not None, carrier


@given(st.ip_addresses(v=6).filter(lambda address: int(address) >> 125 != 1))
def test_only_global_unicast_is_left_of_ipv6(address: IPv6Address) -> None:
    carried = faces(address)
    if isinstance(carried[0], IPv6Address):
        assert Reach().refusal(address) is not None


@given(st.ip_addresses())
def test_a_public_word_means_that_every_face_is_public(address) -> None:
    if Reach().refusal(address) is None:
        assert all(kind(face) is None and not face.is_private for face in faces(address))


@given(inside_v4)
def test_the_operator_may_open_a_network(inner: IPv4Address) -> None:
    reach = Reach([f"{inner}/32"])
    assert reach.refusal(inner) is None
    assert reach.refusal(IPv6Address(f"::ffff:{inner}")) is None
    assert reach.refusal(IPv6Address((0x0064FF9B << 96) | int(inner))) is None
    assert reach.refusal(IPv6Address((0x2002 << 112) | (int(inner) << 80))) == "6to4"


@given(inside_v4)
def test_opening_what_carries_opens_nothing_that_is_carried(inner: IPv4Address) -> None:
    reach = Reach(["2001::/32", "2002::/16", "64:ff9b::/96", "::ffff:0:0/96"])
    teredo = [carrier for carrier in carriers(inner) if carrier.teredo]
    assert len(teredo) == 2
    for carrier in (*teredo, IPv6Address((0x2002 << 112) | (int(inner) << 80)), IPv6Address(f"::ffff:{inner}")):
        assert reach.refusal(carrier) is not None


def test_opening_one_network_opens_no_other() -> None:
    reach = Reach(["127.0.0.0/8", "fd12::/16"])
    assert reach.refusal(ip_address("127.9.9.9")) is None
    assert reach.refusal(ip_address("fd12::1")) is None
    assert reach.refusal(ip_address("10.0.0.1")) == "private"
    assert reach.refusal(ip_address("::1")) == "loopback"
    assert reach.refusal(ip_address("fd13::1")) == "unique-local"


@pytest.mark.parametrize("address", sorted(METADATA, key=str), ids=str)
def test_metadata_services_are_opened_by_their_very_address_only(address) -> None:
    everything = [f"{'0.0.0.0' if address.version == 4 else '::'}/0"]
    assert Reach(everything).refusal(address) == "cloud metadata"
    assert Reach([str(address)]).refusal(address) is None
    if address.version == 4:
        assert Reach([*everything, "::/0"]).refusal(IPv6Address(f"::ffff:{address}")) == "cloud metadata"


def test_a_zone_hides_nothing() -> None:
    assert Reach(["::/0"]).refusal(IPv6Address("fd00:ec2::254%eth0")) == "cloud metadata"
    assert Reach().refusal(IPv6Address("fe80::1%1")) == "link-local"


def test_the_table_holds_networks_and_the_narrow_ones_are_named_first() -> None:
    networks = [ip_network(network) for network, _ in SPECIAL]
    for index, network in enumerate(networks):
        for later in networks[index + 1 :]:
            assert not (later.version == network.version and later.subnet_of(network)), (network, later)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "private", "10.0.0.0/40", ""])
def test_what_is_not_a_network_is_named(network: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits|address"):
        Reach([network])
