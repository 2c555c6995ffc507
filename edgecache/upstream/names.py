"""Host names as addresses, for what functions fetch: asked from the system, on threads of their own.

The loop's own look-ups share a few threads with everything else that resolves. A developer picks the names that a
function asks for, and a name server of theirs may answer as slowly as it likes: it must hold up functions only.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Protocol

from edgecache.upstream.network import Address

_THREADS = 4


class Names(Protocol):
    """What resolves host names."""

    async def addresses(self, host: str, port: int) -> list[Address]:
        """All addresses of `host`, in the order to try them; raises OSError if there is none."""
        ...


class SystemNames:
    """The machine's resolver, with its hosts file."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="names")

    async def addresses(self, host: str, port: int) -> list[Address]:
        """All addresses of `host`, in the order to try them; raises OSError if there is none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _ask, host, port)
        return list(dict.fromkeys(ip_address(place[4][0]) for place in found))

    def close(self) -> None:
        """Take no more; what is being asked ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _ask(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]
