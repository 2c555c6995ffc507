"""The clients people use against a whole POP: the openai SDK, curl, a raw socket, from upstream and from the cache.

`make test` runs them in front of the scripted core, `make e2e` in front of NVIDIA's Dynamo as well.
"""

import asyncio
import base64
import json
import shutil

import aiohttp
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

from tests.conftest import MODEL, Pop

QUESTION = "How do magnets work?"
MESSAGES = [{"role": "user", "content": QUESTION}]
LENGTH = {"max_tokens": 400, "min_tokens": 4}
"""Dynamo's mocker wants to be told when to stop, and would now and then say nothing at all."""
ASKED = {"model": MODEL, "messages": MESSAGES, "max_tokens": 400, "extra_body": {"min_tokens": 4}}


@pytest.fixture
async def pop(start_pop, upstream) -> Pop:
    return await start_pop(upstream.url, upstream=upstream.settings)


@pytest.fixture
async def sdk(pop: Pop):
    async with AsyncOpenAI(base_url=pop.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def status(response) -> str:
    return response.headers["x-edgecache-status"]


async def text_of(chunks) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


async def test_chat_in_both_forms_from_upstream_and_from_the_cache(pop: Pop, sdk: AsyncOpenAI) -> None:
    create = sdk.chat.completions.with_raw_response.create
    miss = await create(**ASKED)
    await pop.settled()
    hit = await create(**ASKED)
    replayed = await create(**ASKED, stream=True, stream_options={"include_usage": True})
    assert [status(each) for each in (miss, hit, replayed)] == ["MISS", "HIT", "HIT"]
    answer = hit.parse().choices[0].message.content
    assert answer == miss.parse().choices[0].message.content
    chunks = [chunk async for chunk in replayed.parse()]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == answer
    assert chunks[-1].usage == hit.parse().usage
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


async def test_a_chat_stream_from_upstream_is_the_stream_the_cache_replays(pop: Pop, sdk: AsyncOpenAI) -> None:
    create = sdk.chat.completions.with_raw_response.create
    live = await create(**ASKED, stream=True)
    said = await text_of(live.parse())
    await pop.settled()
    replayed = await create(**ASKED, stream=True)
    assert [status(live), status(replayed)] == ["MISS", "HIT"]
    assert await text_of(replayed.parse()) == said != ""


async def test_no_usage_chunk_reaches_a_client_that_did_not_ask(sdk: AsyncOpenAI) -> None:
    for _ in range(2):
        stream = await sdk.chat.completions.create(**ASKED, stream=True)
        assert all(chunk.choices for chunk in [chunk async for chunk in stream])


async def test_text_completions_in_both_forms(pop: Pop, sdk: AsyncOpenAI) -> None:
    create = sdk.completions.with_raw_response.create
    asked = {"model": MODEL, "prompt": QUESTION, "max_tokens": 400, "extra_body": {"min_tokens": 4}}
    miss = await create(**asked)
    await pop.settled()
    hit = await create(**asked)
    replayed = await create(**asked, stream=True)
    assert [status(each) for each in (miss, hit, replayed)] == ["MISS", "HIT", "HIT"]
    text = "".join([chunk.choices[0].text async for chunk in replayed.parse() if chunk.choices])
    assert text == hit.parse().choices[0].text == miss.parse().choices[0].text


async def test_a_length_limit_of_the_client_is_obeyed(sdk: AsyncOpenAI) -> None:
    short = await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    assert short.usage is not None
    assert short.usage.completion_tokens == 1


async def test_identical_questions_at_once_cost_one_generation(pop: Pop, sdk: AsyncOpenAI) -> None:
    create = sdk.chat.completions.with_raw_response.create
    replies = await asyncio.gather(*(create(**ASKED) for _ in range(6)))
    assert len({reply.parse().id for reply in replies}) == 1
    assert sum("collapsed" in reply.headers["cache-status"] for reply in replies) >= 1


async def test_a_model_that_is_not_served_is_a_404(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("no-such-model")


async def test_the_models_are_listed(sdk: AsyncOpenAI) -> None:
    assert MODEL in [model.id async for model in sdk.models.list()]
    assert (await sdk.models.retrieve(MODEL)).id == MODEL


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_the_local_embedder_answers_for_its_own_name(sdk: AsyncOpenAI, form: str) -> None:
    made = await sdk.embeddings.create(model="edgecache/hashing", input=[QUESTION, "b"], encoding_format=form)
    rows = [
        np.frombuffer(base64.b64decode(item.embedding), "<f4") if form == "base64" else np.array(item.embedding)
        for item in made.data
    ]
    assert [row.shape for row in rows] == [(384,), (384,)]
    assert np.linalg.norm(rows[0]) == pytest.approx(1.0, abs=1e-3)
    assert made.usage.total_tokens > 0


async def test_an_unknown_path_is_a_404_in_openais_envelope(pop: Pop) -> None:
    async with aiohttp.ClientSession() as session, session.get(pop.url + "/v1/nothing") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "unknown_url"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_streams_from_upstream_and_from_the_cache(pop: Pop) -> None:
    async def curl() -> str:
        body = json.dumps({"model": MODEL, "messages": MESSAGES, "stream": True} | LENGTH)
        process = await asyncio.create_subprocess_exec(
            "curl", "-siN", pop.url + "/v1/chat/completions", "-H", "content-type: application/json", "-d", body,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    miss = await curl()
    await pop.settled()
    hit = await curl()
    assert "x-edgecache-status: MISS" in miss
    assert "x-edgecache-status: HIT" in hit
    assert miss.rstrip().endswith("data: [DONE]")
    assert hit.rstrip().endswith("data: [DONE]")


async def test_a_raw_socket_gets_one_answer_after_another_on_one_connection(pop: Pop) -> None:
    host, port = pop.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"model": MODEL, "messages": MESSAGES} | LENGTH).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    answers = []
    for _ in range(3):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = int(next(line for line in lines if line.startswith(b"content-length:")).split()[1])
        answers.append((lines[0], await reader.readexactly(length)))
        await pop.settled()
    writer.close()
    assert {line for line, _ in answers} == {b"http/1.1 200 ok"}
    assert len({content for _, content in answers}) == 1
