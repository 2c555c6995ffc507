import asyncio
import logging

import pytest

from edgecache.tasks import Tasks


async def test_a_task_runs_and_is_forgotten() -> None:
    tasks, ran = Tasks(), asyncio.Event()

    async def work() -> None:
        ran.set()

    await tasks.spawn(work(), name="work")
    assert ran.is_set()
    assert len(tasks) == 0


async def test_a_failure_is_logged_with_the_name_of_the_task(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def work() -> None:
        raise ValueError("broken")

    with caplog.at_level(logging.ERROR):
        await asyncio.gather(tasks.spawn(work(), name="doomed"), return_exceptions=True)
    assert "doomed" in caplog.text
    assert "broken" in caplog.text


async def test_close_cancels_what_still_runs_and_waits_for_it() -> None:
    tasks, cleaned = Tasks(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    tasks.spawn(work(), name="endless")
    await asyncio.sleep(0)
    await tasks.close()
    assert cleaned == [True]
