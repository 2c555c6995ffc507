"""Learning from answers, through a whole POP: what is compared, what comes of it, and what it never costs a client."""

import asyncio
from typing import Any

import pytest

from edgecache.config import Cache, Learning, ScopePolicy, Semantic
from edgecache.store.epochs import Kind, Selector
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheStatus, Reply
from tests.conftest import Pop, call, read

STORED = "How do I change the oil of my old red car?"
NEAR = "How do I change the oil of my quite old red car?"
LOOSE = Semantic(policy="similarity", similarity=0.5, floor=0.4)
STRICT = Semantic(policy="similarity", similarity=0.999, floor=0.4)


def settings(semantic: Semantic = LOOSE, **learning: Any) -> Cache:
    return Cache(semantic=semantic, learning=Learning(**{"sample": 0.0} | learning))


async def ask(pop: Pop, question: str, answer: str, **controls: Any) -> Reply:
    """Ask, read the answer and wait for all that follows in the background."""
    reply = await pop.daemon.pipeline.serve(call(question, answer=answer, **controls), Trace(pop.daemon.clock))
    await read(reply)
    await settled(pop)
    return reply


async def settled(pop: Pop) -> None:
    """Until no answer is on its way, stored or compared."""
    names = {"flight", "compare", "sample"}
    while running := [task for task in pop.daemon.tasks if task.get_name() in names]:
        await asyncio.gather(*running, return_exceptions=True)


def outcomes(pop: Pop) -> dict[tuple[str, str], float]:
    """How often each (source, outcome) was counted."""
    (family,) = pop.daemon.metrics.comparisons.collect()
    return {
        (sample.labels["source"], sample.labels["outcome"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


def segment(pop: Pop):
    plan = pop.daemon.pipeline._planner.plan(call(STORED), pop.daemon.pipeline.settings)
    return pop.daemon.parts.learner.segment(plan.key)


@pytest.mark.parametrize(("answer", "outcome"), [("oil", "right"), ("tea", "wrong")])
async def test_a_hit_that_is_sampled_is_answered_upstream_and_compared(
    pop: Pop, core, answer: str, outcome: str
) -> None:
    pop.daemon.pipeline.settings = settings(sample=1.0)
    await ask(pop, STORED, "oil")
    reply = await ask(pop, NEAR, answer)
    assert reply.cache.status == CacheStatus.SEMANTIC_HIT
    assert outcomes(pop) == {("hit", outcome): 1}
    evidence = segment(pop)
    assert (evidence.hits, evidence.right, evidence.wrong) == (1, outcome == "right", outcome == "wrong")
    again = await ask(pop, NEAR, answer)
    assert again.cache.status == (CacheStatus.SEMANTIC_HIT if outcome == "right" else CacheStatus.MISS)
    assert again.cache.detail == ("semantic" if outcome == "right" else "bad-pair")


async def test_the_answer_that_a_sample_brings_is_not_stored(pop: Pop) -> None:
    pop.daemon.pipeline.settings = settings(sample=1.0)
    await ask(pop, STORED, "oil")
    await ask(pop, NEAR, "oil")
    assert pop.daemon.store.stats().entries == 1


async def test_without_sampling_a_hit_costs_no_upstream_request(pop: Pop, core) -> None:
    pop.daemon.pipeline.settings = settings()
    await ask(pop, STORED, "oil")
    before = core.seen.as_json()
    await ask(pop, NEAR, "oil")
    assert core.seen.as_json() == before
    assert outcomes(pop) == {}


@pytest.mark.parametrize(("answer", "outcome"), [("oil", "right"), ("tea", "wrong")])
async def test_a_miss_is_compared_with_its_best_candidate_for_nothing(
    pop: Pop, core, answer: str, outcome: str
) -> None:
    explored = Semantic(policy="verified", floor=0.4)
    pop.daemon.pipeline.settings = settings(explored)
    await ask(pop, STORED, "oil")
    reply = await ask(pop, NEAR, answer)
    assert reply.cache.status == CacheStatus.MISS
    assert outcomes(pop) == {("miss", outcome): 1}
    evidence = segment(pop)
    assert (evidence.labels, evidence.hits, evidence.right + evidence.wrong) == (1, 0, 0)
    stored = pop.daemon.store.find(pop.daemon.pipeline._planner.plan(call(STORED), settings()).key.digest)
    (track,) = pop.daemon.parts.learner.tracks([stored]).values()
    assert [right for _, right in track.seen] == [outcome == "right"]


async def test_a_candidate_that_would_never_be_served_teaches_nothing(pop: Pop) -> None:
    pop.daemon.pipeline.settings = settings(STRICT)  # nobody scored it: its risk is unknown
    await ask(pop, STORED, "oil")
    await ask(pop, NEAR, "oil")
    assert outcomes(pop) == {}


async def test_learning_from_misses_can_be_switched_off(pop: Pop) -> None:
    pop.daemon.pipeline.settings = settings(Semantic(policy="verified", floor=0.4), misses=False)
    await ask(pop, STORED, "oil")
    await ask(pop, NEAR, "oil")
    assert outcomes(pop) == {}


@pytest.mark.parametrize(("answer", "wrong"), [("oil", 0), ("tea", 1)])
async def test_shadow_mode_serves_upstream_and_reports_what_would_have_been(pop: Pop, answer: str, wrong: int) -> None:
    shadow = Semantic(
        floor=0.4, scope=(ScopePolicy(tenant="default", policy="similarity", similarity=0.5, mode="shadow"),)
    )
    pop.daemon.pipeline.settings = settings(shadow)
    await ask(pop, STORED, "oil")
    reply = await ask(pop, NEAR, answer)
    assert (reply.cache.status, reply.cache.detail) == (CacheStatus.MISS, "shadow")
    report = pop.daemon.parts.learner.report()["total"]
    assert (report["requests"], report["hits"], report["checked"], report["wrong"]) == (2, 1, 1, wrong)
    assert outcomes(pop) == {("shadow", "wrong" if wrong else "right"): 1}


async def test_an_upstream_that_fails_a_sample_is_counted_and_nobody_notices(pop: Pop, core) -> None:
    pop.daemon.pipeline.settings = settings(sample=1.0)
    await ask(pop, STORED, "oil")
    core.configure(failure_injection_rate=1.0, failure_types=("server_error",))
    assert (await ask(pop, NEAR, "oil")).status == 200
    assert outcomes(pop) == {("hit", "unfinished"): 1}


async def test_an_entry_that_is_purged_while_it_is_compared_leaves_no_evidence(pop: Pop, core) -> None:
    pop.daemon.pipeline.settings = settings(sample=1.0)
    await ask(pop, STORED, "oil")
    core.configure(time_to_first_token=0.05)
    assert (await pop.ask(NEAR)).cache.status == CacheStatus.SEMANTIC_HIT
    await pop.daemon.store.purge(Selector(Kind.ALL))
    await settled(pop)
    assert outcomes(pop) == {("hit", "gone"): 1}
    assert segment(pop).labels == 0


async def test_no_more_samples_run_at_once_than_allowed(pop: Pop, core) -> None:
    pop.daemon.pipeline.settings = settings(sample=1.0, max_inflight=1)
    await ask(pop, STORED, "oil")
    core.configure(time_to_first_token=0.05)
    for _ in range(3):
        reply = await pop.ask(NEAR)
        assert reply.cache.status == CacheStatus.SEMANTIC_HIT
    await settled(pop)
    counted = outcomes(pop)
    assert counted["hit", "crowded"] == 2
    assert sum(counted.values()) == 3


async def test_a_stream_is_compared_like_any_answer(pop: Pop) -> None:
    pop.daemon.pipeline.settings = settings(sample=1.0)
    await ask(pop, STORED, "oil")
    streamed = {"messages": [{"role": "user", "content": NEAR}], "stream": True}
    await ask(pop, streamed, "oil")
    assert outcomes(pop) == {("hit", "right"): 1}


async def test_a_draining_pop_and_a_client_that_wants_no_upstream_request_begin_nothing(pop: Pop) -> None:
    pop.daemon.pipeline.settings = settings(sample=1.0)
    await ask(pop, STORED, "oil")
    assert (await ask(pop, NEAR, "oil", only_if_cached=True)).cache.status == CacheStatus.SEMANTIC_HIT
    pop.daemon.parts.shadow.close()
    assert (await ask(pop, NEAR, "oil")).cache.status == CacheStatus.SEMANTIC_HIT
    assert outcomes(pop) == {}


async def test_the_share_of_hits_that_is_checked_is_the_configured_one(pop: Pop) -> None:
    pop.daemon.parts.shadow._random.seed(7)
    pop.daemon.pipeline.settings = settings(sample=0.3)
    await ask(pop, STORED, "oil")
    for _ in range(60):
        await ask(pop, NEAR, "oil")
    assert 8 <= outcomes(pop)["hit", "right"] <= 30
