"""What the daemon and a worker process say to each other: messages in msgpack, each after its length, over a socket.

A channel carries one thing at a time: the daemon asks, the worker may make host calls, the worker answers. The daemon
believes nothing that a worker says: frames are bounded, and what does not decode ends the worker.
"""

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from edgecache.errors import Fault
from edgecache.wasm import answer
from edgecache.wasm.answer import encoded
from edgecache.wasm.base import Headers, Limits, Request, Response, Usage
from edgecache.wasm.vault import Artefact

LARGEST_ARGUMENT = 16 * 1024 * 1024
"""Bytes of the argument of one host call."""
_HEAD = 1024 * 1024
"""Bytes for all but the body or argument in a frame."""
_LENGTH = struct.Struct("<I")
Fields = tuple[tuple[bytes, bytes], ...]
"""Names and values of headers."""


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load code under a number; a descriptor of the code comes after it. Answered by Fine or Failed."""

    key: int
    artefact: Artefact


class Unload(msgspec.Struct, frozen=True, tag=True):
    """Give code back; answered by Fine."""

    key: int


class Run(msgspec.Struct, frozen=True, tag=True):
    """Call it; answered by host calls, and then by Done or Failed."""

    key: int
    request: Request
    """Without what may hold bytes that are not UTF-8, which stands beside it."""
    target: bytes
    authority: bytes
    headers: Fields
    limits: Limits
    hosted: bool

    @classmethod
    def of(cls, key: int, request: Request, limits: Limits, *, hosted: bool) -> "Run":
        """The message that says to call program `key`."""
        plain = msgspec.structs.replace(request, target="", authority="", headers=())
        return cls(
            key, plain, encoded(request.target), encoded(request.authority), _fields(request.headers), limits, hosted
        )

    def whole(self) -> Request:
        """The request."""
        headers = tuple((_decoded(name), _decoded(value)) for name, value in self.headers)
        return msgspec.structs.replace(
            self.request, target=_decoded(self.target), authority=_decoded(self.authority), headers=headers
        )


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to a host call."""

    content: bytes


class Fine(msgspec.Struct, frozen=True, tag=True):
    """It was done."""


class HostCall(msgspec.Struct, frozen=True, tag=True):
    """A host call; answered by Answer, or by Failed to end the call."""

    op: str
    argument: bytes


class Done(msgspec.Struct, frozen=True, tag=True):
    """The function answered."""

    status: int
    headers: Fields
    body: bytes
    usage: Usage

    @classmethod
    def of(cls, response: Response) -> "Done":
        """The message that carries `response`."""
        return cls(response.status, _fields(response.headers), response.body, response.usage)

    def response(self, limits: Limits) -> Response:
        """The response, looked at once more: a worker may say anything. Raises FunctionFault (`answer`, `size`)."""
        answer.check_head(sum(len(name) + len(value) for name, value in self.headers))
        answer.check_body(len(self.body), limits)
        status = answer.status_of(b"%d" % self.status)
        return Response(status, answer.headers_of(self.headers), self.body, self.usage)


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It did not."""

    fault: Fault
    message: str


def _fields(headers: Headers) -> Fields:
    return tuple((encoded(name), encoded(value)) for name, value in headers)


def _decoded(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


ToWorker = Load | Unload | Run | Answer | Failed
FromWorker = Fine | HostCall | Done | Failed
T = TypeVar("T")


class Channel(Generic[T]):
    """One end of a socket on which messages of type `T` come in. Used by one thread at a time."""

    def __init__(self, connected: socket.socket, incoming: object) -> None:
        self._socket = connected
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(
            incoming, dec_hook=lambda kind, plain: kind(plain)
        )
        self._encoder = msgspec.msgpack.Encoder(enc_hook=str)  # paths

    def send(self, message: ToWorker | FromWorker, *, wait: float | None = None) -> None:
        """Send; raises OSError if the other end is gone, or does not read within `wait` s."""
        content = self._encoder.encode(message)
        self._socket.settimeout(wait)
        self._socket.sendall(_LENGTH.pack(len(content)) + content)

    def hand(self, descriptor: int, *, wait: float | None = None) -> None:
        """Give the other end a descriptor, which stays open here too; raises OSError as `send` does."""
        self._socket.settimeout(wait)
        socket.send_fds(self._socket, [b"!"], [descriptor])

    def handed(self) -> int:
        """The descriptor that the other end gives; to be closed. Raises OSError if it gives none."""
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            raise ConnectionResetError
        return descriptors[0]

    def receive(self, *, body: int = LARGEST_ARGUMENT, left: Callable[[], float | None] = lambda: None) -> T | None:
        """The next message, None when the other end is closed.

        `body`: most bytes of a response, `left` gives the s there are to wait. Raises TimeoutError when there are none,
        ValueError for a frame that is too large or no message, OSError when the other end is gone.
        """
        head = self._exactly(_LENGTH.size, left)
        if not head:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > max(body, LARGEST_ARGUMENT) + _HEAD:
            raise ValueError(f"a frame of {length} bytes")
        return self._decoder.decode(self._exactly(length, left))

    def _exactly(self, count: int, left: Callable[[], float | None]) -> bytes:
        """So many bytes; none if the other end is closed."""
        received = bytearray(count)
        view, position = memoryview(received), 0
        while position < count:
            wait = left()
            if wait is not None and wait <= 0:
                raise TimeoutError
            self._socket.settimeout(wait)
            got = self._socket.recv_into(view[position:])
            if not got:
                return b""
            position += got
        return bytes(received)

    def close(self) -> None:
        """Close this end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
