import asyncio
import threading

import pytest

from edgecache.functions.host.waiting import Waiting
from edgecache.wasm.hostcalls import Code, HostRefused


@pytest.fixture
def waiting():
    """A loop in a thread of its own, as the daemon's is for a function."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Waiting(loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def four() -> int:
    await asyncio.sleep(0)
    return 4


async def failing() -> None:
    raise LookupError("x")


def test_it_waits(waiting) -> None:
    assert waiting.result(four(), 5) == 4


def test_what_goes_wrong_there_goes_wrong_here(waiting) -> None:
    with pytest.raises(LookupError, match="x"):
        waiting.result(failing(), 5)


def test_nothing_begins_when_no_time_is_left(waiting) -> None:
    with pytest.raises(HostRefused, match="no time was left") as caught:
        waiting.result(four(), 0.0)
    assert caught.value.code is Code.TIMEOUT


def test_what_takes_too_long_is_cancelled(waiting) -> None:
    cancelled = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(HostRefused, match=r"not done within the 0\.02 s") as caught:
        waiting.result(endless(), 0.02)
    assert caught.value.code is Code.TIMEOUT
    assert cancelled.wait(5)


def test_a_timeout_of_the_work_itself_is_one(waiting) -> None:
    async def impatient() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(HostRefused) as caught:
        waiting.result(impatient(), 5)
    assert caught.value.code is Code.TIMEOUT


def test_a_daemon_that_stops(waiting) -> None:
    async def swept() -> None:
        asyncio.current_task().cancel()
        await asyncio.Event().wait()

    with pytest.raises(HostRefused, match="stopping") as caught:
        waiting.result(swept(), 5)
    assert caught.value.code is Code.UNAVAILABLE


def test_a_daemon_that_has_stopped() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(HostRefused, match="stopping"):
        Waiting(loop).result(four(), 5)


async def test_the_loop_never_waits_for_itself() -> None:
    with pytest.raises(RuntimeError, match="waits for the event loop runs on it"):
        Waiting(asyncio.get_running_loop()).result(four(), 5)
