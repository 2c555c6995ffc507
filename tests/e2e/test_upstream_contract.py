"""What edgecache relies on in an upstream. The scripted core must hold it, and so must the server that it plays.

pytest tests/e2e/test_upstream_contract.py --upstream-url http://127.0.0.1:8100 --upstream-dialect dynamo
"""

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from edgecache.clock import SystemClock
from edgecache.config import tree as config
from edgecache.sim.upstream import ScriptedCore
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Call, Endpoint, Tenant
from edgecache.upstream.client import UpstreamClient
from edgecache.upstream.dialects import BOOKKEEPING
from edgecache.wire.openai import is_usage_chunk
from edgecache.wire.sse import DONE, EventSplitter, data

GENERATED = (Endpoint.CHAT, Endpoint.COMPLETIONS)


@pytest.fixture
async def url(target, request):
    """Where the upstream listens."""
    if target.url is not None or target.real:
        yield target.url or request.getfixturevalue("dynamo").url
        return
    settings = config.Core(dialect=target.dialect, time_to_first_token=0.01, inter_token_latency=0.002)
    core = ScriptedCore(settings, SystemClock())
    yield await core.start()
    await core.stop()


@pytest.fixture
async def client(target, url):
    """edgecache's own client for it."""
    made = UpstreamClient(config.Upstream(name="u", url=url, dialect=target.dialect), metrics=Metrics())
    yield made
    await made.close()


def asked(endpoint: Endpoint, model: str, **fields: Any) -> dict[str, Any]:
    question = "What is the capital of France?"
    body: dict[str, Any] = {"model": model, "max_tokens": 8}
    if endpoint is Endpoint.CHAT:
        return body | {"messages": [{"role": "user", "content": question}]} | fields
    return body | {"prompt": question} | fields


async def post(url: str, endpoint: Endpoint, body: object) -> tuple[int, str, bytes]:
    """Without edgecache in between: status, content type, body."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    async with (
        aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session,
        session.post(url + endpoint.path, data=raw) as response,
    ):
        return response.status, response.headers.get("Content-Type", ""), await response.read()


def call(endpoint: Endpoint, body: dict[str, Any], tenant: str = "default") -> Call:
    stream = body.get("stream") is True
    return Call("contract", Tenant(tenant), endpoint, body["model"], body, orjson.dumps(body), stream=stream)


@pytest.mark.parametrize("endpoint", GENERATED)
async def test_a_whole_answer_has_choices_reasons_and_usage(target, url, endpoint) -> None:
    status, kind, raw = await post(url, endpoint, asked(endpoint, target.model))
    assert (status, kind.partition(";")[0]) == (200, "application/json")
    body = orjson.loads(raw)
    (choice,) = body["choices"]
    text = choice["message"]["content"] if endpoint is Endpoint.CHAT else choice["text"]
    assert text
    assert choice["finish_reason"] in {"stop", "length"}
    assert 0 < body["usage"]["completion_tokens"] <= 8
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert isinstance(body["id"], str)


@pytest.mark.parametrize("endpoint", GENERATED)
@pytest.mark.parametrize("usage", [False, True])
async def test_a_stream_ends_with_a_reason_then_usage_if_asked_then_done(target, url, endpoint, usage) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    status, kind, raw = await post(url, endpoint, asked(endpoint, target.model, stream=True, **options))
    assert (status, kind.partition(";")[0]) == (200, "text/event-stream")
    splitter = EventSplitter()
    events = [event for event in splitter.feed(raw) if data(event) is not None]
    assert splitter.rest == b""
    assert events.pop() == DONE
    assert is_usage_chunk(events[-1]) == usage
    if usage:
        events.pop()
    choices = [choice for event in events for choice in orjson.loads(data(event))["choices"]]
    assert choices[-1]["finish_reason"] in {"stop", "length"}
    assert all(choice.get("finish_reason") is None for choice in choices[:-1])
    if endpoint is Endpoint.CHAT:
        assert choices[0]["delta"]["role"] == "assistant"


async def test_unknown_fields_are_refused_or_ignored_as_the_dialect_says(target, url) -> None:
    status, _, raw = await post(url, Endpoint.CHAT, asked(Endpoint.CHAT, target.model, edge_tier="gold"))
    assert status == (200 if target.dialect == "vllm" else 400)
    body = orjson.loads(raw)
    shapes = {"trtllm": {"error"}, "dynamo": {"message", "type", "code"}, "openai": {"error"}, "vllm": {"choices"}}
    assert shapes[target.dialect] <= body.keys()


async def test_stream_options_without_a_stream_are_refused(target, url) -> None:
    body = asked(Endpoint.CHAT, target.model, stream_options={"include_usage": True})
    assert (await post(url, Endpoint.CHAT, body))[0] == 400


async def test_a_body_that_is_not_json_is_refused(target, url) -> None:
    status, _, raw = await post(url, Endpoint.CHAT, b'{"model": ')
    assert 400 <= status < 500
    assert raw


@pytest.mark.parametrize("endpoint", GENERATED)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_edgecache_sends_is_accepted_whatever_the_client_adds(target, client, endpoint, stream) -> None:
    books: dict[str, Any] = dict.fromkeys(BOOKKEEPING - {"service_tier", "prompt_cache_retention"}, "x")
    books |= {"store": False, "metadata": {"a": "b"}, "prompt_cache_options": {}, "cache": {"ttl": 1}}
    body = asked(endpoint, target.model, stream=stream, disaggregated_params={"request_type": "x"}, **books)
    answer = await client.open(call(endpoint, body, tenant="somebody"))
    if not stream:
        assert (answer.status, b"choices" in await answer.read()) == (200, True)
        return
    chunks = [chunk async for chunk in answer.chunks()]
    visible = EventSplitter().feed(b"".join(chunk.visible for chunk in chunks))
    assert answer.status == 200
    assert visible[-1] == DONE
    assert not any(is_usage_chunk(event) for event in visible)
    assert sum(is_usage_chunk(event) for chunk in chunks for event in chunk.events) == 1


async def test_the_model_is_listed(target, client) -> None:
    assert target.model in [name for name, _ in await client.models()]


async def test_a_stream_given_up_leaves_the_server_able_to_answer(target, client) -> None:
    body = asked(Endpoint.CHAT, target.model, stream=True)
    for _ in range(3):
        answer = await client.open(call(Endpoint.CHAT, body))
        await anext(answer.chunks())
        await answer.aclose()
    answer = await client.open(call(Endpoint.CHAT, asked(Endpoint.CHAT, target.model)))
    assert answer.status == 200
    await answer.read()


async def test_many_at_once_are_all_answered(target, client) -> None:
    async def one(number: int) -> int:
        body = asked(Endpoint.CHAT, target.model, max_tokens=4, stream=number % 2 == 0)
        answer = await client.open(call(Endpoint.CHAT, body))
        if answer.streaming:
            return sum([len(chunk.events) async for chunk in answer.chunks()])
        return len(await answer.read())

    assert all(await asyncio.gather(*(one(number) for number in range(16))))
