"""What a call of a function is made of: request, limits, host, response. Shared by every kind of function.

A function of any kind is an HTTP handler: it takes a request and gives a response. How the two cross into the sandbox
is each kind's own business (`component`, `script`, `core`, `command`).
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol

import msgspec

Headers = tuple[tuple[str, str], ...]
"""Field names in lower case, in order; values without line breaks."""


class Kind(StrEnum):
    """What a developer may upload."""

    COMPONENT = "component"
    """A `wasi:http/incoming-handler@0.2` component, composed with our adapter."""
    SCRIPT = "script"
    """A plain JavaScript file, evaluated once in QuickJS and snapshotted."""
    CORE = "core"
    """A core module with `memory`, `alloc` and `handle`."""
    COMMAND = "command"
    """A WASI preview 1 command that speaks CGI (RFC 3875)."""


class Request(msgspec.Struct, frozen=True):
    """One HTTP request to a function.

    `target` is the path with its query. `now` is the time that all of the function's clocks show, in ns since the Unix
    epoch; `seed` (32 bytes) keys all of its randomness: the same request, time and seed give the same call again.
    With `reads` the body comes in parts through the host (`body.read`), and `body` is empty; with `writes` the
    response goes out in parts (`body.head`, then `body.write`), and the body of the `Response` is empty.
    """

    method: str
    target: str
    headers: Headers
    body: bytes
    now: int
    seed: bytes
    scheme: str = "http"
    authority: str = "edgecache.local"
    reads: bool = False
    writes: bool = False


class Usage(msgspec.Struct, frozen=True):
    """What a call took: `cpu` s in the sandbox, `wall` s in all, host calls, bytes of linear memory at its end."""

    cpu: float = 0.0
    wall: float = 0.0
    host_calls: int = 0
    memory: int = 0


class Response(msgspec.Struct, frozen=True):
    """What a function answered."""

    status: int
    headers: Headers
    body: bytes
    usage: Usage = Usage()


class Limits(msgspec.Struct, frozen=True):
    """What one call may take: `cpu` s in the sandbox, `wall` s with host calls, bytes of memory and of response.

    Host calls are counted and paid for in `functions.budget`; here they only stop the clock of `cpu`.
    """

    cpu: float = 0.05
    wall: float = 1.0
    memory: int = 64 * 1024 * 1024
    response: int = 10 * 1024 * 1024


class Host(Protocol):
    """What answers the calls that a function makes out of its sandbox."""

    def call(self, op: str, argument: bytes) -> bytes:
        """The answer to one host call, as `hostcalls` frames it. Blocks; runs in the thread of the call.

        Refusals are answers, not exceptions. Raises FunctionFault to end the whole call (a budget is spent).
        """
        ...


class Program(Protocol):
    """A function that was loaded and can be called, from any thread, many times at once."""

    kind: Kind

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        """Call it in a fresh sandbox, which is gone when this returns. Raises FunctionFault."""
        ...

    def close(self) -> None:
        """Give its code back; calls in progress must have ended."""
        ...


class NoHost:
    """A host that refuses everything."""

    def call(self, op: str, argument: bytes) -> bytes:  # noqa: ARG002 - the protocol has them
        """The refusal."""
        return f"!denied\n{op} is not granted to this function".encode()


def pack(*fields: bytes) -> bytes:
    """`fields` as netstrings (cr.yp.to/proto/netstrings.txt): the framing of everything that crosses the sandbox."""
    return b"".join([b"%d:%b," % (len(field), field) for field in fields])


def unpack(packed: bytes) -> list[bytes]:
    """The fields of `pack`; raises ValueError on anything else."""
    return list(_fields(packed))


def _fields(packed: bytes) -> Iterator[bytes]:
    position, end = 0, len(packed)
    while position < end:
        colon = packed.find(b":", position, position + 12)
        digits = packed[position:colon] if colon > 0 else b""
        if not digits.isdigit():
            raise ValueError(f"a netstring begins with its length, at byte {position}")
        position = colon + 1 + int(digits)
        if packed[position : position + 1] != b",":
            raise ValueError(f"a netstring of {int(digits)} bytes ends with a comma, at byte {position}")
        yield packed[colon + 1 : position]
        position += 1
