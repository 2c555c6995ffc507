from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgecache.cache import key as keys
from edgecache.cache import policy
from edgecache.config import Cache, Semantic
from edgecache.pipeline.plan import Plan, Planner
from edgecache.types import Call, Controls, Mode, Tenant
from tests.conftest import call

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
