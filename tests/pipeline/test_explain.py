from typing import Any

from edgecache.clock import SystemClock
from edgecache.config import Cache, Semantic
from edgecache.telemetry.trace import Trace
from tests.conftest import Pop, call, read

SETTINGS = Cache(semantic=Semantic(threshold=0.6))
QUESTION = "How many moons does the planet Mars have"


async def explain(pop: Pop, body: Any, settings: Cache = SETTINGS) -> dict[str, Any]:
    return await pop.daemon._explainer.explain(call(body), settings, Trace(SystemClock()))


async def fill(pop: Pop) -> None:
    await read(await pop.ask(QUESTION))
    await pop.settled()


async def test_an_unknown_question_is_a_miss_with_its_scope_and_digest(pop: Pop) -> None:
    report = await explain(pop, QUESTION)
    assert (report["verdict"], report["exact"]) == ("MISS", {"found": False})
    assert report["question"] == QUESTION
    assert len(report["digest"]) == 64
    assert report["scope_fields"]["model"] == "edge-test"


async def test_the_same_request_is_an_exact_hit(pop: Pop) -> None:
    await fill(pop)
    report = await explain(pop, QUESTION)
    assert (report["verdict"], report["rule"]) == ("HIT", "exact")
    assert report["exact"]["usable"]


async def test_a_near_question_shows_its_neighbours_and_the_rule(pop: Pop) -> None:
    await fill(pop)
    report = await explain(pop, QUESTION.lower() + "?")
    assert report["verdict"] == "SEMANTIC_HIT"
    (neighbour,) = report["neighbours"]
    assert neighbour["question"] == QUESTION
    assert neighbour["similarity"] > 0.9


async def test_a_refusal_shows_each_guards_word(pop: Pop) -> None:
    await fill(pop)
    report = await explain(pop, QUESTION.replace("Mars", "Jupiter"))
    assert report["verdict"] == "MISS"
    words = [word for candidate in report["guards"] for word in candidate["guards"]]
    assert any(not word["passed"] for word in words)


async def test_a_bypass_names_its_reason(pop: Pop) -> None:
    report = await explain(pop, {"messages": [{"role": "user", "content": QUESTION}], "temperature": 1.5})
    assert (report["verdict"], report["rule"]) == ("BYPASS", "temperature")


async def test_explaining_changes_nothing(pop: Pop) -> None:
    await explain(pop, QUESTION)
    assert pop.daemon.store.stats().entries == 0
