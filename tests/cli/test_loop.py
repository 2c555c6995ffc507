import asyncio
import os
import signal

import pytest
import uvloop

from edgecache.cli import loop


async def kind() -> type:
    return type(asyncio.get_running_loop())


def test_work_runs_on_uvloop_and_returns_its_result() -> None:
    assert loop.run(kind()) is uvloop.Loop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait(number: signal.Signals) -> None:
    async def story() -> str:
        waiting = asyncio.gather(loop.until_stopped())
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)
        await waiting
        return "stopped"

    assert loop.run(story()) == "stopped"
