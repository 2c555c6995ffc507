import asyncio
import base64

import aiohttp
import numpy as np
import openai
import orjson
import pytest

from edgecache.clock import SystemClock
from edgecache.config import tree as config
from edgecache.sim import words
from edgecache.sim.upstream import DIMENSION, ScriptedCore
from edgecache.types import Endpoint
from edgecache.upstream.dialects import DIALECTS
from edgecache.wire.sse import EventSplitter, data

CHAT = {"model": "edge-test", "messages": [{"role": "user", "content": "why is the sky blue"}]}


@pytest.fixture
async def start_core():
    running: list[ScriptedCore] = []

    async def start(**settings) -> ScriptedCore:
        quick = {"time_to_first_token": 0.0, "inter_token_latency": 0.0}
        core = ScriptedCore(config.Core(**{**quick, **settings}), SystemClock())
        await core.start()
        running.append(core)
        return core

    yield start
    for core in running:
        await core.stop()


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def sdk():
    """The openai SDK pointed at a core."""
    clients: list[openai.AsyncOpenAI] = []

    def build(core: ScriptedCore) -> openai.AsyncOpenAI:
        clients.append(openai.AsyncOpenAI(base_url=core.url + "/v1", api_key="k", max_retries=0))
        return clients[-1]

    yield build
    for client in clients:
        await client.close()


async def until(condition) -> None:
    """Let the loop turn until `condition()` holds; the test's own time limit ends a wait that never does."""
    while not condition():
        await asyncio.sleep(0)


async def post(http, core: ScriptedCore, body: object, endpoint: Endpoint = Endpoint.CHAT) -> tuple[int, bytes]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    async with http.post(core.url + endpoint.path, data=raw) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_openai_sdk_understands_every_dialect(start_core, sdk, dialect) -> None:
    core = await start_core(dialect=dialect)
    client = sdk(core)
    whole = await client.chat.completions.create(**CHAT)
    text = whole.choices[0].message.content
    assert "why is the sky blue" in text
    assert whole.usage.completion_tokens == len(text.split())
    stream = await client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].usage == whole.usage
    prompt = {"model": "edge-test", "prompt": "why is the sky blue"}
    completed = await client.completions.create(**prompt)
    pieces = await client.completions.create(**prompt, stream=True)
    assert "".join([piece.choices[0].text async for piece in pieces]) == completed.choices[0].text == text
    assert [model.id for model in (await client.models.list()).data] == ["edge-test"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_openai_sdk_keeps_responses(start_core, sdk, dialect) -> None:
    client = sdk(await start_core(dialect=dialect))
    made = await client.responses.create(model="edge-test", input="why is the sky blue")
    assert "why is the sky blue" in made.output_text
    assert (await client.responses.retrieve(made.id)).output_text == made.output_text
    follow = await client.responses.create(model="edge-test", input="and red?", previous_response_id=made.id)
    assert follow.previous_response_id == made.id
    assert (await client.responses.input_items.list(made.id)).data[0].content[0].text == "why is the sky blue"
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(made.id)
    later = await client.responses.create(model="edge-test", input="q", background=True)
    assert (await client.responses.cancel(later.id)).status == "cancelled"
    await client.responses.delete(made.id)
    for gone in (
        client.responses.retrieve(made.id),
        client.responses.create(model="edge-test", input="x", previous_response_id=made.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await gone
    stream = await client.responses.create(model="edge-test", input="why", stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.completed"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == (
        events[-1].response.output_text
    )


async def test_embeddings_come_as_numbers_or_packed(start_core, sdk, http) -> None:
    core = await start_core()
    client = sdk(core)  # asks for base64
    packed = await client.embeddings.create(model="edge-test", input=["a", "b"])
    plain = await client.embeddings.create(model="edge-test", input="a", encoding_format="float")
    assert np.allclose(packed.data[0].embedding, plain.data[0].embedding)
    assert len(plain.data[0].embedding) == DIMENSION
    assert not np.allclose(packed.data[0].embedding, packed.data[1].embedding)
    _, body = await post(
        http,
        core,
        {"model": "m", "input": [[1, 2], [3]], "encoding_format": "base64", "dimensions": 8},
        Endpoint.EMBEDDINGS,
    )
    vectors = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in orjson.loads(body)["data"]]
    assert [len(vector) for vector in vectors] == [8, 8]
    _, body = await post(http, core, {"model": "m", "input": [1, 2, 3]}, Endpoint.EMBEDDINGS)
    assert len(orjson.loads(body)["data"]) == 1


async def test_limits_stops_choices_and_seeds_are_honoured(start_core, sdk) -> None:
    client = sdk(await start_core(dialect="vllm"))
    cut = (await client.chat.completions.create(**CHAT, max_tokens=3)).choices[0]
    assert (len(cut.message.content.split()), cut.finish_reason) == (3, "length")
    stopped = (await client.chat.completions.create(**CHAT, stop="sky")).choices[0]
    assert stopped.finish_reason == "stop"
    assert "sky" not in stopped.message.content
    many = await client.chat.completions.create(**CHAT, n=6, seed=3)
    assert len({choice.message.content for choice in many.choices}) > 1
    again = await client.chat.completions.create(**CHAT, n=6, seed=3)
    assert many.choices == again.choices
    filled = await client.chat.completions.create(**CHAT, max_tokens=200, extra_body={"ignore_eos": True})
    assert filled.usage.completion_tokens == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        ({"messages": []}, 400),
        ({**CHAT, "edge_tier": 1}, 400),
        ({**CHAT, "stream_options": {"include_usage": True}}, 400),
        ({**CHAT, "messages": [{"role": "user", "content": "word " * 40}]}, 400),
    ],
)
@pytest.mark.parametrize("dialect", ["trtllm", "dynamo", "openai"])
async def test_bad_requests_are_refused(start_core, http, dialect, body, status) -> None:
    got, text = await post(http, await start_core(dialect=dialect, max_model_len=30), body)
    assert got == status
    assert orjson.loads(text).keys() & {"error", "message"}


async def test_an_unknown_model_is_refused_except_by_trtllm_which_has_only_one(start_core, http) -> None:
    other = {**CHAT, "model": "other"}
    statuses = {dialect: (await post(http, await start_core(dialect=dialect), other))[0] for dialect in DIALECTS}
    assert statuses == {"openai": 404, "vllm": 404, "dynamo": 404, "trtllm": 200}


async def test_vllm_takes_fields_it_does_not_know(start_core, http) -> None:
    assert (await post(http, await start_core(dialect="vllm"), {**CHAT, "edge_tier": 1}))[0] == 200


@pytest.mark.parametrize(
    ("dialect", "kind", "status"),
    [
        ("trtllm", "rate_limit", 429),
        ("trtllm", "server_error", 500),
        ("trtllm", "overloaded", 503),
        ("dynamo", "overloaded", 529),
        ("trtllm", "error_event", 500),
        ("trtllm", "null_body", 200),
    ],
)
async def test_injected_failures_answer_as_the_server_would(start_core, http, dialect, kind, status) -> None:
    core = await start_core(dialect=dialect, failure_injection_rate=1.0, failure_types=(kind,))
    got, body = await post(http, core, CHAT)
    assert got == status
    assert (body == b"null") == (kind == "null_body")
    assert core.seen.failures == {kind: 1}


@pytest.mark.parametrize("dialect", ["trtllm", "dynamo"])
async def test_a_stream_with_an_error_event_ends_as_the_dialect_does(start_core, http, dialect) -> None:
    core = await start_core(dialect=dialect, failure_injection_rate=1.0, failure_types=("error_event",))
    _, body = await post(http, core, {**CHAT, "stream": True})
    payloads = [data(event) for event in EventSplitter().feed(body)]
    assert b'"error"' in payloads[-2 if dialect == "dynamo" else -1]
    assert (payloads[-1] == b"[DONE]") == (dialect == "dynamo")
    assert len(payloads) > 3


async def test_a_cut_stream_is_cut(start_core, http) -> None:
    core = await start_core(failure_injection_rate=1.0, failure_types=("cut",))
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(http, core, {**CHAT, "stream": True})


async def test_failures_come_at_the_configured_rate_and_the_same_ones_each_time(start_core, http) -> None:
    runs = []
    for _ in range(2):
        core = await start_core(failure_injection_rate=0.3, failure_types=("server_error",), seed=4)
        runs.append([(await post(http, core, CHAT))[0] for _ in range(100)])
    assert runs[0] == runs[1]
    assert 15 < runs[0].count(500) < 45


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_is_noticed_and_frees_its_place(start_core, http, stream) -> None:
    core = await start_core(failure_injection_rate=1.0, failure_types=("stall",), max_num_seqs=1)
    asking = asyncio.get_running_loop().create_task(post(http, core, {**CHAT, "stream": stream}))
    await until(lambda: core._slots.running == 1)
    asking.cancel()
    await until(lambda: core.seen.disconnected == 1)
    assert core._slots.running == 0


@pytest.mark.parametrize(("dialect", "status"), [("trtllm", 429), ("dynamo", 529)])
async def test_a_full_queue_refuses(start_core, http, dialect, status) -> None:
    core = await start_core(
        dialect=dialect,
        max_num_seqs=1,
        max_waiting_queue_length=1,
        failure_injection_rate=1.0,
        failure_types=("stall",),
    )
    loop = asyncio.get_running_loop()
    held = []
    for place in ((1, 0), (1, 1)):
        held.append(loop.create_task(post(http, core, CHAT)))
        await until(lambda place=place: (core._slots.running, core._slots.waiting) == place)
    assert (await post(http, core, CHAT))[0] == status
    assert core.seen.refused == 1
    for task in held:
        task.cancel()
    await until(lambda: core.seen.disconnected == 2)


async def test_settings_change_while_it_runs(start_core, http) -> None:
    core = await start_core()
    async with http.post(core.url + "/admin/config", json={"time-to-first-token": 0.2, "max_num_seqs": 3}) as response:
        assert (await response.json())["time_to_first_token"] == 0.2
    assert core.settings.time_to_first_token == 0.2
    assert core._slots.size == 3
    for bad in (b'{"nonsense":1}', b'{"seed":"x"}', b"[1]", b"{", b'{"failure_injection_rate":7}'):
        async with http.post(core.url + "/admin/config", data=bad) as response:
            assert response.status == 400
    async with http.get(core.url + "/admin/config") as response:
        assert (await response.json())["max_num_seqs"] == 3


async def test_what_it_saw_can_be_asked(start_core, http) -> None:
    core = await start_core()
    await post(http, core, {**CHAT, "stream": True})
    async with http.get(core.url + "/admin/seen") as response:
        seen = await response.json()
    assert (seen["requests"], seen["streams"], seen["running"]) == (1, 1, 0)
    assert seen["last"]["body"]["stream"] is True


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_health_and_version_are_answered(start_core, http, dialect) -> None:
    core = await start_core(dialect=dialect)
    for path in ("/health", "/version"):
        async with http.get(core.url + path) as response:
            assert response.status == 200


async def test_stopping_ends_what_runs_and_is_not_a_disconnect(start_core, http) -> None:
    core = await start_core(failure_injection_rate=1.0, failure_types=("stall",))
    asking = asyncio.get_running_loop().create_task(post(http, core, CHAT))
    await until(lambda: core._slots.running == 1)
    await core.stop()
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert core.seen.disconnected == 0


async def test_a_token_at_a_time_takes_its_time(start_core, http) -> None:
    core = await start_core(time_to_first_token=0.02, inter_token_latency=0.005)
    loop = asyncio.get_running_loop()
    for stream in (False, True):
        begun = loop.time()
        await post(http, core, {**CHAT, "max_tokens": 5, "stream": stream})
        assert loop.time() - begun >= 0.02 + 4 * 0.005


@pytest.mark.parametrize("dialect", list(DIALECTS))
async def test_requests_that_name_their_answer_get_the_same_one(start_core, http, dialect) -> None:
    core = await start_core(dialect=dialect)
    said = []
    for asked, name in (("how high is it", "tower"), ("what height has it", "tower"), ("how high is it", "hill")):
        body = CHAT | {"messages": [{"role": "user", "content": asked}]}
        headers = {"tracestate": words.naming(name)}
        async with http.post(core.url + "/v1/chat/completions", json=body, headers=headers) as response:
            said.append((await response.json())["choices"][0]["message"]["content"])
    assert said[0] == said[1] != said[2]
