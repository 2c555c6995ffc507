"""Answers that are written in one thread and sent in another."""

import asyncio

import pytest

from edgecache.errors import Fault, FunctionFault
from edgecache.functions.outgoing import Head, Outgoing
from edgecache.wasm.base import Limits, pack
from edgecache.wasm.hostcalls import Code, HostRefused, result

LIMITS = Limits(wall=5.0, response=1024 * 1024)


def head(outgoing: Outgoing, status: bytes = b"200", *fields: bytes) -> list[bytes]:
    return result(outgoing.call("body.head", pack(status, *fields)))


def write(outgoing: Outgoing, part: bytes) -> list[bytes]:
    return result(outgoing.call("body.write", pack(part)))


async def test_parts_arrive_in_order_behind_their_head() -> None:
    outgoing = Outgoing(LIMITS)

    def answer() -> None:
        head(outgoing, b"201", b"X-A", b" 1 ")
        for number in range(100):
            write(outgoing, b"%d," % number)

    call = asyncio.get_running_loop().run_in_executor(None, answer)
    assert await outgoing.head() == Head(201, (("x-a", "1"),))
    await call
    outgoing.end()
    assert b"".join([part async for part in outgoing]) == b"".join(b"%d," % number for number in range(100))


async def test_a_call_that_ends_without_a_head_has_none() -> None:
    outgoing = Outgoing(LIMITS)
    outgoing.end()
    assert await outgoing.head() is None
    assert [part async for part in outgoing] == []


async def test_a_function_waits_for_a_slow_client() -> None:
    outgoing = Outgoing(LIMITS)

    def answer() -> None:
        head(outgoing)
        for _ in range(5):
            write(outgoing, bytes(100_000))

    call = asyncio.get_running_loop().run_in_executor(None, answer)
    call.add_done_callback(lambda _: outgoing.end())
    await outgoing.head()
    assert len(await anext(outgoing)) == 100_000
    assert not call.done()
    assert sum([len(part) async for part in outgoing]) == 400_000
    await call


async def test_it_does_not_wait_longer_than_its_wall_time() -> None:
    outgoing = Outgoing(Limits(wall=0.01))
    head(outgoing)
    write(outgoing, bytes(300_000))
    with pytest.raises(FunctionFault, match="does not read") as caught:
        await asyncio.to_thread(write, outgoing, b"more")
    assert caught.value.fault is Fault.WALL


async def test_a_client_that_leaves_ends_the_call_even_while_it_waits() -> None:
    outgoing = Outgoing(LIMITS)
    head(outgoing)
    write(outgoing, bytes(300_000))
    waiting = asyncio.get_running_loop().run_in_executor(None, write, outgoing, b"more")
    outgoing.close()
    with pytest.raises(FunctionFault, match="left"):
        await waiting
        write(outgoing, b"even more")
    with pytest.raises(FunctionFault, match="left"):
        write(outgoing, b"even more")


async def test_an_answer_has_one_head_before_its_body_and_ends_at_its_limit() -> None:
    outgoing = Outgoing(Limits(response=10))
    with pytest.raises(FunctionFault, match="before its head"):
        write(outgoing, b"x")
    head(outgoing)
    with pytest.raises(FunctionFault, match="twice"):
        head(outgoing)
    write(outgoing, b"12345")
    with pytest.raises(FunctionFault, match="2 bytes more than the 10") as caught:
        write(outgoing, b"1234567")
    assert caught.value.fault is Fault.SIZE


@pytest.mark.parametrize(
    ("status", "fields"), [(b"99", ()), (b"x", ()), (b"200", (b"a b", b"1")), (b"200", (b"a", b"1\n2"))]
)
async def test_a_head_has_to_be_http(status: bytes, fields: tuple[bytes, ...]) -> None:
    with pytest.raises(FunctionFault) as caught:
        head(Outgoing(LIMITS), status, *fields)
    assert caught.value.fault is Fault.ANSWER


@pytest.mark.parametrize(
    ("op", "argument"),
    [("body.read", b""), ("body.head", pack(b"200", b"x")), ("body.write", b""), ("body.write", b"9:")],
)
async def test_what_means_nothing_is_refused(op: str, argument: bytes) -> None:
    with pytest.raises(HostRefused) as caught:
        result(Outgoing(LIMITS).call(op, argument))
    assert caught.value.code is Code.INVALID
