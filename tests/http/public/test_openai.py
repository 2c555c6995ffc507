import pytest
from openai import AsyncOpenAI

from edgecache.types import Endpoint
from tests.conftest import MODEL, Pop
from tests.http.conftest import Site, request

ASK = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.mark.parametrize(
    ("path", "endpoint", "body"),
    [
        ("/v1/chat/completions", Endpoint.CHAT, b'{"model":"m","messages":[{"role":"user","content":"x"}]}'),
        ("/v1/completions", Endpoint.COMPLETIONS, b'{"model":"m","prompt":"x"}'),
    ],
)
async def test_a_request_becomes_a_call_with_its_bytes_untouched(
    site, path: str, endpoint: Endpoint, body: bytes
) -> None:
    made: Site = await site()
    raw = await made.connect()
    await raw.send(request("POST", path, body))
    assert (await raw.response()).status == 200
    (call,) = made.script.calls
    assert (call.endpoint, call.model, call.raw, call.stream) == (endpoint, "m", body, False)


async def test_the_first_ask_is_a_miss_and_the_second_a_hit_json_and_stream_alike(pop: Pop) -> None:
    async with AsyncOpenAI(base_url=pop.url + "/v1", api_key="x", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response
        first = await raw.create(model=MODEL, messages=ASK)
        assert first.headers["x-edgecache-status"] == "MISS"
        assert first.headers["x-edgecache-upstream"] == "core"
        await pop.settled()
        second = await raw.create(model=MODEL, messages=ASK)
        assert second.headers["x-edgecache-status"] == "HIT"
        assert second.headers["cache-status"].startswith("edgecache; hit; ttl=")
        text = first.parse().choices[0].message.content
        assert second.parse().choices[0].message.content == text
        stream = await client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text
        assert stream.response.headers["x-edgecache-status"] == "HIT"
