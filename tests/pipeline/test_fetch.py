"""What the upstream said, as the client gets it."""

import json

import pytest

from edgecache.config import Cache
from edgecache.errors import UpstreamDied
from edgecache.pipeline.fill import Ticket
from edgecache.types import CacheStatus, Mode
from tests.conftest import Pop, call, read

QUESTION = "Why is the sky blue?"
STREAM = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}


async def test_a_json_answer_is_passed_on_whole(pop: Pop) -> None:
    reply = await pop.ask(QUESTION)
    assert reply.chunks is None
    assert json.loads(reply.body)["object"] == "chat.completion"
    assert (reply.cache.fwd_status, reply.upstream) == (200, "core")


async def test_a_stream_is_passed_on_as_it_comes(pop: Pop) -> None:
    reply = await pop.ask(STREAM)
    assert reply.chunks is not None
    assert (await read(reply)).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("mode", [Mode.BYPASS, Mode.DEFAULT], ids=["bypass", "miss"])
async def test_an_error_of_the_upstream_keeps_its_status_and_gets_our_envelope(pop: Pop, core, mode: Mode) -> None:
    core.configure(failure_injection_rate=1.0, failure_types=("rate_limit",))
    reply = await pop.ask(QUESTION, mode=mode)
    assert reply.status == 429
    error = json.loads(reply.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}


async def test_a_stream_that_breaks_off_raises_after_its_last_bytes(pop: Pop, core) -> None:
    core.configure(failure_injection_rate=1.0, failure_types=("cut",))
    reply = await pop.ask(STREAM)
    with pytest.raises(UpstreamDied):
        await read(reply)


async def test_requests_with_other_controls_are_not_shared(start_pop, core) -> None:
    pop = await start_pop(core.url, cache=Cache(coalesce=False))
    one, two = await pop.ask(STREAM), await pop.ask(STREAM)
    assert not two.cache.collapsed
    assert (await read(one)).endswith(b"[DONE]\n\n")
    assert (await read(two)).endswith(b"[DONE]\n\n")


async def test_a_listener_of_another_form_asks_for_itself_when_the_answer_could_not_be_kept(pop: Pop, core) -> None:
    core.configure(inter_token_latency=0.002)
    limited = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 2}
    stream = await pop.ask(limited | {"stream": True})
    reply = await pop.ask(limited)
    await read(stream)
    assert (reply.cache.status, reply.cache.collapsed) == (CacheStatus.MISS, False)
    assert json.loads(reply.body)["choices"][0]["finish_reason"] == "length"


async def test_an_answer_for_learning_is_read_to_its_end_and_not_kept(pop: Pop) -> None:
    fetcher, settings = pop.daemon.pipeline._fetcher, pop.daemon.pipeline.settings
    asked = call(STREAM)
    plan = pop.daemon.pipeline._planner.plan(asked, settings)
    script = await fetcher.again(Ticket(asked, plan.key, plan.decision, settings, 0))
    assert script.ended
    assert script.events[-1] == b"data: [DONE]\n\n"
    assert pop.daemon.store.stats().entries == 0


async def test_an_upstream_that_gives_no_answer_for_learning_raises_nothing(pop: Pop, core) -> None:
    await core.stop()
    fetcher, settings = pop.daemon.pipeline._fetcher, pop.daemon.pipeline.settings
    asked = call(QUESTION)
    plan = pop.daemon.pipeline._planner.plan(asked, settings)
    assert not (await fetcher.again(Ticket(asked, plan.key, plan.decision, settings, 0))).ended
