"""What the upstream said, as the client gets it."""

import asyncio
import json

import msgspec
import pytest

from edgecache.config import Cache, Router, ServiceLevel, ServiceLevels
from edgecache.errors import UpstreamDied, UpstreamTimeout
from edgecache.pipeline.fill import Ticket
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheStatus, Mode, Reply, ServiceClass, Wishes
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


@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["json", "stream"])
async def test_a_client_that_leaves_before_its_answer_frees_the_upstream(pop: Pop, core, body) -> None:
    core.configure(time_to_first_token=60.0)
    asked = pop.daemon.tasks.spawn(pop.ask(body, mode=Mode.BYPASS), name="client")
    while not core.seen.requests:
        await asyncio.sleep(0.005)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    async with asyncio.timeout(5):
        while not core.seen.disconnected:
            await asyncio.sleep(0.005)


async def test_a_stream_that_nobody_takes_is_let_go(pop: Pop, core) -> None:
    core.configure(inter_token_latency=60.0)
    reply = await pop.ask(STREAM, mode=Mode.BYPASS)
    assert await anext(reply.chunks)
    await reply.chunks.aclose()
    async with asyncio.timeout(5):
        while not core.seen.disconnected:
            await asyncio.sleep(0.005)


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


async def wish(pop: Pop, body: dict | str, **wishes) -> Reply:
    """A request that came just now and says how it wants to be served."""
    clock = pop.daemon.clock
    asked = msgspec.structs.replace(call(body), wishes=Wishes(arrived=clock.monotonic(), **wishes))
    return await pop.daemon.pipeline.serve(asked, Trace(clock))


@pytest.fixture
async def hurried(start_pop, core) -> Pop:
    """A POP whose standard requests have a fifth of a second, and those that ask for `batch` a minute."""
    levels = ServiceLevels(standard=ServiceLevel(deadline=0.2), batch=ServiceLevel(deadline=60.0))
    return await start_pop(core.url, router=Router(classes=levels))


@pytest.mark.parametrize(
    ("stream", "wishes"),
    [(False, {}), (True, {}), (False, {"service": ServiceClass.BATCH, "deadline": 0.1})],
    ids=["its class", "another form", "its own"],
)
async def test_who_shares_a_slower_ones_answer_has_its_own_deadline(hurried: Pop, core, stream, wishes) -> None:
    core.configure(time_to_first_token=0.6)
    first = hurried.daemon.tasks.spawn(wish(hurried, QUESTION, service=ServiceClass.BATCH), name="first")
    while not core.seen.requests:
        await asyncio.sleep(0.005)
    with pytest.raises(UpstreamTimeout, match="by the deadline") as caught:
        await wish(hurried, STREAM if stream else QUESTION, **wishes)
    assert (caught.value.status, caught.value.code) == (504, "upstream_timeout")
    assert caught.value.cache.collapsed
    assert not first.done()
    assert (await first).status == 200
    assert core.seen.requests == 1


async def test_a_shared_stream_is_cut_at_the_deadline_of_the_one_that_joined(hurried: Pop, core) -> None:
    core.configure(inter_token_latency=0.02)
    long = STREAM | {"max_tokens": 30, "ignore_eos": True}
    first = await wish(hurried, long, service=ServiceClass.BATCH)
    second = await wish(hurried, long)
    assert second.cache.collapsed
    with pytest.raises(UpstreamDied, match="by the deadline"):
        await read(second)
    assert (await read(first)).endswith(b"data: [DONE]\n\n")
    assert core.seen.requests == 1
