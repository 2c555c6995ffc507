"""Streams that die in the midst and are continued elsewhere."""

import msgspec
import orjson
import pytest

from edgecache.config import Hedging, Price
from edgecache.errors import UpstreamDied
from edgecache.router.continuation import allowed
from edgecache.types import Endpoint, Terms, Wishes
from edgecache.wire.sse import EventSplitter, data
from tests.router.conftest import asked, attempts, outcomes, whole

WILLING = Terms(continuation=True)
CHEAP, DEAR = {"price": Price(input=1.0, output=1.0)}, {"price": Price(input=2.0, output=2.0)}


def dying(kind: str, after: int = 5):
    return {"failure_injection_rate": 1.0, "failure_types": (kind,), "failure_position": after}


def said(body: bytes) -> str:
    """The text of a stream."""
    payloads = [found for event in EventSplitter().feed(body) if (found := data(event)) not in {None, b"[DONE]"}]
    choices = [choice for payload in payloads for choice in orjson.loads(payload).get("choices", [])]
    return "".join(choice.get("delta", choice).get("content") or choice.get("text") or "" for choice in choices)


def completion(**fields):
    return asked(endpoint=Endpoint.COMPLETIONS, prompt="What do lantern and harbour share?", stream=True, **fields)


@pytest.mark.parametrize("kind", ["cut", "error_event", "stall"])
@pytest.mark.parametrize("make", [completion, lambda **fields: asked(stream=True, **fields)])
async def test_a_stream_that_died_goes_on_elsewhere_where_the_tenant_wants_it(
    start_core, make_broker, kind, make
) -> None:
    bad, good = await start_core(**dying(kind), inter_token_latency=0.002), await start_core()
    upstreams = {"bad": (bad.url, CHEAP), "good": (good.url, DEAR)}
    broker = make_broker(upstreams, levels={"inter_token_timeout": 0.2})
    undisturbed = named(make, "good")
    expected = said((await broker.served(undisturbed))[1])
    call = make(terms=WILLING, seed=3)
    answer = await broker.dispatcher.dispatch(call)
    assert (answer.upstream, answer.lifetime) == ("bad", None)
    body = await whole(answer)
    assert body.count(b": edgecache continued on good\n\n") == 1
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"error"' not in body
    assert said(body) == expected
    assert answer.lifetime == 0.0
    assert outcomes(call) == [("bad", "cut"), ("good", "ok")]
    assert attempts(call)[0].completion_tokens == 5
    more = attempts(call)[1].prompt_tokens - attempts(undisturbed)[0].prompt_tokens
    assert more in {4, 5}  # what was written is read again; a word may have become one with the last of the prompt
    assert broker.count("continuations_total", result="continued") == 1
    assert broker.idle


def named(make, name: str):
    return msgspec.structs.replace(make(seed=3), upstream=name)


async def test_it_may_die_more_than_once(start_core, make_broker) -> None:
    first, second = await start_core(**dying("cut", 4)), await start_core(**dying("cut", 3))
    last = await start_core()
    prices = [{"price": Price(input=cost, output=cost)} for cost in (1.0, 2.0, 3.0)]
    broker = make_broker({"a": (first.url, prices[0]), "b": (second.url, prices[1]), "c": (last.url, prices[2])})
    expected = said((await broker.served(named(completion, "c")))[1])
    call = completion(terms=WILLING, seed=3)
    _, body = await broker.served(call)
    assert said(body) == expected
    assert body.count(b": edgecache continued on") == 2
    assert outcomes(call) == [("a", "cut"), ("b", "cut"), ("c", "ok")]
    assert broker.idle


async def dies(broker, call) -> tuple[bytes, UpstreamDied]:
    parts = []
    answer = await broker.dispatcher.dispatch(call)
    with pytest.raises(UpstreamDied) as caught:
        async for chunk in answer.chunks():
            parts.append(chunk.visible)  # noqa: PERF401 - what came before the exception counts
    return b"".join(parts), caught.value


async def test_without_the_tenants_leave_it_just_dies(start_core, make_broker) -> None:
    bad, good = await start_core(**dying("cut")), await start_core()
    broker = make_broker({"bad": (bad.url, CHEAP), "good": (good.url, DEAR)})
    await dies(broker, completion())
    assert good.seen.requests == 0


async def test_where_nobody_can_go_on_the_client_gets_the_error_that_was_kept_back(start_core, make_broker) -> None:
    bad = await start_core(**dying("error_event"), inter_token_latency=0.01)
    broker = make_broker({"bad": bad.url})
    body, error = await dies(broker, completion(terms=WILLING))
    assert b'"error"' in body
    assert error.reported
    assert broker.count("continuations_total", result="failed") == 1
    assert broker.idle


async def test_only_servers_that_can_continue_a_chat_are_asked_to(start_core, make_broker) -> None:
    bad, other = await start_core(**dying("cut")), await start_core(dialect="trtllm")
    broker = make_broker({"bad": (bad.url, CHEAP), "other": (other.url, {**DEAR, "dialect": "trtllm"})})
    await dies(broker, asked(stream=True, terms=WILLING))
    assert other.seen.requests == 0


async def test_one_that_fails_to_go_on_is_followed_by_the_next(start_core, make_broker) -> None:
    bad, worse = await start_core(**dying("cut")), await start_core(**dying("server_error"))
    good = await start_core()
    prices = [{"price": Price(input=cost, output=cost)} for cost in (1.0, 2.0, 3.0)]
    broker = make_broker({"a": (bad.url, prices[0]), "b": (worse.url, prices[1]), "c": (good.url, prices[2])})
    call = completion(terms=WILLING)
    assert (await broker.served(call))[1].endswith(b"[DONE]\n\n")
    assert outcomes(call) == [("a", "cut"), ("b", "failed"), ("c", "ok")]


async def test_it_needs_the_budget_of_retries(start_core, make_broker) -> None:
    bad, good = await start_core(**dying("cut")), await start_core()
    rules = Hedging(retries=0.0, burst=1)
    broker = make_broker({"bad": (bad.url, CHEAP), "good": (good.url, DEAR)}, hedging=rules)
    await broker.served(completion(terms=WILLING))
    await dies(broker, completion(terms=WILLING))
    assert good.seen.requests == 1
    assert broker.idle


async def test_it_stays_within_the_jurisdiction(start_core, make_broker) -> None:
    bad, other = await start_core(**dying("cut")), await start_core()
    broker = make_broker({"de": (bad.url, {"jurisdiction": "de"}), "us": (other.url, {"jurisdiction": "us"})})
    terms = Terms(continuation=True, residency=frozenset({"de"}))
    await dies(broker, completion(terms=terms))
    assert other.seen.requests == 0


async def test_the_deadline_holds_for_who_goes_on_too(start_core, make_broker) -> None:
    bad, good = await start_core(**dying("cut")), await start_core(inter_token_latency=0.3)
    broker = make_broker({"bad": (bad.url, CHEAP), "good": (good.url, DEAR)})
    await broker.known_to_be(decode=0.0)
    call = completion(terms=WILLING, wishes=Wishes(deadline=1.0))
    _, error = await dies(broker, call)
    assert "deadline" in error.message
    assert outcomes(call) == [("bad", "cut"), ("good", "timeout")]
    assert broker.idle


def test_what_can_be_continued() -> None:
    assert allowed(completion(terms=WILLING))
    assert allowed(asked(stream=True, terms=WILLING))
    assert not allowed(completion())
    assert not allowed(asked(terms=WILLING))
    assert not allowed(asked(stream=True, terms=WILLING, tools=[{"type": "function"}]))
    assert not allowed(asked(stream=True, terms=WILLING, n=2))
