import asyncio
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIError, AsyncOpenAI

from edgecache.config import Auth, AuthTenant, Server
from edgecache.errors import Fault, Forbidden, FunctionFault, NotCached, Overloaded, UpstreamDied, UpstreamTimeout
from edgecache.http.respond import cache_status, quoted
from edgecache.types import CacheInfo, CacheStatus, Reply
from tests.http.conftest import CHAT, Site, miss, request, small_window, stream

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def event(content: str | None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


EVENTS = [event("Par"), event("is."), event(None, "stop"), b"data: [DONE]\n\n"]


def sdk(site: Site) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=site.url + "/v1", api_key="sk-test", max_retries=0)


async def ask(client: AsyncOpenAI) -> str:
    messages = [{"role": "user", "content": "capital of France?"}]
    found = ""
    async for chunk in await client.chat.completions.create(model="m", messages=messages, stream=True):
        found += chunk.choices[0].delta.content or ""
    return found


# ---------------------------------------------------------------------------------------------- Cache-Status


@pytest.mark.parametrize(
    ("info", "value"),
    [
        (CacheInfo(CacheStatus.HIT, ttl=376), "edgecache; hit; ttl=376"),
        (CacheInfo(CacheStatus.SEMANTIC_HIT, ttl=3, detail="semantic"), 'edgecache; hit; ttl=3; detail="semantic"'),
        (CacheInfo(CacheStatus.STALE, ttl=-5), "edgecache; hit; ttl=-5"),
        (
            CacheInfo(CacheStatus.MISS, fwd="miss", fwd_status=200, collapsed=True),
            "edgecache; fwd=miss; fwd-status=200; collapsed",
        ),
        (
            CacheInfo(CacheStatus.BYPASS, fwd="bypass", detail="temperature"),
            "edgecache; fwd=bypass; detail=temperature",
        ),
        (CacheInfo(CacheStatus.BYPASS, fwd="bypass", detail="a b"), 'edgecache; fwd=bypass; detail="a b"'),
    ],
)
def test_cache_status_is_a_structured_field_as_rfc_9211_has_it(info: CacheInfo, value: str) -> None:
    assert cache_status(info) == value


@given(st.text())
def test_a_quoted_string_can_neither_end_early_nor_break_the_line(text: str) -> None:
    assert re.fullmatch(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"', quoted(text))


# ---------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("short_cut", [True, False])
async def test_a_hit_carries_every_header(site, short_cut: bool) -> None:
    made: Site = await site(server=Server(pop="fra1"))
    info = CacheInfo(
        CacheStatus.SEMANTIC_HIT, detail="semantic", entry_id=7, similarity=0.97354, score=0.99871, age=12, ttl=99
    )
    reply = Reply(200, info, body=b'{"x":1}')
    made.script.answer = reply
    if short_cut:
        made.remember(reply)
    raw = await made.connect()
    await raw.post()
    response = await raw.post()
    assert (made.script.hits > 0) == short_cut
    headers = response.headers
    assert response.body == b'{"x":1}'
    assert headers["content-type"] == "application/json"
    assert headers["cache-status"] == 'edgecache; hit; ttl=99; detail="semantic"'
    assert headers["age"] == "12"
    assert headers["cache-control"] == "private, no-store"
    assert headers["x-edgecache-status"] == "SEMANTIC_HIT"
    assert headers["x-edgecache-similarity"] == "0.9735"
    assert headers["x-edgecache-score"] == "0.9987"
    assert headers["x-edgecache-entry"] == "7"
    assert headers["x-edgecache-pop"] == "fra1"
    assert re.fullmatch(r"req_[0-9a-f]{24,}", headers["x-request-id"])
    assert re.fullmatch(r"\d+", headers["openai-processing-ms"])
    assert re.fullmatch(r"\d+\.\d{3}", headers["x-edge-overhead-ms"])
    assert "exact;dur=0.010" in headers["server-timing"]
    assert headers["date"].endswith("GMT")
    assert "connection" not in headers


async def test_a_miss_names_the_upstream_and_its_status_and_has_no_age(site) -> None:
    made: Site = await site()
    headers = (await (await made.connect()).post()).headers
    assert headers["cache-status"] == "edgecache; fwd=miss; fwd-status=200"
    assert headers["x-edgecache-upstream"] == "core"
    assert "age" not in headers


async def test_server_timing_can_be_left_out(site) -> None:
    made: Site = await site(server=Server(server_timing=False))
    assert "server-timing" not in (await (await made.connect()).post()).headers


async def test_headers_of_the_upstream_that_are_malformed_or_ours_are_dropped(site) -> None:
    made: Site = await site()
    foreign = {
        "x-ratelimit-limit-requests": "9",
        "x-evil": "a\r\nset-cookie: x",
        "bad name": "x",
        "content-length": "3",
        "transfer-encoding": "chunked",
        "x-request-id": "theirs",
        "x-letters": "é",
    }
    made.script.answer = miss(b"{}", headers=foreign, content_type="text/html\r\nset-cookie: y")
    response = await (await made.connect()).post()
    assert response.body == b"{}"
    assert response.headers["x-ratelimit-limit-requests"] == "9"
    assert response.headers["content-type"] == "application/json"
    assert not {"x-evil", "set-cookie", "bad name", "transfer-encoding", "x-letters"} & set(response.headers)
    assert response.headers["x-request-id"] != "theirs"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("wish", ["close", "keep-alive"])
async def test_the_connection_stays_open_as_the_client_and_its_version_want(site, version: str, wish: str) -> None:
    raw = await (await site()).connect()
    wire = request("POST", "/v1/chat/completions", CHAT, f"Connection: {wish}").replace(b"1.1", version.encode(), 1)
    await raw.send(wire)
    headers = (await raw.response()).headers
    if wish == "close":
        assert headers["connection"] == "close"
        assert await raw.rest() == b""
    else:
        assert headers.get("connection", "keep-alive") == "keep-alive"
        assert (version == "1.0") == ("connection" in headers)
        assert (await raw.post()).status == 200


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Overloaded("busy", retry_after=0.25), 503, {"retry-after": "1", "retry-after-ms": "250"}),
        (NotCached("no"), 504, {}),
        (UpstreamTimeout("late"), 504, {}),
    ],
)
async def test_an_error_of_the_pipeline_is_the_envelope_with_its_status(site, error, status, headers) -> None:
    made: Site = await site()
    made.script.answer = error
    response = await (await made.connect()).post()
    assert response.status == status
    assert response.error == {"message": error.message, "type": error.type, "param": None, "code": error.code}
    assert response.headers.items() >= headers.items()


# ---------------------------------------------------------------------------------------------- streams


async def play(*events: bytes):
    for one in events:
        yield one


async def test_a_stream_reaches_the_client_byte_by_byte_as_it_came(site) -> None:
    made: Site = await site()
    made.script.answer = stream(play(*EVENTS))
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT, "Connection: close"))
    head, _, body = (await raw.rest()).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-type: text/event-stream" in head
    assert body == b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in EVENTS) + b"0\r\n\r\n"


async def test_a_connection_carries_another_request_after_a_stream(site) -> None:
    made: Site = await site()
    made.script.answer = stream(play(*EVENTS))
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    await raw.reader.readuntil(b"0\r\n\r\n")
    made.script.answer = miss(b"{}")
    assert (await raw.post()).status == 200


async def test_an_http_1_0_client_gets_the_stream_unchunked_until_the_end_of_the_connection(site) -> None:
    made: Site = await site()
    made.script.answer = stream(play(*EVENTS))
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT).replace(b"1.1", b"1.0", 1))
    head, _, body = (await raw.rest()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"".join(EVENTS)


async def test_head_and_first_chunk_arrive_before_the_second_chunk_is_there(site) -> None:
    made: Site = await site()
    go = asyncio.Event()

    async def halting():
        yield EVENTS[0]
        await go.wait()
        yield EVENTS[1]

    made.script.answer = stream(halting())
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    async with asyncio.timeout(5):
        await raw.reader.readuntil(EVENTS[0])
        go.set()
        await raw.reader.readuntil(b"0\r\n\r\n")


async def dying(died: Exception, *events: bytes):
    for one in events:
        yield one
    raise died


@pytest.mark.parametrize("reported", [True, False])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_stream_that_dies_ends_with_one_error_event_and_no_clean_end(site, reported, version) -> None:
    made: Site = await site()
    own = b'data: {"error":{"message":"theirs"}}\n\n'
    events = [EVENTS[0], own] if reported else [EVENTS[0]]
    made.script.answer = stream(dying(UpstreamDied("core broke off", reported=reported), *events))
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT).replace(b"1.1", version.encode(), 1))
    received, reset = b"", False
    try:
        while data := await raw.reader.read(65536):
            received += data
    except ConnectionResetError:
        reset = True
    assert received.count(b'"error"') == 1
    assert (b"theirs" in received) == reported
    assert not received.endswith(b"0\r\n\r\n")
    assert reset or version == "1.1"
    assert b"[DONE]" not in received


@pytest.mark.parametrize(
    "error",
    [FunctionFault(Fault.TRAP, "it trapped"), Forbidden("not the rest", code="refused_by_function")],
    ids=["failed", "refused"],
)
async def test_a_stream_that_a_function_ends_has_one_error_event_and_no_clean_end(site, error) -> None:
    made: Site = await site()
    made.script.answer = stream(dying(error, EVENTS[0]))
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    received = await raw.rest()
    assert received.count(b'"error"') == 1
    assert error.code.encode() in received
    assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("body", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], ids=["empty", "forged"])
@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_neither_length_nor_body(site, status: int, body: bytes) -> None:
    made: Site = await site()
    made.script.answer = Reply(status, CacheInfo(CacheStatus.BYPASS, fwd="bypass"), body=body)
    raw = await made.connect()
    for _ in range(2):
        found = await raw.post()
        assert found.status == status
        assert "content-length" not in found.headers


async def test_a_large_backlog_and_the_error_event_behind_it_reach_a_slow_client_before_the_cut(site) -> None:
    made: Site = await site()
    large = b"data: " + b"x" * 12_000_000 + b"\n\n"
    made.script.answer = stream(dying(UpstreamDied("core broke off"), large))
    raw = await made.connect(sock=small_window(made), limit=1024)
    raw.writer.transport.pause_reading()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    await asyncio.sleep(0.1)
    raw.writer.transport.resume_reading()
    received = await raw.rest()
    assert len(received) > 12_000_000
    assert b"core broke off" in received[-300:]


async def test_what_fails_before_the_first_byte_is_an_ordinary_error(site) -> None:
    made: Site = await site()
    made.script.answer = stream(dying(UpstreamDied("core broke off")))
    response = await (await made.connect()).post()
    assert (response.status, response.error["code"]) == (502, "upstream_error")


async def test_an_unforeseen_error_in_a_stream_cuts_the_connection(site, caplog) -> None:
    made: Site = await site()
    made.script.answer = stream(dying(ValueError("bug"), EVENTS[0]))
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    received = await raw.rest()
    assert EVENTS[0] in received
    assert not received.endswith(b"0\r\n\r\n")
    assert "unforeseen error" in caplog.text


async def test_the_source_of_a_stream_is_closed_as_soon_as_the_client_leaves(site) -> None:
    made: Site = await site()
    closed = asyncio.Event()

    async def endless():
        try:
            yield EVENTS[0]
            await asyncio.Event().wait()
        finally:
            closed.set()

    made.script.answer = stream(endless())
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    await raw.reader.readuntil(EVENTS[0])
    raw.writer.close()
    async with asyncio.timeout(2):
        await closed.wait()
    assert (await made.log())[0]["status"] == 499


# ---------------------------------------------------------------------------------------------- the openai SDK


async def test_the_sdk_reads_a_json_answer_and_its_request_id(site) -> None:
    made: Site = await site()
    made.script.answer = Reply(200, CacheInfo(CacheStatus.HIT, age=1, ttl=2), body=orjson.dumps(COMPLETION))
    made.script.stored = made.script.answer
    async with sdk(made) as client:
        for _ in range(3):
            answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
            assert answer.choices[0].message.content == "Paris."
            assert answer._request_id.startswith("req_")


async def test_the_sdk_reads_a_live_stream(site) -> None:
    made: Site = await site()
    made.script.answer = stream(play(*EVENTS))
    async with sdk(made) as client:
        assert await ask(client) == "Paris."


async def test_the_sdk_reads_a_replayed_stream(site) -> None:
    made: Site = await site()
    info = CacheInfo(CacheStatus.HIT, age=1, ttl=2)
    made.script.answer = Reply(200, info, content_type="text/event-stream; charset=utf-8", body=b"".join(EVENTS))
    made.script.stored = made.script.answer
    async with sdk(made) as client:
        for _ in range(3):
            assert await ask(client) == "Paris."


async def test_the_sdk_raises_for_a_stream_that_dies(site) -> None:
    made: Site = await site()
    made.script.answer = stream(dying(UpstreamDied("core broke off"), EVENTS[0]))
    async with sdk(made) as client:
        with pytest.raises(APIError, match="core broke off"):
            await ask(client)


async def test_the_sdk_reads_completions_and_responses(site) -> None:
    made: Site = await site()
    text = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    text["choices"] = [{"index": 0, "text": "Paris.", "finish_reason": "stop", "logprobs": None}]
    made.script.answer = miss(orjson.dumps(text))
    async with sdk(made) as client:
        assert (await client.completions.create(model="m", prompt="?")).choices[0].text == "Paris."
        content = [{"type": "output_text", "text": "Paris.", "annotations": []}]
        message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": content}
        answer = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
        answer |= {"output": [message], "parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
        made.script.answer = miss(orjson.dumps(answer))
        assert (await client.responses.create(model="m", input="?")).output_text == "Paris."
        done = b"event: response.completed\ndata: " + orjson.dumps(
            {"type": "response.completed", "sequence_number": 1, "response": answer}
        )
        made.script.answer = stream(play(done + b"\n\n"))
        events = [e async for e in await client.responses.create(model="m", input="?", stream=True)]
        assert events[-1].response.output_text == "Paris."


@pytest.mark.parametrize("short_cut", [False, True])
async def test_whose_limits_are_counted_here_hears_of_these_alone(site, short_cut: bool) -> None:
    tenants = (AuthTenant(id="acme", keys=("sk-1",), requests_per_minute=100), AuthTenant(id="free", keys=("sk-2",)))
    made: Site = await site(auth=Auth(mode="keys", tenant=tenants))
    theirs = {"X-RateLimit-Limit-Requests": "9", "x-ratelimit-remaining-tokens": "7", "retry-after-ms": "5"}
    made.script.answer = miss(b"{}", headers=theirs)
    if short_cut:
        made.remember(miss(b"{}", headers=theirs), authorization="Bearer sk-1")
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT, "Authorization: Bearer sk-1"))
    head = (await raw.reader.readuntil(b"\r\n\r\n")).decode()
    found = [line.partition(": ")[::2] for line in head.split("\r\n") if line.startswith("x-ratelimit-")]
    assert dict(found)["x-ratelimit-limit-requests"] == "100"
    assert len(found) == len(dict(found)) == 3
    assert "retry-after-ms: 5" in head
    assert made.script.hits == short_cut
    response = await (await made.connect()).post(CHAT, "/v1/chat/completions", "Authorization: Bearer sk-2")
    assert response.headers["x-ratelimit-limit-requests"] == "9"
