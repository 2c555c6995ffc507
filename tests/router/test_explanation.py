from math import inf

import orjson

from edgecache.errors import ModelNotFound
from edgecache.router import explanation
from edgecache.router.choice import Choice, Line, Refusal
from edgecache.router.demand import Demand, Feature, Prefix
from edgecache.router.routes import Leg
from edgecache.types import Attempt, ServiceClass, Tier

LEG = Leg("llama", keep=True, small=False, why="target")


def test_the_header_is_compact_and_safe_whatever_the_model_is_called() -> None:
    choice = Choice(
        ("core-1", "b"), "cheapest", ttft=(0.12, 1.0), late=(1.0, 1.0), total=(2.0, 1.0), cost=(0.00031, 1.0)
    )
    record = Attempt("core-1", "core", "", "llama")
    said = explanation.header(record, choice, service="standard", offered=4, attempts=2, hedged=True)
    assert said == (
        "core-1;tier=core;model=llama;class=standard;why=cheapest;of=4;ttft=0.120;cost=0.000310;attempts=2;hedged"
    )
    odd = Attempt("core-1", "core", "", "meta/llama-3:8b\r\nx;y=ü")
    said = explanation.header(odd, choice, service="batch", offered=1, attempts=1, hedged=False)
    assert ";model=meta/llama-3:8b%0D%0Ax%3By%3D%C3%BC;class=batch;" in said
    assert said.isascii()
    assert said.endswith(";attempts=1")


def test_a_demand_is_told_without_what_identifies_a_prompt() -> None:
    needs = Demand(
        "m",
        service=ServiceClass.BATCH,
        features=Feature.TOOLS | Feature.VISION,
        residency=frozenset({"us", "de"}),
        due=1010.5,
        prefixes=(Prefix(b"digest", 5),),
        session=b"session",
        sticky=b"sticky",
    )
    said = explanation.demand(needs, 1000.0)
    text = orjson.dumps(said)
    assert (said["service_class"], said["features"], said["residency"]) == ("batch", ["tools", "vision"], ["de", "us"])
    assert (said["seconds"], said["budget"]) == (10.5, None)
    assert not any(secret in text for secret in (b"digest", b"sess", b"sticky"))
    assert explanation.demand(Demand("m"), 0.0)["seconds"] is None


def test_a_leg_is_told_with_every_upstream_and_why_it_is_out() -> None:
    lines = [
        Line("a", Tier.EDGE, "fra", "de", None, 0.1234567891234, 0.2, 1.0, 0.001, meets=True, chosen=1),
        Line("b", Tier.CORE, "", "us", Refusal.RESIDENCY, 0.1, 0.2, inf, 0.001, meets=False, chosen=0),
    ]
    choice = Choice(("a",), "only", counts={Refusal.RESIDENCY: 1})
    said = orjson.loads(orjson.dumps(explanation.leg(LEG, choice, lines)))
    assert (said["model"], said["why"], said["keep"]) == ("llama", "target", True)
    assert said["choice"]["refused"] == {"residency": 1}
    assert (said["choice"]["upstream"], said["choice"]["then"]) == ("a", [])
    assert [(line["name"], line["tier"], line["refusal"]) for line in said["upstreams"]] == [
        ("a", "edge", None),
        ("b", "core", "residency"),
    ]
    assert said["upstreams"][0]["ttft"] == 0.123456789
    none = explanation.leg(LEG, Choice(refusal=Refusal.FULL, wait=0.25), [])
    assert (none["choice"]["upstream"], none["choice"]["refusal"], none["choice"]["wait"]) == (None, "full", 0.25)


def test_a_model_that_nobody_offers_is_told_too() -> None:
    said = explanation.nobody(LEG, ModelNotFound("no such model"))
    assert (said["choice"], said["error"], said["upstreams"]) == (None, "no such model", [])
