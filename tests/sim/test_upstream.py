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

SIMULATED = [dialect for dialect in DIALECTS if dialect != "edgecache"]  # a neighbour POP is simulated by a POP
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


@pytest.mark.parametrize("dialect", SIMULATED)
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


@pytest.mark.parametrize("dialect", SIMULATED)
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
    statuses = {dialect: (await post(http, await start_core(dialect=dialect), other))[0] for dialect in SIMULATED}
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
        ("dynamo", "empty_404", 404),
    ],
)
async def test_injected_failures_answer_as_the_server_would(start_core, http, dialect, kind, status) -> None:
    core = await start_core(dialect=dialect, failure_injection_rate=1.0, failure_types=(kind,))
    got, body = await post(http, core, CHAT)
    assert got == status
    assert (body == b"null") == (kind == "null_body")
    assert (body == b"") == (kind == "empty_404")
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


@pytest.mark.parametrize("dialect", SIMULATED)
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


@pytest.mark.parametrize("dialect", SIMULATED)
async def test_requests_that_name_their_answer_get_the_same_one(start_core, http, dialect) -> None:
    core = await start_core(dialect=dialect)
    said = []
    for asked, name in (("how high is it", "tower"), ("what height has it", "tower"), ("how high is it", "hill")):
        body = CHAT | {"messages": [{"role": "user", "content": asked}]}
        headers = {"tracestate": words.naming(name)}
        async with http.post(core.url + "/v1/chat/completions", json=body, headers=headers) as response:
            said.append((await response.json())["choices"][0]["message"]["content"])
    assert said[0] == said[1] != said[2]


async def stream_of(http, core: ScriptedCore, body: dict, until_events: int) -> bytes:
    """The stream up to so many events, after which the client leaves."""
    splitter, events = EventSplitter(), []
    async with http.post(core.url + Endpoint.CHAT.path, json={**body, "stream": True}) as response:
        while len(events) < until_events:
            events += splitter.feed(await response.content.readany())
        response.close()
    return b"".join(events)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["hang", "silent"])
async def test_a_core_that_says_nothing_says_nothing_and_counts_nothing(start_core, http, kind, stream) -> None:
    core = await start_core(failure_injection_rate=1.0, failure_types=(kind,), max_num_seqs=1)
    asking = http.post(core.url + Endpoint.CHAT.path, json={**CHAT, "stream": stream}, timeout=patience(0.2))
    if kind == "hang":
        with pytest.raises(aiohttp.SocketTimeoutError):
            await asking
    else:
        async with asking as response:
            assert response.status == 200
            with pytest.raises(aiohttp.SocketTimeoutError):
                await response.content.read(1)
    await until(lambda: core.seen.disconnected == 1)
    assert core._slots.running == 0
    assert not core.seen.prompt_tokens
    assert core.seen.finished == 0


def patience(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_read=seconds)


async def test_a_core_flaps_as_it_is_told(start_core, http) -> None:
    core = await start_core(failure_types=("empty_404",), dialect="dynamo")
    statuses = []
    for rate in (0, 1, 0, 1):
        async with http.post(core.url + "/admin/config", json={"failure-injection-rate": rate}) as response:
            assert response.status == 200
        async with http.get(core.url + "/v1/models") as response:
            listed = len((await response.json())["data"])
        statuses.append(((await post(http, core, CHAT))[0], listed))
    assert statuses == [(200, 1), (404, 0)] * 2


@pytest.mark.parametrize(("wait", "said"), [(60, "60"), (0, None)])
async def test_a_busy_core_says_how_long_to_wait(start_core, http, wait, said) -> None:
    core = await start_core(failure_injection_rate=1.0, failure_types=("rate_limit",), retry_after=wait)
    async with http.post(core.url + Endpoint.CHAT.path, json=CHAT) as response:
        assert (response.status, response.headers.get("Retry-After")) == (429, said)


async def test_an_answer_in_progress_feels_a_change_of_pace(start_core, http) -> None:
    core = await start_core(inter_token_latency=0.1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    asking = loop.create_task(post(http, core, {**CHAT, "stream": True}))
    await until(lambda: core.seen.generated_tokens["edge-test"] >= 2)
    core.configure(time_factor=1e-6)
    await asking
    assert core.seen.generated_tokens["edge-test"] > 20
    assert loop.time() - begun < 1.0


@pytest.mark.parametrize("dialect", SIMULATED)
@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
async def test_the_counters_are_the_sum_of_what_the_answers_say(start_core, http, dialect, endpoint) -> None:
    core = await start_core(dialect=dialect)
    question = " ".join(f"word{number}" for number in range(40))
    body = {"model": "edge-test", "n": 2}
    body |= (
        {"prompt": question}
        if endpoint is Endpoint.COMPLETIONS
        else {"messages": [{"role": "user", "content": question}]}
    )
    usages = []
    for form in ({}, {"stream": True, "stream_options": {"include_usage": True}}, {"max_tokens": 3}):
        _, answer = await post(http, core, body | form, endpoint)
        payloads = [data(event) for event in EventSplitter().feed(answer)] if form.get("stream") else [answer]
        usages += [usage for each in payloads if each != b"[DONE]" if (usage := orjson.loads(each).get("usage"))]
    assert len(usages) == 3
    assert core.seen.prompt_tokens["edge-test"] == sum(usage["prompt_tokens"] for usage in usages) == 120
    assert core.seen.generated_tokens["edge-test"] == sum(usage["completion_tokens"] for usage in usages)
    if dialect != "vllm":
        cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
        assert cached == [0, 32, 32]
    assert core.seen.cached_tokens["edge-test"] == 64
    assert core.seen.finished == 3


async def test_a_follow_up_finds_the_answer_in_the_prefix_cache_but_not_another_tenants(start_core, http) -> None:
    core = await start_core()
    turns = [{"role": "user", "content": " ".join(f"word{number}" for number in range(30))}]
    cached = []
    for salt in ("a", "a", "b"):
        _, answer = await post(http, core, {**CHAT, "messages": turns, "cache_salt": salt})
        found = orjson.loads(answer)
        cached.append(found["usage"]["prompt_tokens_details"]["cached_tokens"])
        turns = [*turns, found["choices"][0]["message"], {"role": "user", "content": "and then?"}]
    first_answer = len(turns[1]["content"].split())
    assert cached == [0, (30 + first_answer) // 16 * 16, 0]
    assert core.seen.salts == {"a": 2, "b": 1}


async def test_responses_tell_cached_tokens_too(start_core, sdk) -> None:
    client = sdk(await start_core())
    asked = {"model": "edge-test", "input": "word " * 20, "store": False}
    usages = [(await client.responses.create(**asked)).usage for _ in range(2)]
    assert [usage.input_tokens_details.cached_tokens for usage in usages] == [0, 16]


async def test_tokens_that_were_said_before_the_client_left_count(start_core, http) -> None:
    core = await start_core(failure_injection_rate=1.0, failure_types=("stall",), failure_position=4, dialect="vllm")
    read = await stream_of(http, core, CHAT, 5)  # the opening event and four tokens
    assert read.count(b'"content":') == 5
    await until(lambda: core.seen.disconnected == 1)
    assert core.seen.generated_tokens["edge-test"] == 4
    assert core.seen.prompt_tokens["edge-test"] == 5


async def test_a_long_prompt_takes_longer_until_it_is_in_the_cache(start_core, http) -> None:
    core = await start_core(prefill_time_per_token=0.002, dialect="vllm")
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(2):
        begun = loop.time()
        await post(http, core, {**CHAT, "messages": [{"role": "user", "content": "word " * 97}], "max_tokens": 1})
        took.append(loop.time() - begun)
    assert took[0] >= 0.194
    assert took[1] < took[0] / 2


@pytest.mark.parametrize(
    ("dialect", "fields", "priority"),
    [
        ("trtllm", {"priority": 0.75}, 0.75),
        ("vllm", {"priority": -2}, -2.0),
        ("dynamo", {"nvext": {"agent_hints": {"priority": 3}}}, 3.0),
    ],
)
async def test_priorities_are_noted(start_core, http, dialect, fields, priority) -> None:
    core = await start_core(dialect=dialect)
    assert (await post(http, core, CHAT | fields))[0] == 200
    await post(http, core, CHAT)
    assert core.seen.priorities == {priority: 1}


@pytest.mark.parametrize("dialect", ["vllm", "openai"])
async def test_an_answer_that_one_core_began_another_ends(start_core, http, dialect) -> None:
    first = await start_core(dialect=dialect, failure_injection_rate=1.0, failure_types=("cut",), failure_position=6)
    second = await start_core(dialect=dialect)
    written = b""
    with pytest.raises(aiohttp.ClientPayloadError):
        async with http.post(first.url + Endpoint.CHAT.path, json={**CHAT, "stream": True}) as response:
            async for part in response.content.iter_any():
                written += part
    text = "".join(said(written))
    turns = [*CHAT["messages"], {"role": "assistant", "content": text}]
    rest = {**CHAT, "messages": turns, "continue_final_message": True, "add_generation_prompt": False, "stream": True}
    _, answer = await post(http, second, rest)
    _, whole = await post(http, second, CHAT)
    assert len(text.split()) == 6
    assert text + "".join(said(answer)) == orjson.loads(whole)["choices"][0]["message"]["content"]


def said(stream: bytes) -> list[str]:
    payloads = (data(event) for event in EventSplitter().feed(stream))
    chunks = (orjson.loads(payload) for payload in payloads if payload != b"[DONE]")
    return [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]


async def test_adapters_are_listed_as_models_except_by_trtllm(start_core, http, sdk) -> None:
    listed = {}
    for dialect in SIMULATED:
        core = await start_core(dialect=dialect, loras=("legal",))
        listed[dialect] = [model.id for model in (await sdk(core).models.list()).data]
    assert listed.pop("trtllm") == ["edge-test"]
    assert all(models == ["edge-test", "legal"] for models in listed.values())
    core = await start_core(dialect="vllm", loras=("legal",))
    assert (await post(http, core, CHAT | {"model": "legal"}))[0] == 200
    assert core.seen.prompt_tokens == {"legal": 5}


@pytest.mark.parametrize(
    ("dialect", "path", "line"),
    [
        ("vllm", "/metrics", "vllm:num_requests_waiting"),
        ("dynamo", "/metrics", "dynamo_frontend_queued_requests"),
        ("trtllm", "/prometheus/metrics", "trtllm_num_requests_waiting"),
    ],
)
async def test_metrics_tell_who_waits_unless_they_lie(start_core, http, dialect, path, line) -> None:
    core = await start_core(dialect=dialect, max_num_seqs=1, failure_injection_rate=1.0, failure_types=("stall",))
    asking = [asyncio.get_running_loop().create_task(post(http, core, CHAT)) for _ in range(3)]
    await until(lambda: core._slots.waiting == 2)
    told = []
    for lie in ({}, {"waiting_requests": 0}):
        async with http.post(core.url + "/admin/config", json={"fake-metrics": lie}) as response:
            assert (await response.json())["fake_metrics"]["waiting_requests"] == lie.get("waiting_requests")
        async with http.get(core.url + path) as response:
            assert response.content_type == "text/plain"
            lines = (await response.text()).splitlines()
        told.append(next(float(each.split()[-1]) for each in lines if each.startswith(line)))
    assert told == [2, 0]
    for task in asking:
        task.cancel()
    await until(lambda: core.seen.disconnected == 3)


@pytest.mark.parametrize("path", ["/metrics", "/prometheus/metrics"])
async def test_a_core_that_is_just_openai_compatible_has_no_metrics(start_core, http, path) -> None:
    core = await start_core(dialect="openai")
    async with http.get(core.url + path) as response:
        assert response.status == 404


async def test_trtllms_iterations_are_read_once(start_core, http) -> None:
    core = await start_core(max_num_seqs=1, failure_injection_rate=1.0, failure_types=("stall",))

    async def records() -> list[tuple[int, int]]:
        async with http.get(core.url + "/metrics") as response:
            return [(each["numActiveRequests"], each["numQueuedRequests"]) for each in await response.json()]

    assert await records() == []  # idle, or not known
    asking = [asyncio.get_running_loop().create_task(post(http, core, CHAT)) for _ in range(2)]
    await until(lambda: core._slots.waiting == 1)
    assert (await records())[-1] == (1, 1)
    assert await records() == [(1, 1)]
    for task in asking:
        task.cancel()
    await until(lambda: core.seen.disconnected == 2)
    assert (await records())[-1] == (0, 0)
    assert await records() == []
