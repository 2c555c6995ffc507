import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Kind, Limits, Request, Usage
from edgecache.wasm.facts import Facts
from edgecache.wasm.frames import (
    LARGEST_ARGUMENT,
    Answer,
    Channel,
    Done,
    Failed,
    Fine,
    FromWorker,
    HostCall,
    Load,
    Run,
    ToWorker,
    Unload,
)
from edgecache.wasm.vault import Artefact

ODD = b"caf\xe9".decode(errors="surrogateescape")
"""As headers come from the network: not always UTF-8."""
REQUEST = Request("POST", f"/{ODD}", (("x-a", ODD), ("x-b", "é")), b"\x00\xff", 5, bytes(32), authority=ODD, reads=True)
ARTEFACT = Artefact("0" * 64, Kind.SCRIPT, Path("/x/y"), {"fn": 1}, Facts(3), 0.5, 10, "1" * 64)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    yield near, far
    near.close()
    far.close()


@pytest.mark.parametrize(
    "message",
    [Load(3, ARTEFACT), Unload(3), Answer(b"\xff"), Failed(Fault.BUDGET, "spent")],
    ids=lambda message: type(message).__name__,
)
def test_what_the_daemon_says_arrives(pair, message) -> None:
    Channel(pair[0], FromWorker).send(message)
    assert Channel(pair[1], ToWorker).receive() == message


@pytest.mark.parametrize(
    "message",
    [Fine(), HostCall("log", b"\xff"), Failed(Fault.TRAP, "no"), Done(200, ((b"a", b"\xff"),), b"\xff", Usage(1))],
    ids=lambda message: type(message).__name__,
)
def test_what_a_worker_says_arrives(pair, message) -> None:
    Channel(pair[0], ToWorker).send(message)
    assert Channel(pair[1], FromWorker).receive() == message


def test_a_request_is_carried_byte_for_byte(pair) -> None:
    Channel(pair[0], FromWorker).send(Run.of(1, REQUEST, Limits(cpu=3), hosted=True))
    said = Channel(pair[1], ToWorker).receive()
    assert isinstance(said, Run)
    assert said.whole() == REQUEST
    assert (said.limits, said.hosted) == (Limits(cpu=3), True)


@pytest.mark.parametrize(
    ("done", "fault"),
    [
        pytest.param(Done(99, (), b"", Usage()), Fault.ANSWER, id="status"),
        pytest.param(Done(-200, (), b"", Usage()), Fault.ANSWER, id="negative status"),
        pytest.param(Done(200, ((b"a", b"b\r\nc: d"),), b"", Usage()), Fault.ANSWER, id="a header in a header"),
        pytest.param(Done(200, ((b"a b", b"c"),), b"", Usage()), Fault.ANSWER, id="a name with a blank"),
        pytest.param(Done(200, (), bytes(11), Usage()), Fault.SIZE, id="a long body"),
        pytest.param(Done(200, ((b"a", bytes(100_000)),), b"", Usage()), Fault.SIZE, id="a long head"),
    ],
)
def test_a_worker_that_was_taken_over_cannot_say_what_is_no_http(done: Done, fault: Fault) -> None:
    with pytest.raises(FunctionFault) as raised:
        done.response(Limits(response=10))
    assert raised.value.fault is fault


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(struct.pack("<I", 5) + b"hello", id="no message"),
        pytest.param(struct.pack("<I", 0), id="an empty one"),
        pytest.param(struct.pack("<I", 6) + msgspec.msgpack.encode({"a": 1}) + b"xx", id="another"),
        pytest.param(struct.pack("<I", (1 << 32) - 1), id="4 GiB announced"),
    ],
)
def test_nonsense_is_an_error(pair, raw: bytes) -> None:
    pair[0].sendall(raw)
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        Channel(pair[1], FromWorker).receive()


def test_a_frame_has_a_largest_size(pair) -> None:
    pair[0].sendall(struct.pack("<I", LARGEST_ARGUMENT + (2 << 20)))
    with pytest.raises(ValueError, match="a frame of"):
        Channel(pair[1], FromWorker).receive(body=10)


def test_a_large_body_is_carried_where_it_may_be(pair) -> None:
    body = bytes(LARGEST_ARGUMENT + (4 << 20))
    sender = threading.Thread(target=Channel(pair[0], ToWorker).send, args=(Done(200, (), body, Usage()),))
    sender.start()
    assert Channel(pair[1], FromWorker).receive(body=len(body)) == Done(200, (), body, Usage())
    sender.join()


def test_nothing_in_time_is_a_timeout(pair) -> None:
    channel = Channel(pair[1], FromWorker)
    with pytest.raises(TimeoutError):
        channel.receive(left=lambda: 0.01)
    pair[0].sendall(struct.pack("<I", 5) + b"he")  # one byte at a time does not help
    left = iter([1.0, 1.0, 0.0])
    with pytest.raises(TimeoutError):
        channel.receive(left=lambda: next(left))


def test_a_reader_that_does_not_read_is_a_timeout(pair) -> None:
    with pytest.raises(TimeoutError):
        Channel(pair[0], ToWorker).send(Done(200, (), bytes(8 << 20), Usage()), wait=0.01)


def test_a_descriptor_comes_between_two_messages(pair) -> None:
    near, far, worker = Channel(pair[0], FromWorker), Channel(pair[1], FromWorker), Channel(pair[1], ToWorker)
    read, write = os.pipe()
    near.send(Unload(1))
    near.hand(write)
    near.send(Fine())
    os.close(write)
    assert worker.receive() == Unload(1)
    with os.fdopen(worker.handed(), "wb") as file:
        file.write(b"hello")
    assert os.read(read, 10) == b"hello"
    os.close(read)
    assert far.receive() == Fine()
    near.send(Unload(1))
    with pytest.raises(ConnectionResetError):
        worker.handed()


def test_the_end_is_no_message(pair) -> None:
    Channel(pair[0], ToWorker).close()
    channel = Channel(pair[1], FromWorker)
    assert channel.receive() is None
    with pytest.raises(OSError, match="pipe"):
        channel.send(Unload(1))
