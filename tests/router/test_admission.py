"""Waiting for room: bounds, order, deadlines, and that nobody waits for nothing. Only the tests' loop moves time."""

import asyncio
import selectors
from collections import Counter
from collections.abc import Awaitable, Coroutine
from math import inf
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.clock import ManualClock, SystemClock
from edgecache.config import ServiceLevel, ServiceLevels
from edgecache.errors import NoUpstream, Overloaded
from edgecache.router.admission import Admission
from edgecache.router.demand import Demand
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import ServiceClass

T = TypeVar("T")
REALTIME, INTERACTIVE, STANDARD, BATCH = ServiceClass
LEVEL = ServiceLevel()


class _Skipping(selectors.SelectSelector):
    """Moves the clock where it would have to wait."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits for ever"
        if timeout > 0:
            self._clock.advance(timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time."""

    def __init__(self, clock: ManualClock) -> None:
        self._manual = clock
        super().__init__(_Skipping(clock))

    def time(self) -> float:
        return self._manual.monotonic()


class Room:
    """A place where `slots` requests run at once, and the waiting room before it."""

    def __init__(self, slots: int = 0, *, max_waiting: int = 2048) -> None:
        self.clock = ManualClock(0.0)
        self.metrics = Metrics()
        self.admission = Admission(max_waiting, clock=self.clock, metrics=self.metrics)
        self.tasks = Tasks()
        self.slots = slots
        self.asked = 0
        self.let_in: list[str] = []
        self.refused: dict[str, Overloaded] = {}

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=lambda: _Loop(self.clock)) as runner:
            return runner.run(story)

    def take(self) -> bool | None:
        self.asked += 1
        if self.slots <= 0:
            return None
        self.slots -= 1
        return True

    def free(self, count: int = 1) -> None:
        self.slots += count
        self.admission.released()

    def turn(self, service: ServiceClass = STANDARD, **more: Any) -> Awaitable[Any]:
        keys = ("take", "group", "wait", "seconds")
        rest = {"take": self.take, "group": "m", "wait": 0.0} | {key: more.pop(key) for key in keys if key in more}
        level = more.pop("level", LEVEL)
        return self.admission.turn(Demand("m", service=service, **more), level, rest.pop("take"), **rest)

    def come(self, name: str, service: ServiceClass = STANDARD, **more: Any) -> asyncio.Task[None]:
        """Somebody arrives, and what becomes of it is noted."""

        async def wait() -> None:
            try:
                await self.turn(service, **more)
            except Overloaded as error:
                self.refused[name] = error
            else:
                self.let_in.append(name)

        return self.tasks.spawn(wait(), name=name)

    def shed(self, service: ServiceClass, reason: str) -> float:
        return self.metrics.shed.labels(service.value, reason)._value.get()


async def settled() -> None:
    """Until all that follows at once has happened. No time passes."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_who_finds_room_does_not_wait() -> None:
    room = Room(1)

    async def story() -> None:
        assert await room.turn() is True
        assert (room.admission.waiting, room.clock.monotonic()) == (0, 0.0)

    room.run(story())


def test_who_finds_none_waits_until_there_is_some() -> None:
    room = Room()

    async def story() -> None:
        task = room.come("a")
        await asyncio.sleep(7)
        assert (room.admission.waiting, room.let_in) == (1, [])
        room.free()
        await task
        assert (room.admission.waiting, room.let_in) == (0, ["a"])
        assert room.metrics.wait_duration.labels("standard")._sum.get() == pytest.approx(7)

    room.run(story())


def test_better_classes_come_first_and_one_tenant_is_served_in_its_order() -> None:
    room = Room()

    async def story() -> None:
        for index, service in enumerate((BATCH, STANDARD, REALTIME, BATCH, INTERACTIVE, REALTIME)):
            room.come(f"{service.value} {index}", service)
        await settled()
        room.free(6)
        await settled()
        assert room.let_in == ["realtime 2", "realtime 5", "interactive 4", "standard 1", "batch 0", "batch 3"]

    room.run(story())


def test_tenants_of_one_class_share_by_weight_and_by_what_their_requests_cost() -> None:
    room = Room()

    async def story() -> None:
        for tenant, weight, output in (("a", 1.0, 0.0), ("b", 3.0, 0.0), ("c", 3.0, 300.0)):
            for _ in range(100):
                room.come(tenant, tenant=tenant, weight=weight, prompt_tokens=100, output_tokens=output)
        await settled()
        for _ in range(95):
            room.free()
            await settled()
        had = Counter(room.let_in)  # 1 : 3 : 3/4 of the requests, as the third's are four times as long
        assert abs(had["a"] - 20) <= 1
        assert abs(had["b"] - 60) <= 1

    room.run(story())


def test_a_newcomer_waits_behind_its_equals_and_betters_only() -> None:
    room = Room()

    async def story() -> None:
        assert not room.admission.crowded(BATCH, "m")
        room.come("standard")
        await settled()
        crowded = [room.admission.crowded(service, "m") for service in ServiceClass]
        assert crowded == [False, False, True, True]
        assert not room.admission.crowded(BATCH, "other")
        room.slots = 1  # and nobody has been told so yet: a lesser one does not push in, a better one may
        room.come("batch", BATCH)
        room.come("realtime", REALTIME)
        await settled()
        assert room.let_in == ["realtime"]
        room.free(2)
        await settled()
        assert room.let_in == ["realtime", "standard", "batch"]

    room.run(story())


def test_one_group_without_room_holds_up_no_other_and_is_asked_once_a_round() -> None:
    room = Room()

    async def story() -> None:
        for index in range(200):
            room.come(f"full {index}", list(ServiceClass)[index % 4], take=room.take)
        free = Room(0)
        other = room.come("other", BATCH, take=free.take, group="other")
        await settled()
        free.slots, room.asked = 1, 0
        room.admission.released()
        await other
        assert room.let_in == ["other"]
        assert room.asked == 1

    room.run(story())


def test_a_round_over_many_groups_leaves_the_loop_to_others_and_comes_to_its_end() -> None:
    room = Room()
    asked: Counter[int] = Counter()

    def take(index: int) -> bool | None:
        asked[index] += 1
        return True if index == 299 and room.slots else None

    async def story() -> None:
        for index in range(300):
            room.come(f"{index}", group=index, take=lambda index=index: take(index))
        await settled()
        room.slots = 1
        asked.clear()
        for _ in range(1000):  # news all the time must not keep the last from being asked
            room.admission.released()
            before = asked.total()
            await asyncio.sleep(0.001)
            assert asked.total() - before <= 8
            if room.let_in:
                break
        assert room.let_in == ["299"]
        assert max(asked.values()) <= 2

    room.run(story())


def test_news_for_a_group_that_was_asked_in_this_round_already_is_not_lost() -> None:
    room = Room()

    async def story() -> None:
        for index in range(20):
            room.come(f"{index}", group=index, take=room.take if index == 0 else lambda: None)
        await settled()
        room.admission.released()
        asked = room.asked
        while room.asked == asked:
            await asyncio.sleep(0)
        room.free()
        before = room.clock.monotonic()
        while not room.let_in:
            await asyncio.sleep(0.001)
        assert room.clock.monotonic() - before < 0.02  # sooner than it would have been found without news

    room.run(story())


def test_what_time_makes_room_for_is_found_without_news() -> None:
    room = Room()

    async def story() -> None:
        task = room.come("a", take=lambda: True if room.clock.monotonic() >= 3 else None)
        await task
        assert 3 <= room.clock.monotonic() <= 3.1

    room.run(story())


def test_nothing_is_polled_while_nobody_waits() -> None:
    room = Room()

    async def story() -> None:
        room.come("a")
        await settled()
        room.free()
        await asyncio.sleep(1)
        asked = room.asked
        await asyncio.sleep(10)
        assert (room.asked, room.admission._polling) == (asked, False)

    room.run(story())


def test_a_class_whose_queue_is_full_refuses_at_once() -> None:
    room = Room()

    async def story() -> None:
        for index in range(3):
            room.come(f"{index}", BATCH, level=ServiceLevel(queue=2))
        await settled()
        assert list(room.refused) == ["2"]
        error = room.refused["2"]
        assert (error.status, error.code, error.retry_after) == (503, "queue_full", 1)
        assert "router.classes.batch.queue = 2" in error.message
        assert "Try again in 1 s" in error.message
        assert room.shed(BATCH, "queue_full") == 1
        room.come("better", STANDARD, level=ServiceLevel(queue=1))
        await settled()
        assert room.admission.waiting == 3

    room.run(story())


def test_in_a_full_waiting_room_the_newest_of_the_least_class_gives_way_to_a_better_one() -> None:
    room = Room(max_waiting=3)

    async def story() -> None:
        for name, service in (("s1", STANDARD), ("b1", BATCH), ("b2", BATCH), ("b3", BATCH)):
            room.come(name, service)
        await settled()
        assert {name: error.code for name, error in room.refused.items()} == {"b3": "queue_full"}
        assert "router.max_waiting = 3" in room.refused["b3"].message
        for name, service in (("r1", REALTIME), ("i1", INTERACTIVE), ("s2", STANDARD), ("r2", REALTIME)):
            room.come(name, service)
            await settled()
        codes = {name: error.code for name, error in room.refused.items()}
        assert codes == {"b3": "queue_full", "b2": "shed", "b1": "shed", "s2": "queue_full", "s1": "shed"}
        assert all(error.retry_after >= 1 for error in room.refused.values())
        assert (room.shed(BATCH, "shed"), room.shed(STANDARD, "shed"), room.admission.waiting) == (2, 1, 3)

    room.run(story())


def test_a_smaller_waiting_room_after_a_reload_holds_for_those_who_come() -> None:
    room = Room(max_waiting=10)

    async def story() -> None:
        for index in range(5):
            room.come(f"{index}")
        await settled()
        room.admission.max_waiting = 2
        room.come("late")
        await settled()
        assert (list(room.refused), room.admission.waiting) == (["late"], 5)

    room.run(story())


@pytest.mark.parametrize(
    ("wait", "seconds", "code"), [(3, 1.5, None), (3, 2.5, "predicted_miss"), (6, 0, "predicted_miss")]
)
def test_what_would_miss_its_deadline_is_refused_at_once(wait: float, seconds: float, code: str | None) -> None:
    room = Room()

    async def story() -> None:
        room.come("a", due=5.0, wait=wait, seconds=seconds)
        await settled()
        assert [error.code for error in room.refused.values()] == ([code] if code else [])
        if code:
            assert room.refused["a"].retry_after == wait
            assert "due in 5.0 s" in room.refused["a"].message
            assert room.shed(STANDARD, code) == 1

    room.run(story())


async def _one_a_second(room: Room, count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(1)
        room.free()
        await settled()


def test_the_wait_is_predicted_from_how_fast_those_ahead_are_served() -> None:
    room = Room()

    async def story() -> None:
        for index in range(40):
            room.come(f"{index}")
        await settled()
        await _one_a_second(room, 20)
        room.come("soon", due=room.clock.monotonic() + 15)
        room.come("later", due=room.clock.monotonic() + 25)
        room.come("better", REALTIME, due=room.clock.monotonic() + 2)
        await settled()
        assert list(room.refused) == ["soon"]
        assert room.refused["soon"].retry_after == 20
        await _one_a_second(room, 22)
        assert room.let_in[-1] == "later"

    room.run(story())


def test_all_of_better_classes_count_as_ahead() -> None:
    room = Room()

    async def story() -> None:
        for index in range(20):
            room.come(f"{index}", REALTIME, tenant="other")
        await settled()
        await _one_a_second(room, 10)
        room.come("soon", due=room.clock.monotonic() + 8)
        room.come("later", due=room.clock.monotonic() + 12)
        await settled()
        assert list(room.refused) == ["soon"]

    room.run(story())


def test_nobody_is_told_to_come_back_later_than_clients_would() -> None:
    room = Room()

    async def story() -> None:
        await room.come("a", wait=5000.0, due=10.0)
        await room.come("b", wait=inf, due=10.0)
        assert [error.retry_after for error in room.refused.values()] == [120, 120]

    room.run(story())


def test_who_has_few_waiting_is_not_refused_for_the_queue_of_another() -> None:
    room = Room()

    async def story() -> None:
        for index in range(100):
            room.come(f"{index}", tenant="heavy")
        await settled()
        await _one_a_second(room, 10)
        due = room.clock.monotonic() + 5
        room.come("heavy", tenant="heavy", due=due)
        room.come("light", tenant="light", due=due)
        await settled()
        assert list(room.refused) == ["heavy"]
        await _one_a_second(room, 2)
        assert "light" in room.let_in

    room.run(story())


def test_time_in_which_nobody_waited_does_not_make_the_pace_look_slow() -> None:
    room = Room()

    async def story() -> None:
        for round_ in range(2):
            for index in range(10):
                room.come(f"{round_} {index}")
            await settled()
            await _one_a_second(room, 10)
            await asyncio.sleep(500)
        for index in range(4):
            room.come(f"new {index}")
        await settled()
        room.come("due", due=room.clock.monotonic() + 6)
        await settled()
        assert not room.refused

    room.run(story())


def test_who_waits_past_its_deadline_is_dropped_at_that_moment() -> None:
    room = Room()

    async def story() -> None:
        task = room.come("a", due=2.5)
        await task
        assert room.clock.monotonic() == pytest.approx(2.5, abs=0.001)
        error = room.refused["a"]
        assert (error.code, error.retry_after, room.admission.waiting) == ("due_time_passed", 1, 0)
        await room.come("too late", due=2.4)
        assert room.refused["too late"].code == "due_time_passed"
        assert room.shed(STANDARD, "due_time_passed") == 2

    room.run(story())


def test_who_comes_after_its_deadline_gets_nothing_even_where_there_is_room() -> None:
    room = Room(1)

    async def story() -> None:
        await room.come("a", due=0.0)
        assert (room.refused["a"].code, room.slots) == ("due_time_passed", 1)

    room.run(story())


def test_who_gives_up_leaves_without_a_trace() -> None:
    room = Room()

    async def story() -> None:
        tasks = [room.come(f"{index}", tenant=f"{index}", group=index % 3, due=50.0) for index in range(9)]
        await settled()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        running = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
        assert len(running) <= 1  # the next look for room
        assert room.admission.waiting == 0
        assert room.metrics.waiting.labels("standard")._value.get() == 0
        assert all(not line._groups for line in room.admission._lines.values())
        await asyncio.sleep(60)
        assert (room.refused, room.let_in, room.shed(STANDARD, "due_time_passed")) == ({}, [], 0)

    room.run(story())


def test_who_gives_up_while_others_are_let_in_is_not_asked() -> None:
    room = Room()

    async def story() -> None:
        def take() -> bool | None:
            if room.slots:
                second.cancel()
            return room.take()

        room.come("first", take=take)
        second = room.come("second")
        room.come("third")
        await settled()
        room.free(2)
        await settled()
        assert (room.let_in, room.slots, second.cancelled()) == (["first", "third"], 0, True)

    room.run(story())


async def _use(room: Room, log: list[str]) -> None:
    """What every caller does: take the slot, use it, give it back."""
    await room.turn()
    try:
        log.append("begun")
        await asyncio.sleep(100)
        log.append("used")
    finally:
        room.free()


def test_who_is_cancelled_while_it_is_let_in_gives_back_what_it_got() -> None:
    room = Room()
    log: list[str] = []

    async def story() -> None:
        task = room.tasks.spawn(_use(room, log), name="use")
        await settled()
        room.free()
        while room.slots:
            await asyncio.sleep(0)
        assert (log, room.admission.waiting) == ([], 0)  # the slot is taken for it, and it does not know yet
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (task.cancelled(), log, room.slots) == (True, ["begun"], 1)

    room.run(story())


def test_a_timeout_in_the_moment_of_being_let_in_is_still_a_timeout() -> None:
    room = Room()
    log: list[str] = []

    async def story() -> None:
        async with asyncio.timeout(None) as scope:

            def take() -> bool | None:
                if room.take() is None:
                    return None
                scope.reschedule(asyncio.get_running_loop().time())  # it ends before the task hears of its slot
                return True

            asyncio.get_running_loop().call_later(1.0, room.free)
            await room.turn(take=take)
            log.append("begun")
            try:
                await asyncio.sleep(100)
            finally:
                room.free()

    with pytest.raises(TimeoutError):
        room.run(story())
    assert (log, room.slots, room.clock.monotonic()) == (["begun"], 1, pytest.approx(1.0, abs=0.01))


def test_an_error_of_one_try_is_that_requests_own() -> None:
    room = Room()

    def gone() -> bool | None:
        if room.slots:
            raise NoUpstream("it has been taken out")
        return None

    async def story() -> None:
        unlucky = asyncio.ensure_future(room.turn(take=gone))  # noqa: TID251 - a test awaits it itself
        await settled()
        room.come("next")
        await settled()
        room.free()
        with pytest.raises(NoUpstream):
            await unlucky
        await settled()
        assert room.let_in == ["next"]

    room.run(story())


def test_a_defect_in_one_try_does_not_hold_up_those_behind_it() -> None:
    room = Room()
    reported: list[Any] = []

    def broken() -> bool | None:
        if room.slots:
            raise KeyError("row")
        return None

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        unlucky = asyncio.ensure_future(room.turn(take=broken))  # noqa: TID251
        await settled()
        room.come("next")
        await settled()
        room.free()
        with pytest.raises(KeyError):
            await unlucky
        await asyncio.sleep(0.2)
        assert room.let_in == ["next"]
        assert [type(error) for error in reported] == [KeyError]

    room.run(story())


def test_paces_of_groups_that_come_and_go_do_not_pile_up() -> None:
    room = Room()

    async def story() -> None:
        for index in range(1000):
            await room.come(f"{index}", group=index, due=room.clock.monotonic() + 0.01)
        assert len(room.admission._paces) <= 256

    room.run(story())


ARRIVAL = st.tuples(
    st.just("come"),
    st.sampled_from(ServiceClass),
    st.sampled_from("abc"),
    st.sampled_from("mn"),
    st.sampled_from([0.5, 3.0, inf]),
)
STEP = st.one_of(
    ARRIVAL,
    ARRIVAL,
    st.tuples(st.just("free"), st.sampled_from("mn"), st.integers(1, 3)),
    st.tuples(st.just("leave"), st.integers(0, 30)),
    st.tuples(st.just("pass"), st.sampled_from([0.1, 1.0])),
)


class _Story:
    """Runs steps and checks, after each, what must always be true."""

    def __init__(self, steps: list[tuple[Any, ...]]) -> None:
        self.room = Room(max_waiting=8)
        self.steps = steps
        self.slots = Counter({"m": 1, "n": 1})
        self.waiting: dict[asyncio.Task[None], tuple[ServiceClass, str]] = {}
        self.outcomes: Counter[str] = Counter()

    async def tell(self) -> None:
        for kind, *rest in self.steps:
            getattr(self, "_" + kind)(*rest) if kind != "pass" else await asyncio.sleep(rest[0])
            await settled()
            self.check()
        for task in self.waiting:
            task.cancel()
        await settled()
        assert self.room.admission.waiting == 0

    def check(self) -> None:
        admission = self.room.admission
        self.waiting = {task: what for task, what in self.waiting.items() if not task.done()}
        assert admission.waiting == len(self.waiting) <= 8
        for service in ServiceClass:
            count = [each for each, _ in self.waiting.values()].count(service)
            assert count <= 4
            assert self.room.metrics.waiting.labels(service.value)._value.get() == count
        for _, group in self.waiting.values():
            assert not self.slots[group], "somebody waits although there is room"

    def _come(self, service: ServiceClass, tenant: str, group: str, seconds: float) -> None:
        def take() -> bool | None:
            if not self.slots[group]:
                return None
            betters = [each for each, other in self.waiting.values() if other == group and each.rank < service.rank]
            assert not [each for each in betters if self.room.admission._lines[each].count(group)]
            self.slots[group] -= 1
            return True

        due = self.room.clock.monotonic() + seconds
        more = {"tenant": tenant, "group": group, "take": take, "due": due, "level": ServiceLevel(queue=4)}
        self.waiting[self.room.come("x", service, **more)] = service, group

    def _free(self, group: str, count: int) -> None:
        self.slots[group] += count
        self.room.admission.released()

    def _leave(self, index: int) -> None:
        if self.waiting:
            list(self.waiting)[index % len(self.waiting)].cancel()


@settings(deadline=None, max_examples=150)
@given(st.lists(STEP, max_size=40))
def test_bounds_order_and_nobody_waiting_for_nothing_hold_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    story = _Story(steps)
    story.room.run(story.tell())


def test_a_refusal_takes_as_little_time_with_thousands_waiting() -> None:
    room = Room(max_waiting=5000)
    clock = SystemClock()

    async def story() -> list[float]:
        for index in range(5000):
            room.come(f"{index}", BATCH, tenant=f"tenant {index % 500}", level=ServiceLevel(queue=5000))
        await settled()
        assert room.admission.waiting == 5000
        times = []
        for _ in range(200):
            before = clock.monotonic()
            with pytest.raises(Overloaded):
                await room.turn(BATCH, tenant="tenant 7", level=ServiceLevel(queue=5000))
            times.append(clock.monotonic() - before)
        for task in room.tasks:
            task.cancel()
        await settled()
        return times

    times = sorted(room.run(story()))
    assert times[len(times) // 2] < 0.001


class Cluster:
    """A cluster with `slots` places, of which lesser classes fill no more than their share, and its clients."""

    def __init__(self, slots: int) -> None:
        self.room = Room(max_waiting=2048)
        self.levels = ServiceLevels()
        self.slots = slots
        self.running = 0
        self.good: Counter[ServiceClass] = Counter()
        self.slowest_refusal = 0.0

    def take(self, level: ServiceLevel) -> bool | None:
        if self.running >= self.slots * level.share:
            return None
        self.running += 1
        return True

    async def client(self, service: ServiceClass, seconds: float, patience: float) -> None:
        clock, level = self.room.clock, getattr(self.levels, service.value)
        came = clock.monotonic()
        demand = Demand("m", service=service, due=came + patience, output_tokens=seconds * 50)
        try:
            await self.room.admission.turn(demand, level, lambda: self.take(level), group="m", wait=0.0, seconds=0.5)
        except Overloaded as error:
            if error.code not in {"shed", "due_time_passed"}:
                self.slowest_refusal = max(self.slowest_refusal, clock.monotonic() - came)
            return
        await asyncio.sleep(seconds)
        self.running -= 1
        self.room.admission.released()
        if clock.monotonic() <= demand.due:
            self.good[service] += 1

    async def burst(self, rates: dict[ServiceClass, float]) -> None:
        """Twenty seconds in which requests of each class come at these rates a second; answers take half a second."""
        loop = asyncio.get_running_loop()
        clients = []
        for service, rate in rates.items():
            draw, at = Random(service.value), 0.0
            while (at := at + draw.expovariate(rate)) < 20:
                work = service, draw.expovariate(2.0), 3.0 if service is REALTIME else 20.0
                loop.call_at(
                    at, lambda work=work: clients.append(self.room.tasks.spawn(self.client(*work), name="client"))
                )
        await asyncio.sleep(20)
        await asyncio.gather(*clients)


def test_a_burst_of_ten_times_capacity_costs_realtime_nothing() -> None:
    alone, crowd = Cluster(20), Cluster(20)  # forty requests a second
    alone.room.run(alone.burst({REALTIME: 30}))
    crowd.room.run(crowd.burst({REALTIME: 30, INTERACTIVE: 70, STANDARD: 150, BATCH: 150}))
    assert alone.good[REALTIME] > 500
    assert crowd.good[REALTIME] >= 0.95 * alone.good[REALTIME]
    assert crowd.slowest_refusal == 0.0
    assert sum(crowd.good.values()) > sum(alone.good.values())  # what realtime leaves is used
    assert sum(crowd.room.shed(service, "queue_full") for service in ServiceClass) > 100


def test_ten_times_as_many_of_one_class_still_get_all_there_is() -> None:
    alone, crowd = Cluster(20), Cluster(20)
    alone.room.run(alone.burst({REALTIME: 40}))
    crowd.room.run(crowd.burst({REALTIME: 400}))
    assert crowd.good[REALTIME] >= 0.95 * alone.good[REALTIME]
