from typing import Any

from edgecache.cache.evidence import Label
from edgecache.clock import SystemClock
from edgecache.config import Cache, Learning, Semantic
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheStatus
from tests.conftest import Pop, call, read

SETTINGS = Cache(semantic=Semantic(floor=0.5))
LOOSE = Cache(semantic=Semantic(policy="similarity", similarity=0.5, floor=0.4), learning=Learning(sample=0.0))
QUESTION = "How many moons does the planet Mars have"


async def explain(pop: Pop, body: Any, settings: Cache = SETTINGS) -> dict[str, Any]:
    return await pop.daemon.parts.explainer.explain(call(body), settings, Trace(SystemClock()))


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
    assert (report["verdict"], report["rule"]) == ("SEMANTIC_HIT", "identical")
    (stored,) = report["questions"]
    (candidate,) = report["candidates"]
    assert stored["question"] == QUESTION
    assert stored["entry"] == candidate["entry"]
    assert candidate["similarity"] > 0.9
    assert candidate["identical"]
    assert report["hits"] == {"policy": "budget", "budget": 0.005, "mode": "serve", "contextual": False}
    assert report["segment"]["requests"] == 1
    assert report["risk"] < 0.1


async def test_a_refusal_says_what_tells_the_questions_apart_and_which_limit_holds(pop: Pop) -> None:
    await fill(pop)
    report = await explain(pop, QUESTION.replace("Mars", "Jupiter"))
    assert (report["verdict"], report["rule"]) == ("MISS", "risk")
    (candidate,) = report["candidates"]
    assert "entities" in candidate["apart"]
    assert candidate["risk"] > report["limit"]


async def test_a_pair_that_was_called_bad_says_so(pop: Pop) -> None:
    await fill(pop)
    pop.daemon.pipeline.settings = LOOSE
    asked = "How many moons does the planet Mars really have"
    reply = await pop.ask(asked)
    assert reply.cache.status == CacheStatus.SEMANTIC_HIT
    entry = pop.daemon.store.get(reply.cache.entry_id)
    key = pop.daemon.pipeline._planner.plan(call(asked), LOOSE).key
    await pop.daemon.parts.learner.learn(key, entry, Label(0.9, 0.5, right=False, hit=True))
    report = await explain(pop, asked, LOOSE)
    assert (report["verdict"], report["rule"]) == ("MISS", "bad-pair")
    assert [each["refused"] for each in report["candidates"]] == ["bad-pair"]


async def test_a_bypass_names_its_reason(pop: Pop) -> None:
    report = await explain(pop, {"messages": [{"role": "user", "content": QUESTION}], "temperature": 1.5})
    assert (report["verdict"], report["rule"]) == ("BYPASS", "temperature")


async def test_explaining_changes_nothing(pop: Pop) -> None:
    await explain(pop, QUESTION)
    assert pop.daemon.store.stats().entries == 0
