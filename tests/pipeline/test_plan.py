from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgecache.cache import key as keys
from edgecache.cache import policy
from edgecache.config import Cache, ScopePolicy, Semantic
from edgecache.pipeline.plan import Plan, Planner
from edgecache.sim.upstream import ScriptedCore
from edgecache.types import CacheStatus, Call, Controls, Mode, Tenant
from tests.conftest import Pop, call, read

SETTINGS = Cache()
QUESTION = "Who wrote Faust?"


def fresh(asked: Call, settings: Cache = SETTINGS) -> Plan:
    decision = policy.decide(asked, settings)
    if decision.bypass is not None:
        return Plan(decision, None)
    question = keys.question(asked) if decision.semantic else None
    return Plan(decision, keys.build(asked, embedder="e", end_user=decision.end_user, question=question))


def test_a_plan_is_the_decision_and_the_key() -> None:
    asked = call(QUESTION)
    plan = Planner(embedder="e").plan(asked, SETTINGS)
    assert plan == fresh(asked)
    assert plan.key is not None
    assert plan.key.text == QUESTION


def test_a_bypassed_request_has_no_key_until_one_is_asked_for() -> None:
    planner, asked = Planner(embedder="e"), call(QUESTION, mode=Mode.BYPASS)
    plan = planner.plan(asked, SETTINGS)
    assert (plan.decision.bypass, plan.key) == ("mode-bypass", None)
    assert planner.key(asked, plan.decision).tenant == "default"
    assert planner.fields(asked, plan.decision)["model"] == "edge-test"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([QUESTION, "Who wrote Hamlet?", "What is the price today?"]),
            st.sampled_from(["one", "two"]),
            st.sampled_from([Controls(), Controls(mode=Mode.BYPASS), Controls(ttl=5.0), Controls(namespace="n")]),
            st.sampled_from([SETTINGS, Cache(ttl=1.0), Cache(semantic=Semantic(enabled=False))]),
        ),
        max_size=30,
    )
)
def test_remembering_never_changes_a_plan(requests: list) -> None:
    planner = Planner(embedder="e")
    for question, tenant, controls, settings in requests:
        asked = replace(call(question, tenant=tenant), controls=controls)
        assert planner.plan(asked, settings) == fresh(asked, settings)


def test_what_is_remembered_is_bounded() -> None:
    planner = Planner(embedder="e")
    for number in range(2100):
        planner.plan(call(f"{QUESTION} {number}"), SETTINGS)
    planner.plan(call("x" * 10_000), SETTINGS)
    assert len(planner._plans) == 2048
    assert all(len(raw) <= 8192 for raw, *_ in planner._plans)


def test_the_same_bytes_of_another_tenant_are_another_request() -> None:
    planner, asked = Planner(embedder="e"), call(QUESTION)
    one = planner.plan(asked, SETTINGS)
    two = planner.plan(replace(asked, tenant=Tenant("other")), SETTINGS)
    assert one.key != two.key


def test_contextual_matching_is_what_the_policy_of_the_request_says() -> None:
    history = [
        {"role": "user", "content": "What is the best restaurant in Paris?"},
        {"role": "assistant", "content": "Ici."},
    ]
    asked = call({"messages": [*history, {"role": "user", "content": "And in Berlin?"}]})
    planner = Planner(embedder="e")
    loose = Cache(semantic=Semantic(scope=(ScopePolicy(tenant="default", contextual=True),)))
    plans = [planner.plan(asked, settings) for settings in (SETTINGS, loose)]
    assert [plan.key.text for plan in plans if plan.key] == [
        "And in Berlin?",
        "What is the best restaurant in Paris? | And in Berlin?",
    ]
    shown = [planner.fields(asked, plan.decision)["history"] for plan in plans]
    assert shown == [["exact"], ["follow-up", "in", "berlin"]]


async def test_a_pop_with_contextual_matching_answers_after_another_history_what_stands_alone_and_nothing_else(
    start_pop: Callable[..., Awaitable[Pop]], core: ScriptedCore
) -> None:
    pop = await start_pop(core.url, cache=Cache(semantic=Semantic(contextual=True)))

    async def ask(first: str, answer: str, last: str) -> tuple[CacheStatus, bytes]:
        turns = [("user", first), ("assistant", answer), ("user", last)]
        reply = await pop.ask({"messages": [{"role": role, "content": said} for role, said in turns]})
        await pop.settled()
        return reply.cache.status, await read(reply)

    paris, horse = "What is the best restaurant in Paris?", "How long does a horse live?"
    whole = "Who is Ada Lovelace?"
    first = await ask(paris, "Chez Nous.", whole)
    assert first[0] is CacheStatus.MISS
    assert await ask(horse, "25 years.", whole) == (CacheStatus.SEMANTIC_HIT, first[1])
    for last in ("And in Berlin?", "Why?"):
        assert (await ask(paris, "Chez Nous.", last))[0] is CacheStatus.MISS
        assert (await ask("Where do cranes sleep in Paris?", "On roofs.", last))[0] is CacheStatus.MISS
    assert (await ask(paris, "Maison Bleue.", "and in Berlin?"))[0] is CacheStatus.SEMANTIC_HIT
    assert (await ask(paris, "Maison Bleue.", "Why?"))[0] is CacheStatus.MISS
