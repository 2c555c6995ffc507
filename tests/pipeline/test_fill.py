"""Which answers are kept. The cluster fails in every scripted way; nothing incomplete may ever be served again."""

import contextlib
import json

import pytest

from edgecache.cache.purge import Kind, Selector
from edgecache.config import Upstream
from edgecache.errors import UpstreamError
from edgecache.types import CacheStatus
from tests.conftest import MODEL, Pop, read

QUESTION = "What do bees do in winter?"
STREAM = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}


async def entries(pop: Pop) -> int:
    await pop.settled()
    return pop.daemon.store.stats().entries


@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["json", "stream"])
async def test_a_complete_answer_is_kept_with_its_usage(pop: Pop, body) -> None:
    await read(await pop.ask(body))
    assert await entries(pop) == 1
    hit = await pop.ask(QUESTION)
    usage = json.loads(hit.body)["usage"]
    assert (hit.prompt_tokens, hit.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])


@pytest.mark.parametrize("failure", ["rate_limit", "server_error", "overloaded", "cut", "error_event", "null_body"])
@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["json", "stream"])
async def test_an_answer_that_did_not_end_well_is_never_kept(pop: Pop, core, body, failure: str) -> None:
    core.configure(failure_injection_rate=1.0, failure_types=(failure,))
    with contextlib.suppress(UpstreamError):  # how it fails is the client's business, tested elsewhere
        await read(await pop.ask(body))
    core.configure(failure_injection_rate=0.0)
    assert await entries(pop) == 0
    assert (await pop.ask(QUESTION)).cache.status == CacheStatus.MISS


@pytest.mark.parametrize(("dialect", "kept"), [("vllm", 1), ("dynamo", 0)])
async def test_an_answer_with_fewer_choices_than_asked_for_is_not_kept(
    start_pop, core, dialect: str, kept: int
) -> None:
    core.configure(dialect=dialect)
    upstream = Upstream(name="core", url=core.url, dialect=dialect, models=(MODEL,))
    pop = await start_pop(core.url, upstream=(upstream,))
    await read(await pop.ask({"messages": [{"role": "user", "content": QUESTION}], "n": 2, "max_tokens": 400}))
    assert await entries(pop) == kept


async def test_an_answer_cut_at_its_length_is_not_kept(pop: Pop) -> None:
    await read(await pop.ask({"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 2}))
    assert await entries(pop) == 0


async def test_an_answer_whose_purge_came_first_is_not_kept(pop: Pop, core) -> None:
    core.configure(inter_token_latency=0.01)
    reply = await pop.ask(STREAM)
    await pop.daemon.store.purge(Selector(Kind.ALL))
    assert (await read(reply)).endswith(b"data: [DONE]\n\n")
    assert await entries(pop) == 0


async def test_a_client_that_leaves_early_leaves_nothing_behind(pop: Pop, core) -> None:
    core.configure(inter_token_latency=0.05)
    reply = await pop.ask(STREAM)
    await anext(reply.chunks)
    await reply.chunks.aclose()
    assert await entries(pop) == 0


async def test_entries_expire_at_different_times(pop: Pop) -> None:
    for number in range(8):
        await read(await pop.ask(f"{QUESTION} Part {number}"))
    await pop.settled()
    lifetimes = set()
    for number in range(8):
        lifetimes.add((await pop.ask(f"{QUESTION} Part {number}")).cache.ttl)
    assert len(lifetimes) > 1
    assert all(0.89 * 86_400 <= lifetime <= 86_400 for lifetime in lifetimes)


async def test_the_answer_to_a_banned_question_is_not_stored_until_it_is_released(pop: Pop) -> None:
    await read(await pop.ask(QUESTION))
    assert await entries(pop) == 1
    hit = await pop.ask(QUESTION)
    await pop.daemon.parts.feedback.mark(hit.cache.entry_id, "ban")
    await pop.daemon.store.purge(Selector(Kind.ALL))
    await read(await pop.ask(QUESTION))
    await pop.settled()
    assert (await pop.ask(QUESTION)).cache.status == CacheStatus.MISS
