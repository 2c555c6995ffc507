"""What is handed on: streams that end, die or are left, and what is booked then."""

import msgspec
import numpy as np
import pytest

from edgecache.config import Price, Route, SmallModel
from edgecache.errors import UpstreamDied
from edgecache.types import Purpose, Wishes
from edgecache.wire.sse import EventSplitter
from tests.router.conftest import asked, attempts, outcomes, until, whole


def dying(kind: str, after: int):
    return {"failure_injection_rate": 1.0, "failure_types": (kind,), "failure_position": after}


async def taken(answer) -> tuple[bytes, BaseException | None]:
    """What a stream says, and what it ends with."""
    parts = []
    try:
        async for chunk in answer.chunks():
            parts.append(chunk.visible)  # noqa: PERF401 - what came before an exception counts
    except UpstreamDied as error:
        return b"".join(parts), error
    finally:
        await answer.aclose()
    return b"".join(parts), None


@pytest.mark.parametrize("kind", ["cut", "error_event", "stall"])
async def test_a_stream_that_dies_after_its_first_token_is_not_tried_again(start_core, make_broker, kind) -> None:
    core, other = await start_core(**dying(kind, 5), inter_token_latency=0.01), await start_core()
    upstreams = {"a": (core.url, {"price": Price(input=1.0)}), "b": (other.url, {"price": Price(input=2.0)})}
    broker = make_broker(upstreams, levels={"inter_token_timeout": 0.2})
    call = asked(stream=True)
    body, error = await taken(await broker.dispatcher.dispatch(call))
    assert isinstance(error, UpstreamDied)
    assert error.reported == (kind == "error_event")
    assert (b'"error"' in body) == (kind == "error_event")
    assert b"[DONE]" not in body
    assert outcomes(call) == [("a", "cut")]
    assert attempts(call)[0].completion_tokens == core.seen.generated_tokens["edge-test"] == 5
    assert attempts(call)[0].estimated
    assert other.seen.requests == 0
    assert broker.idle


async def test_nothing_of_a_stream_is_lost_or_changed_by_holding_its_beginning_back(start_core, make_broker) -> None:
    core = await start_core(inter_token_latency=0.002)
    broker = make_broker({"a": core.url})
    direct = await (await broker.pool.clients[0].open(asked(stream=True, seed=7))).read()
    answer = await broker.dispatcher.dispatch(asked(stream=True, seed=7))
    events = [event async for chunk in answer.chunks() for event in chunk.events]
    mine = [event.partition(b'"choices"')[2] for event in events]  # ids and times differ
    theirs = [event.partition(b'"choices"')[2] for event in EventSplitter().feed(direct)]
    assert mine == theirs


async def test_the_first_chunk_has_content(start_core, make_broker) -> None:
    core = await start_core(time_to_first_token=0.02, inter_token_latency=0.2)
    broker = make_broker({"a": core.url})
    answer = await broker.dispatcher.dispatch(asked(stream=True))
    chunks = answer.chunks()
    first = await anext(chunks)
    assert b'"role"' in first.visible
    assert b'"content":"' in first.visible
    await answer.aclose()


@pytest.mark.parametrize("read", [0, 1, 3])
async def test_who_leaves_a_stream_pays_for_what_was_generated(start_core, make_broker, read) -> None:
    core = await start_core(inter_token_latency=0.02)
    broker = make_broker({"a": (core.url, {"price": Price(output=1.0)})})
    call = asked(stream=True)
    answer = await broker.dispatcher.dispatch(call)
    chunks = answer.chunks()
    for _ in range(read):
        await anext(chunks)
    assert outcomes(call) == [("a", "")]
    assert not broker.idle
    await answer.aclose()
    assert outcomes(call) == [("a", "cancelled")]
    attempt = attempts(call)[0]
    assert attempt.estimated
    assert max(1, read) <= attempt.completion_tokens <= read + 1
    assert attempt.cost == pytest.approx(attempt.completion_tokens / 1e6)
    assert broker.idle
    await until(lambda: core.seen.disconnected == 1)
    await answer.aclose()
    assert outcomes(call) == [("a", "cancelled")]


async def test_who_hangs_up_after_the_last_token_has_had_it_all(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": core.url})
    call = asked(stream=True)
    answer = await broker.dispatcher.dispatch(call)
    await anext(answer.chunks())
    await answer.aclose()
    assert outcomes(call) == [("a", "ok")]
    assert not attempts(call)[0].estimated


async def test_the_deadline_also_ends_a_stream_that_nobody_reads(start_core, make_broker) -> None:
    core = await start_core(inter_token_latency=0.5)
    broker = make_broker({"a": core.url})
    await broker.known_to_be(decode=0.0)
    call = asked(stream=True, wishes=Wishes(deadline=0.4))
    answer = await broker.dispatcher.dispatch(call)
    await until(lambda: core.seen.disconnected == 1)
    _, error = await taken(answer)
    assert isinstance(error, UpstreamDied)
    assert "deadline" in error.message
    assert outcomes(call) == [("a", "timeout")]
    assert broker.idle


async def test_a_stream_that_ends_in_time_is_not_touched_by_its_deadline(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": core.url})
    await broker.known_to_be(decode=0.0)
    answer = await broker.dispatcher.dispatch(asked(stream=True, wishes=Wishes(deadline=0.3)))
    assert (await whole(answer)).endswith(b"[DONE]\n\n")
    assert answer._timer.cancelled()  # it would keep the answer in memory


async def test_an_answer_that_came_whole_is_given_from_memory_as_often_as_wanted(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": core.url})
    answer = await broker.dispatcher.dispatch(asked())
    assert broker.idle  # its place is free before anybody reads it
    assert await answer.read() == await answer.read()
    assert (answer.status, answer.streaming, answer.lifetime) == (200, False, None)
    assert answer.content_type.startswith("application/json")


async def test_a_stream_can_be_read_whole(start_core, make_broker) -> None:
    core = await start_core(inter_token_latency=0.001)
    broker = make_broker({"a": core.url})
    answer = await broker.dispatcher.dispatch(asked(stream=True))
    assert (await answer.read()).endswith(b"data: [DONE]\n\n")
    assert broker.idle


@pytest.mark.parametrize(
    ("easy", "purpose", "model"),
    [
        (0.95, Purpose.CLIENT, "tiny"),
        (0.5, Purpose.CLIENT, "edge-test"),
        (None, Purpose.CLIENT, "edge-test"),
        (0.95, Purpose.RENEW, "tiny"),
        (0.95, Purpose.SAMPLE, "edge-test"),
        (0.95, Purpose.JUDGE, "edge-test"),
        (0.95, Purpose.MIRROR, "edge-test"),
    ],
)
async def test_an_answer_of_a_small_model_says_so(start_core, make_broker, easy, purpose, model) -> None:
    core = await start_core("tiny", "edge-test")
    broker = make_broker(
        {"a": (core.url, {"models": ("tiny", "edge-test")})},
        route=(Route(model="edge-test", small=SmallModel(model="tiny", probability=0.9)),),
        easy=easy,
    )
    call = msgspec.structs.replace(asked(), purpose=purpose)
    answer = await broker.dispatcher.dispatch(call, np.zeros(2, np.float32))
    assert (answer.small, answer.model, answer.lifetime) == (model == "tiny", model, None)
