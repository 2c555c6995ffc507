"""Host names as addresses, for what functions fetch: asked from the system, on threads of their own.

The loop's own look-ups share a few threads with everything else that resolves. A developer picks the names that a
function asks for, and a name server of theirs may answer as slowly as it likes: it must hold up their functions only.
So each tenant has a few threads at most, and whatever else it asks waits in a line of its own.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Protocol

from edgecache.errors import UpstreamUnreachable
from edgecache.upstream.network import Address

THREADS, SHARE = 16, 4
"""Look-ups at one time: of all, and of one tenant's functions."""
WAITING = 32
"""Look-ups of one tenant's functions that may wait for a thread."""

Place = tuple[int, int, int, str, tuple[Any, ...]]
"""What `socket.getaddrinfo` gives for each address."""


class Names(Protocol):
    """What resolves host names."""

    async def addresses(self, host: str, port: int, owner: str) -> list[Address]:
        """All addresses of `host`, in the order to try them, for a function of tenant `owner`.

        Raises OSError if there is none, UpstreamUnreachable where too many of that tenant are being asked for already.
        """
        ...


def _ask(host: str, port: int) -> Sequence[Place]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class SystemNames:
    """The machine's resolver, with its hosts file. To be used on one event loop."""

    def __init__(self, ask: Callable[[str, int], Sequence[Place]] = _ask) -> None:
        """`ask`: what blocks until it knows, as `socket.getaddrinfo` does."""
        self._ask = ask
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="names")
        self._lines: dict[str, _Line] = {}

    async def addresses(self, host: str, port: int, owner: str) -> list[Address]:
        """As `Names.addresses`."""
        line = self._lines.setdefault(owner, _Line())
        if line.length >= SHARE + WAITING:
            raise UpstreamUnreachable(f"functions of {owner} wait for the addresses of {line.length} names already")
        line.length += 1
        try:
            await line.turn.acquire()
        except asyncio.CancelledError:
            self._left(owner)
            raise
        asked = self._threads.submit(self._ask, host, port)
        # Not when whoever asked has given up: the thread is busy until the name server answers.
        asked.add_done_callback(self._ended(asyncio.get_running_loop(), owner))
        found = await asyncio.wrap_future(asked)
        return list(dict.fromkeys(ip_address(place[4][0]) for place in found))

    def _ended(self, loop: asyncio.AbstractEventLoop, owner: str) -> Callable[[Future[Any]], None]:
        def tell(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop has ended before the name server answered
                loop.call_soon_threadsafe(self._answered, owner)

        return tell

    def _answered(self, owner: str) -> None:
        self._lines[owner].turn.release()
        self._left(owner)

    def _left(self, owner: str) -> None:
        line = self._lines[owner]
        line.length -= 1
        if not line.length:
            del self._lines[owner]

    def close(self) -> None:
        """Take no more; what is being asked ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Line:
    """The look-ups of one tenant's functions: how many there are, and turns for those that have a thread."""

    __slots__ = ("length", "turn")

    def __init__(self) -> None:
        self.length = 0
        self.turn = asyncio.Semaphore(SHARE)
