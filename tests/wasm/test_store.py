"""The time and the limits of a call, whatever runs in it."""

import threading

import pytest

from edgecache.clock import ManualClock
from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Limits
from edgecache.wasm.engine import Engine
from edgecache.wasm.module import Module
from edgecache.wasm.store import Store
from tests.wasm.conftest import TICK, Scripted, request


class Empty(Store):
    """Nothing runs in it."""

    __slots__ = ("opened",)

    def _open(self) -> None:
        self.opened = True


class Broken(Store):
    """Cannot be opened."""

    def _open(self) -> None:
        raise FunctionFault(Fault.TRAP, "in start")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def held(clock):
    made = Engine(instances=2, memory=1 << 20, tick=TICK, clock=clock)
    yield made
    made.close()


def test_it_is_alive_inside_its_with_only(held) -> None:
    store = Empty(held, held.pool, request(), Limits(), None)
    assert held.live == 0
    with store as opened:
        assert opened is store
        assert held.live == 1
        assert held.alive[store._key] is store
    assert held.live == 0
    assert not hasattr(store, "context")


def test_one_that_cannot_be_opened_is_gone(held) -> None:
    for _ in range(5):
        with pytest.raises(FunctionFault, match="in start"), Broken(held, held.pool, request(), Limits(), None):
            pass
    assert held.live == 0


def test_an_exception_inside_closes_it(held) -> None:
    with pytest.raises(ZeroDivisionError), Empty(held, held.pool, request(), Limits(), None):
        raise ZeroDivisionError
    assert held.live == 0


def test_without_a_host_everything_is_refused(held) -> None:
    with Empty(held, held.pool, request(), Limits(), None) as store:
        assert store.host_call("kv.get", b"") == b"!denied\nkv.get is not granted to this function"
        assert store.finish().host_calls == 1


def test_a_host_call_past_the_wall_deadline_is_not_made(held, clock) -> None:
    host = Scripted()
    with Empty(held, held.pool, request(), Limits(wall=1.0), host) as store:
        store.host_call("a", b"1")
        clock.advance(1.5)
        with pytest.raises(FunctionFault, match="more than its 1000 ms in all") as fault:
            store.host_call("b", b"2")
        assert fault.value.fault == Fault.WALL
    assert host.asked == [("a", b"1")]


def test_a_host_call_that_ends_past_the_deadline_is_over(held, clock) -> None:
    def slow(_op, _argument) -> bytes:
        clock.advance(2.0)
        return b"="

    with (
        Empty(held, held.pool, request(), Limits(wall=1.0), Scripted(slow)) as store,
        pytest.raises(FunctionFault) as fault,
    ):
        store.host_call("a", b"")
    assert fault.value.fault == Fault.WALL


def test_a_fault_of_the_host_goes_before_that_of_the_time(held, clock) -> None:
    def spent(_op, _argument) -> bytes:
        clock.advance(2.0)
        raise FunctionFault(Fault.BUDGET, "100 host calls")

    with (
        Empty(held, held.pool, request(), Limits(wall=1.0), Scripted(spent)) as store,
        pytest.raises(FunctionFault) as fault,
    ):
        store.host_call("a", b"")
    assert fault.value.fault == Fault.BUDGET


def test_cpu_time_that_is_used_up_ends_it_at_the_next_host_call(held) -> None:
    with Empty(held, held.pool, request(), Limits(cpu=0.0), Scripted()) as store:
        with pytest.raises(FunctionFault, match="more than its 0 ms in the sandbox") as fault:
            store.host_call("a", b"")
        assert fault.value.fault == Fault.CPU


def test_what_it_took(held, clock) -> None:
    with Empty(
        held, held.pool, request(), Limits(), Scripted(lambda _op, _argument: clock.advance(0.25) or b"=")
    ) as store:
        store.host_call("a", b"")
        usage = store.finish()
        assert (usage.wall, usage.host_calls, usage.memory) == (0.25, 1, 0)
        assert 0.0 < usage.cpu < 0.2


def test_an_exception_kept_from_inside_is_told_once(held) -> None:
    with Empty(held, held.pool, request(), Limits(), None) as store:
        store.error = error = ValueError("inside")
        assert store.failed("wasm trap: interrupt") is error
        assert isinstance(store.failed("wasm trap: interrupt"), FunctionFault)


def test_epochs_that_pass_while_the_thread_waits_are_not_held_against_it(engine, compiled) -> None:
    """Ten thousand epochs in a call whose limit is fifty, of a guest that needs a few milliseconds."""
    guest = Module(
        engine,
        compiled(
            """(module (func (export "count") (param i32) (result i32) (local i32)
            (loop (local.set 1 (i32.add (local.get 1) (i32.const 1)))
              (br_if 0 (i32.lt_u (local.get 1) (local.get 0))))
            local.get 1))"""
        ),
        {},
    )
    over = threading.Event()

    def hurry() -> None:
        while not over.wait(0.0002):
            for _ in range(200):
                engine._increment()

    thread = threading.Thread(target=hurry)
    thread.start()
    try:
        with guest.open(request(), Limits(cpu=0.05, wall=5.0), None) as sandbox:
            assert sandbox.call("count", 5_000_000) == 5_000_000
            assert sandbox.finish().cpu > 0.001
    finally:
        over.set()
        thread.join()
        guest.close()


def test_time_that_is_spent_is_held_against_it(held, clock) -> None:
    spent = Empty(held, held.pool, request(), Limits(cpu=0.0, wall=1.0), None)
    with pytest.raises(FunctionFault, match="0 ms in the sandbox"), spent as store:
        store.late()
    with Empty(held, held.pool, request(), Limits(cpu=9.0, wall=1.0), None) as store:
        assert store.late() >= 1
        clock.advance(1.5)
        with pytest.raises(FunctionFault, match="1000 ms in all"):
            store.late()
