import asyncio

from edgecache.router.afterwards import Afterwards


async def test_work_is_done_in_order_and_not_at_once() -> None:
    done: list[int] = []
    later = Afterwards()
    for number in range(3):
        later.do(lambda number=number: done.append(number))
    assert done == []
    async with asyncio.timeout(5):
        while len(done) < 3:
            await asyncio.sleep(0.001)
    assert done == [0, 1, 2]


async def test_what_waits_can_be_done_now_and_is_done_once() -> None:
    done: list[str] = []
    later = Afterwards()
    later.do(lambda: done.append("a"))
    later.settle()
    assert done == ["a"]
    later.do(lambda: done.append("b"))
    async with asyncio.timeout(5):
        while len(done) < 2:
            await asyncio.sleep(0.001)
    assert done == ["a", "b"]


async def test_work_may_bring_more_work() -> None:
    done: list[str] = []
    later = Afterwards()
    later.do(lambda: later.do(lambda: done.append("second")))
    later.settle()
    assert done == []
    later.settle()
    assert done == ["second"]
