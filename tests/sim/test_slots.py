import asyncio

import pytest

from edgecache.sim.slots import QueueFull, Slots


class Worker:
    """Holds a place until told to leave."""

    def __init__(self, slots: Slots) -> None:
        self.inside = asyncio.Event()
        self.leave = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self.run(slots))

    async def run(self, slots: Slots) -> None:
        async with slots:
            self.inside.set()
            await self.leave.wait()


async def started(slots: Slots, number: int) -> list[Worker]:
    workers = [Worker(slots) for _ in range(number)]
    await asyncio.sleep(0)
    return workers


async def test_places_are_given_in_the_order_of_asking() -> None:
    slots = Slots(2, 10)
    workers = await started(slots, 5)
    assert [worker.inside.is_set() for worker in workers] == [True, True, False, False, False]
    assert (slots.running, slots.waiting) == (2, 3)
    for index in range(3):
        workers[index].leave.set()
        await asyncio.wait_for(workers[index + 2].inside.wait(), 1)
        assert sum(worker.inside.is_set() for worker in workers) == index + 3
    for worker in workers:
        worker.leave.set()
        await worker.task
    assert (slots.running, slots.waiting) == (0, 0)


async def test_a_full_queue_refuses() -> None:
    slots = Slots(1, 1)
    workers = await started(slots, 3)
    with pytest.raises(QueueFull):
        await workers[2].task
    workers[0].leave.set()
    workers[1].leave.set()
    await workers[1].task


async def test_who_leaves_the_queue_takes_no_place() -> None:
    slots = Slots(1, 5)
    workers = await started(slots, 3)
    workers[1].task.cancel()
    await asyncio.sleep(0)
    assert slots.waiting == 1
    workers[0].leave.set()
    await asyncio.wait_for(workers[2].inside.wait(), 1)
    workers[2].leave.set()
    await workers[2].task
    assert slots.running == 0


async def test_a_place_given_to_somebody_just_cancelled_is_passed_on() -> None:
    slots = Slots(1, 5)
    workers = await started(slots, 3)
    slots.resize(2, 5)  # admits the second in the same moment …
    workers[1].task.cancel()  # … as it leaves
    await asyncio.wait_for(workers[2].inside.wait(), 1)
    assert slots.running == 2
    for worker in workers:
        worker.leave.set()
    await asyncio.gather(*(worker.task for worker in workers), return_exceptions=True)
    assert (slots.running, slots.waiting) == (0, 0)


async def test_a_larger_size_admits_at_once() -> None:
    slots = Slots(1, 5)
    workers = await started(slots, 3)
    slots.resize(3, 5)
    for worker in workers:
        await asyncio.wait_for(worker.inside.wait(), 1)
        worker.leave.set()
        await worker.task
