"""How a function's thread waits for the daemon's loop: as long as its call may still last, and no longer."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from edgecache.wasm.hostcalls import Code, HostRefused

T = TypeVar("T")


class Waiting:
    """Hands work to one event loop, from other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def result(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """What `work` returns or raises; it is cancelled when that takes longer than `seconds`.

        Raises:
            HostRefused: the time is over, or the loop has stopped.
            RuntimeError: called on the loop itself, which would wait for itself.
        """
        future = self._begin(work, seconds)
        try:
            return future.result(seconds)
        except TimeoutError as error:
            raise HostRefused(Code.TIMEOUT, f"not done within the {seconds:.3g} s that were left") from error
        except CancelledError as error:
            raise HostRefused(Code.UNAVAILABLE, "this POP is stopping") from error
        finally:
            future.cancel()

    def _begin(self, work: Coroutine[Any, Any, T], seconds: float) -> Future[T]:
        refusal: Exception
        if _here() is self._loop:
            refusal = RuntimeError("a function that waits for the event loop runs on it")
        elif seconds <= 0:
            refusal = HostRefused(Code.TIMEOUT, "no time was left")
        else:
            try:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
            except RuntimeError:  # the loop was closed
                refusal = HostRefused(Code.UNAVAILABLE, "this POP is stopping")
        work.close()
        raise refusal


def _here() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
