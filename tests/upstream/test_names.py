import asyncio
from ipaddress import ip_address

import pytest

from edgecache.upstream.names import SystemNames


@pytest.fixture
def names():
    made = SystemNames()
    yield made
    made.close()


async def test_the_hosts_file_is_asked(names) -> None:
    found = await names.addresses("localhost", 80)
    assert found
    assert all(address.is_loopback for address in found)
    assert len(found) == len(set(found))


async def test_an_address_is_itself(names) -> None:
    assert await names.addresses("192.0.2.7", 80) == [ip_address("192.0.2.7")]
    assert await names.addresses("2001:db8::7", 443) == [ip_address("2001:db8::7")]


async def test_no_such_name(names) -> None:
    with pytest.raises(OSError, match=r"known|[Tt]emporary|failure"):
        await names.addresses("no-such-name.invalid", 80)


async def test_many_at_once(names) -> None:
    found = await asyncio.gather(*(names.addresses("localhost", port) for port in range(1, 50)))
    assert all(found)
