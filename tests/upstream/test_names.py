import asyncio
import socket
import threading
from ipaddress import ip_address

import pytest

from edgecache.errors import UpstreamUnreachable
from edgecache.tasks import Tasks
from edgecache.upstream.names import SHARE, WAITING, SystemNames


@pytest.fixture
def names():
    made = SystemNames()
    yield made
    made.close()


async def test_the_hosts_file_is_asked(names) -> None:
    found = await names.addresses("localhost", 80, "acme")
    assert found
    assert all(address.is_loopback for address in found)
    assert len(found) == len(set(found))


async def test_an_address_is_itself(names) -> None:
    assert await names.addresses("192.0.2.7", 80, "acme") == [ip_address("192.0.2.7")]
    assert await names.addresses("2001:db8::7", 443, "acme") == [ip_address("2001:db8::7")]


async def test_no_such_name(names) -> None:
    with pytest.raises(OSError, match=r"known|[Tt]emporary|failure"):
        await names.addresses("no-such-name.invalid", 80, "acme")


async def test_many_at_once(names) -> None:
    found = await asyncio.gather(*(names.addresses("localhost", port, "acme") for port in range(1, 30)))
    assert all(found)


class Slow:
    """A resolver that answers for `slow.example` only when it is let; remembers what it was asked."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int):
        self.asked.append(host)
        if host == "slow.example":
            self.let.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", port))]


@pytest.fixture
def slow():
    made = Slow()
    yield made
    made.let.set()


async def test_a_slow_name_server_holds_up_its_own_tenant_only(slow: Slow) -> None:
    names, tasks = SystemNames(slow), Tasks()
    waiting = [tasks.spawn(names.addresses("slow.example", 80, "acme"), name="look-up") for _ in range(SHARE + WAITING)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await names.addresses("fast.example", 80, "other") == [ip_address("192.0.2.7")]
        with pytest.raises(UpstreamUnreachable, match=f"functions of acme wait for the addresses of {SHARE + WAITING}"):
            await names.addresses("fast.example", 80, "acme")
    assert slow.asked.count("slow.example") <= SHARE
    slow.let.set()
    assert await asyncio.gather(*waiting) == [[ip_address("192.0.2.7")]] * (SHARE + WAITING)
    names.close()


async def test_who_gives_up_leaves_the_line_but_the_thread_stays_taken(slow: Slow) -> None:
    names, tasks = SystemNames(slow), Tasks()
    waiting = [tasks.spawn(names.addresses("slow.example", 80, "acme"), name="look-up") for _ in range(SHARE + WAITING)]
    while len(slow.asked) < SHARE:
        await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    later = tasks.spawn(names.addresses("fast.example", 80, "acme"), name="look-up")
    await names.addresses("fast.example", 80, "other")
    assert slow.asked == ["slow.example"] * SHARE + ["fast.example"]
    slow.let.set()
    assert await later == [ip_address("192.0.2.7")]
    while names._lines:
        await asyncio.sleep(0)
    names.close()
