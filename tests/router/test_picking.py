import pytest

from edgecache.config import Price
from edgecache.errors import ModelNotFound, NoUpstream, ResidencyRefused
from edgecache.router.errand import Errand
from edgecache.router.picking import Pick, Waiting
from edgecache.router.routes import Leg
from edgecache.types import Account, Terms
from tests.router.conftest import asked


def errand_of(broker, call, *legs: Leg) -> Errand:
    demand = broker.dispatcher._desk.reader.demand(call)
    return Errand(call, demand, broker.dispatcher._level(demand), Account(), legs or (leg("edge-test"),))


def leg(model: str, why: str = "target") -> Leg:
    return Leg(model, keep=why != "fallback", small=why == "small", why=why)


async def test_a_pick_takes_the_place_that_the_next_one_sees(make_broker, dead_url) -> None:
    broker = make_broker({"a": (dead_url, {"max_concurrency": 1})}, levels={"share": 1.0})
    picker, first, second = broker.dispatcher._picker, errand_of(broker, asked()), errand_of(broker, asked())
    pick = picker.pick(first)
    assert isinstance(pick, Pick)
    assert (pick.client.name, first.slot) == ("a", pick.slot)
    waiting = picker.pick(second)
    assert isinstance(waiting, Waiting)
    assert waiting.model == "edge-test"
    assert waiting.wait > 0
    assert waiting.seconds > 0
    first.close()
    assert isinstance(picker.pick(second), Pick)
    second.close()
    assert broker.idle


async def test_legs_are_tried_in_order_and_those_that_were_tried_are_left_out(make_broker, dead_url) -> None:
    price = {"price": Price(input=1.0)}
    broker = make_broker({"a": (dead_url, price), "b": dead_url, "c": (dead_url, {"models": ("spare",)})})
    picker = broker.dispatcher._picker
    errand = errand_of(broker, asked(), leg("gone", "small"), leg("edge-test"), leg("spare", "fallback"))
    await picker.ask(errand)
    names = []
    for _ in range(3):
        pick = picker.pick(errand)
        names.append((pick.leg.model, pick.client.name))
        errand.failed(pick.client.name, pick.leg.model)
        errand.put_back()
    assert names == [("edge-test", "b"), ("edge-test", "a"), ("spare", "c")]
    with pytest.raises(NoUpstream, match="'edge-test'"):  # what was asked for, not what stood in
        picker.pick(errand)
    assert broker.idle


async def test_why_nobody_is_picked_is_that_of_the_model_asked_for(make_broker, dead_url) -> None:
    broker = make_broker({"a": (dead_url, {"jurisdiction": "us"})})
    errand = errand_of(
        broker, asked(terms=Terms(residency=frozenset({"de"}))), leg("edge-test"), leg("gone", "fallback")
    )
    await broker.dispatcher._picker.ask(errand)
    with pytest.raises(ResidencyRefused):
        broker.dispatcher._picker.pick(errand)
    unknown = errand_of(broker, asked("gone"), leg("gone"))
    await broker.dispatcher._picker.ask(unknown)
    with pytest.raises(ModelNotFound):
        broker.dispatcher._picker.pick(unknown)
