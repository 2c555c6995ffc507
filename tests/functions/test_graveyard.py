import asyncio
import threading

from edgecache.functions.graveyard import Graveyard
from edgecache.functions.versions import Unloadable
from edgecache.tasks import Tasks
from edgecache.wasm.base import Kind


class Grave(Unloadable):
    """A program that remembers in which thread it was closed."""

    def __init__(self) -> None:
        super().__init__(Kind.CORE, "")
        self.threads: list[int] = []

    def close(self) -> None:
        self.threads.append(threading.get_ident())


async def test_programs_from_any_thread_are_closed_once_and_not_on_the_loop() -> None:
    tasks = Tasks()
    graveyard = Graveyard(tasks)
    programs = [Grave() for _ in range(20)]
    threads = [threading.Thread(target=graveyard.bury, args=(program,)) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await asyncio.sleep(0)
    await graveyard.close()
    assert all(len(program.threads) == 1 for program in programs)
    assert threading.get_ident() not in {thread for program in programs for thread in program.threads}
    await tasks.close()


async def test_closing_waits_for_what_is_being_closed() -> None:
    tasks = Tasks()
    graveyard = Graveyard(tasks)
    begun, may_end = threading.Event(), threading.Event()

    class Slow(Grave):
        def close(self) -> None:
            begun.set()
            assert may_end.wait(30)
            super().close()

    slow = Slow()
    graveyard.bury(slow)
    await asyncio.sleep(0)
    while not begun.is_set():
        await asyncio.sleep(0)
    closing = tasks.spawn(graveyard.close(), name="closing")
    await asyncio.sleep(0)
    assert not closing.done()
    may_end.set()
    await closing
    assert len(slow.threads) == 1


def test_what_is_given_up_after_the_loop_has_ended_disturbs_nobody() -> None:
    async def make() -> Graveyard:
        return Graveyard(Tasks())

    asyncio.run(make()).bury(Grave())
