"""The main path on real parts: LMDB, the vector index, the hashing embedder and a scripted cluster."""

import asyncio
import json

import pytest

from edgecache.clock import ManualClock
from edgecache.config import Cache, ScopePolicy, Semantic
from edgecache.errors import NotCached, UpstreamUnreachable
from edgecache.types import CacheStatus, Mode
from tests.conftest import Pop, call, read

QUESTION = "What is the tallest mountain in Europe?"


async def first(pop: Pop, body=QUESTION, **options):
    """Ask, read the answer and wait until it is stored."""
    reply = await pop.ask(body, **options)
    text = await read(reply)
    await pop.settled()
    return reply, text


async def test_the_first_request_is_a_miss_and_the_same_request_again_an_exact_hit(pop: Pop) -> None:
    miss, answer = await first(pop)
    hit = await pop.ask(QUESTION)
    assert (miss.cache.status, miss.cache.fwd, miss.upstream) == (CacheStatus.MISS, "miss", "core")
    assert (hit.cache.status, hit.upstream) == (CacheStatus.HIT, "core")
    assert json.loads(hit.body)["choices"] == json.loads(answer)["choices"]
    assert hit.cache.age == 0
    assert hit.cache.ttl > 77_000


async def test_one_entry_serves_json_and_stream(pop: Pop) -> None:
    streamed = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
    _, text = await first(pop, streamed)
    assert text.endswith(b"data: [DONE]\n\n")
    as_json = await pop.ask(QUESTION)
    again = await pop.ask(streamed)
    assert as_json.cache.status == again.cache.status == CacheStatus.HIT
    content = json.loads(as_json.body)["choices"][0]["message"]["content"]
    deltas = [json.loads(line[6:]) for line in again.body.decode().split("\n\n") if line.startswith("data: {")]
    assert "".join(d["choices"][0]["delta"].get("content") or "" for d in deltas if d["choices"]) == content


async def test_another_wording_of_the_question_is_a_semantic_hit(pop: Pop) -> None:
    _, answer = await first(pop)
    hit = await pop.ask("what is the tallest mountain in europe")
    assert hit.cache.status == CacheStatus.SEMANTIC_HIT
    assert hit.cache.similarity > 0.99
    assert hit.cache.detail == "semantic"
    assert json.loads(hit.body)["choices"] == json.loads(answer)["choices"]


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        pytest.param(
            "How do I bake 12 rolls of bread in an oven at home",
            "How do I bake 24 rolls of bread in an oven at home",
            id="another number",
        ),
        pytest.param("convert a pdf file to a word file", "convert a word file to a pdf file", id="another order"),
    ],
)
async def test_a_question_that_only_looks_alike_is_a_miss(pop: Pop, asked: str, other: str) -> None:
    pop.daemon.pipeline.settings = Cache(semantic=Semantic(floor=0.5))
    await first(pop, asked)
    assert (await first(pop, other))[0].cache.status == CacheStatus.MISS


async def test_an_answer_is_never_served_to_another_tenant(pop: Pop) -> None:
    await first(pop, tenant="one")
    for tenant, question in (("two", QUESTION), ("three", QUESTION.lower()), ("one.", QUESTION), ("", QUESTION)):
        reply, _ = await first(pop, question, tenant=tenant)
        assert reply.cache.status == CacheStatus.MISS


async def test_a_semantic_hit_says_how_sure_the_decision_was(pop: Pop) -> None:
    await first(pop)
    assert (await pop.ask(QUESTION)).cache.score is None
    assert 0.9 < (await pop.ask(QUESTION.upper())).cache.score <= 1.0


async def test_in_shadow_mode_another_wording_goes_upstream_and_the_same_words_do_not(pop: Pop) -> None:
    pop.daemon.pipeline.settings = Cache(semantic=Semantic(mode="shadow"))
    await first(pop)
    assert (await pop.ask(QUESTION)).cache.status == CacheStatus.HIT
    reply, _ = await first(pop, QUESTION.lower())
    assert (reply.cache.status, reply.cache.detail) == (CacheStatus.MISS, "shadow")


async def test_a_hit_policy_of_a_tenants_own_is_used_for_it_alone(pop: Pop) -> None:
    loose = ScopePolicy(tenant="loose", policy="similarity", similarity=0.5)
    pop.daemon.pipeline.settings = Cache(semantic=Semantic(floor=0.4, scope=(loose,)))
    for tenant, status in (("loose", CacheStatus.SEMANTIC_HIT), ("strict", CacheStatus.MISS)):
        await first(pop, tenant=tenant)
        reply, _ = await first(pop, "What is the tallest mountain in all Europe?", tenant=tenant)
        assert reply.cache.status == status


async def test_a_semantic_hit_is_not_written_back_under_the_new_question(pop: Pop) -> None:
    await first(pop)
    entries = pop.daemon.store.stats().entries
    await pop.ask(QUESTION.upper())
    await pop.settled()
    assert pop.daemon.store.stats().entries == entries


async def test_a_request_that_asks_not_to_be_stored_is_not(pop: Pop) -> None:
    await first(pop, no_store=True)
    assert (await pop.ask(QUESTION)).cache.status == CacheStatus.MISS


async def test_no_cache_forces_a_miss_that_replaces_the_entry(pop: Pop, core) -> None:
    await first(pop)
    refreshed, _ = await first(pop, no_cache=True)
    assert (refreshed.cache.status, refreshed.cache.fwd) == (CacheStatus.REFRESH, "request")
    hit = await pop.ask(QUESTION)
    assert hit.cache.status == CacheStatus.HIT
    assert pop.daemon.store.stats().entries == 1


async def test_a_warm_request_bypasses_and_names_its_reason(pop: Pop) -> None:
    reply, _ = await first(pop, {"messages": [{"role": "user", "content": QUESTION}], "temperature": 1.0})
    assert (reply.cache.status, reply.cache.fwd, reply.cache.detail) == (CacheStatus.BYPASS, "bypass", "temperature")


async def test_only_if_cached_never_goes_upstream(pop: Pop, core) -> None:
    with pytest.raises(NotCached):
        await pop.ask(QUESTION, only_if_cached=True)
    with pytest.raises(NotCached):
        await pop.ask(QUESTION, only_if_cached=True, mode=Mode.BYPASS)
    await first(pop)
    assert (await pop.ask(QUESTION, only_if_cached=True)).cache.status == CacheStatus.HIT


async def test_a_request_in_exact_mode_does_not_hit_by_meaning(pop: Pop) -> None:
    await first(pop)
    assert (await first(pop, QUESTION.upper(), mode=Mode.EXACT))[0].cache.status == CacheStatus.MISS


async def test_identical_requests_at_the_same_time_share_one_generation(pop: Pop, core) -> None:
    replies = await asyncio.gather(*(pop.ask(QUESTION) for _ in range(8)))
    bodies = {await read(reply) for reply in replies}
    assert len(bodies) == 1
    assert sorted(reply.cache.collapsed for reply in replies) == [False] + [True] * 7


async def test_a_stream_and_a_json_request_at_the_same_time_share_one_generation(pop: Pop) -> None:
    streamed = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
    one = await pop.ask(streamed)
    waiting = asyncio.ensure_future(pop.ask(QUESTION))  # noqa: TID251
    events = await read(one)
    other = await waiting
    assert b"[DONE]" in events
    assert json.loads(other.body)["object"] == "chat.completion"
    assert other.cache.collapsed or other.cache.status == CacheStatus.HIT


async def test_an_embedder_that_is_gone_costs_the_semantic_tier_and_nothing_else(pop: Pop) -> None:
    pop.daemon.embedder.close()
    reply, _ = await first(pop)
    assert (reply.cache.status, reply.cache.detail) == (CacheStatus.MISS, "embedder")
    assert (await pop.ask(QUESTION)).cache.status == CacheStatus.HIT


async def test_a_question_longer_than_the_window_hits_exactly_only(pop: Pop) -> None:
    long = "mountain " * 2000
    reply, _ = await first(pop, long)
    assert (reply.cache.status, reply.cache.detail) == (CacheStatus.MISS, "window")
    assert (await pop.ask(long)).cache.status == CacheStatus.HIT
    assert (await first(pop, long.upper()))[0].cache.status == CacheStatus.MISS


async def test_without_an_upstream_the_error_reaches_the_client(start_pop) -> None:
    pop = await start_pop("http://127.0.0.1:9")
    with pytest.raises(UpstreamUnreachable):
        await pop.ask(QUESTION)


async def test_an_expired_answer_serves_while_the_upstream_is_down(start_pop, core) -> None:
    clock = ManualClock()
    pop = await start_pop(core.url, clock=clock, cache=Cache(ttl=60.0, stale_while_revalidate=0.0, stale_if_error=60.0))
    await first(pop)
    await core.stop()
    clock.advance(100.0)
    reply = await pop.ask(QUESTION)
    assert (reply.cache.status, reply.cache.detail) == (CacheStatus.STALE, "stale-if-error")
    assert -60 < reply.cache.ttl < 0
    clock.advance(100.0)
    with pytest.raises(UpstreamUnreachable):
        await pop.ask(QUESTION)


async def test_the_longest_answer_the_client_allows_is_respected(pop: Pop) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}]}
    _, text = await first(pop, body | {"max_tokens": 500})
    used = json.loads(text)["usage"]["completion_tokens"]
    assert (await pop.ask(body | {"max_tokens": used})).cache.status == CacheStatus.HIT
    assert (await first(pop, body | {"max_tokens": used - 1}))[0].cache.status == CacheStatus.MISS


async def test_a_broken_store_is_a_miss_not_a_failure(pop: Pop) -> None:
    await first(pop)
    pop.daemon.store.close()
    reply = await pop.ask(call(QUESTION).body)
    assert reply.status == 200
    assert reply.cache.status == CacheStatus.MISS
