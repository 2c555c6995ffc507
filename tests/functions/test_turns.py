"""Threads for calls: who is next, and who has to wait."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from threading import Event
from typing import Any

import pytest

from edgecache.functions.turns import Turn, Turns


class Desk:
    """Calls that run until they are told to end, and what is known of them."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._gates: dict[str, Event] = {}
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Condition()

    def call(self, name: str) -> Turn:
        """A call; its owner is the first letter of its name."""
        gate = self._gates[name] = Event()

        def work() -> str:
            self._loop.call_soon_threadsafe(self.begun.append, name)
            assert gate.wait(10)
            return name

        def ended(call: Future[Any]) -> None:
            self.ended.append("cancelled" if call.cancelled() else call.result())

        turn = Turn(name[0], work, ended)
        self.turns.take(turn)
        return turn

    def end(self, *names: str) -> None:
        for name in names:
            self._gates[name].set()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                await asyncio.sleep(0)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk(Turns(2))
    yield made
    made.end(*made._gates)
    await made.turns.close()


async def test_calls_of_one_owner_run_in_their_order_on_all_threads(desk: Desk) -> None:
    for name in ("a1", "a2", "a3", "a4"):
        desk.call(name)
    await desk.until(lambda: len(desk.begun) == 2)
    assert set(desk.begun) == {"a1", "a2"}
    desk.end("a1")
    await desk.until(lambda: len(desk.begun) == 3)
    assert (desk.begun[2], desk.ended) == ("a3", ["a1"])


async def test_owners_take_turns_however_many_calls_one_has(desk: Desk) -> None:
    for name in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
        desk.call(name)
    for index, name in enumerate(["a1", "a2", "a3", "b1", "c1"]):
        await desk.until(lambda name=name: name in desk.begun)
        desk.end(name)
        await desk.until(lambda index=index: len(desk.begun) == index + 3)
    assert desk.begun[2:] == ["a3", "b1", "c1", "a4", "b2"]


async def test_where_owners_share_none_has_all_threads(desk: Desk) -> None:
    desk.turns.shared = True
    for name in ("a1", "a2", "a3"):
        desk.call(name)
    desk.call("b1")
    await desk.until(lambda: len(desk.begun) == 2)
    assert set(desk.begun) == {"a1", "b1"}
    desk.end("b1")
    await desk.until(lambda: desk.ended == ["b1"])
    assert len(desk.begun) == 2
    desk.end("a1")
    await desk.until(lambda: "a2" in desk.begun)


async def test_one_owner_may_have_only_so_many_and_others_have_as_many(desk: Desk) -> None:
    for number in range(10):
        assert desk.turns.full("a") == 0
        desk.call(f"a{number}")
    assert desk.turns.full("a") == 10
    assert desk.turns.full("b") == 0
    desk.end("a0")
    await desk.until(lambda: desk.turns.full("a") == 0)


async def test_who_leaves_the_line_is_passed_over(desk: Desk) -> None:
    first, _, third = (desk.call(name) for name in ("a1", "a2", "a3"))
    desk.call("a4")
    desk.turns.leave(third)
    desk.turns.leave(first)  # runs already
    desk.end("a1")
    await desk.until(lambda: len(desk.begun) == 3)
    assert desk.begun[2] == "a4"
    assert desk.ended == ["a1"]


async def test_closing_waits_for_what_runs_and_cancels_what_waits() -> None:
    desk = Desk(Turns(1))
    for name in ("a1", "a2", "b1"):
        desk.call(name)
    await desk.until(lambda: desk.begun == ["a1"])
    desk.end("a1")
    await desk.turns.close()
    assert desk.ended[:2] == ["cancelled", "cancelled"]
    await desk.until(lambda: desk.ended[2:] == ["a1"])
    assert desk.begun == ["a1"]


async def test_what_was_raised_is_told(desk: Desk) -> None:
    told: list[BaseException | None] = []
    desk.turns.take(Turn("a", lambda: 1 // 0, lambda call: told.append(call.exception())))
    await desk.until(lambda: bool(told))
    assert isinstance(told[0], ZeroDivisionError)
