import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from edgecache.types import Endpoint
from edgecache.wire import answers, sse
from edgecache.wire.answers import Finished, Unfinished, from_events, from_json, render_stream
from edgecache.wire.choices import PIECE

# What the servers put on the wire, chunk by chunk: reference fixtures of the complete-answer rule.

TRTLLM = (
    # The role event has a trailing space; nulls are left out, so `finish_reason` only shows up at the end.
    b'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1763600000,"model":"edge-test","choices":'
    b'[{"index":0,"delta":{"role":"assistant"}}]} \n\n'
    b'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1763600000,"model":"edge-test","choices":'
    b'[{"index":0,"delta":{"content":"The capital","reasoning_content":"Easy."}}]}\n\n'
    b'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1763600000,"model":"edge-test","choices":'
    b'[{"index":0,"delta":{"content":""}}]}\n\n'
    b'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1763600000,"model":"edge-test","choices":'
    b'[{"index":0,"delta":{"content":" is Paris."},"finish_reason":"stop","avg_decoded_tokens_per_iter":1.0}]}\n\n'
    b'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1763600000,"model":"edge-test","choices":[],'
    b'"usage":{"prompt_tokens":12,"total_tokens":17,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":0}}}'
    b"\n\n"
    b"data: [DONE]\n\n"
)

DYNAMO = (
    # Nulls are written, and the role is repeated in every chunk.
    b": keep-alive\n\n"
    b'data: {"id":"chatcmpl-5f0c","choices":[{"index":0,"delta":{"content":"The capital","function_call":null,'
    b'"tool_calls":null,"role":"assistant","refusal":null,"reasoning_content":null},"finish_reason":null,'
    b'"logprobs":null}],"created":1763600000,"model":"edge-test","system_fingerprint":null,'
    b'"object":"chat.completion.chunk","usage":null}\n\n'
    b'data: {"id":"chatcmpl-5f0c","choices":[{"index":0,"delta":{"content":" is Paris.","function_call":null,'
    b'"tool_calls":null,"role":"assistant","refusal":null,"reasoning_content":null},"finish_reason":null,'
    b'"logprobs":null}],"created":1763600000,"model":"edge-test","system_fingerprint":null,'
    b'"object":"chat.completion.chunk","usage":null}\n\n'
    b'data: {"id":"chatcmpl-5f0c","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":"stop",'
    b'"logprobs":null}],"created":1763600000,"model":"edge-test","object":"chat.completion.chunk","usage":null}\n\n'
    b"data: [DONE]\n\n"
)

DYNAMO_DIED = DYNAMO[: DYNAMO.index(b'data: {"id":"chatcmpl-5f0c","choices":[{"index":0,"delta":{"role"')] + (
    b'data: {"error":{"message":"Service temporarily unavailable","type":"service_unavailable","code":503}}\n\n'
    b"data: [DONE]\n\n"
)

VLLM_CONTINUOUS_USAGE = (
    b'data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":12,'
    b'"total_tokens":12,"completion_tokens":0}}\n\n'
    b'data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"Paris."},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":12,'
    b'"total_tokens":14,"completion_tokens":2}}\n\n'
    b'data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":'
    b'{"prompt_tokens":12,"total_tokens":14,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)

OPENAI_TOOLS = (
    b'data: {"id":"chatcmpl-B","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default",'
    b'"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":'
    b'[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}],"refusal":null},'
    b'"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"8sJ"}\n\n'
    b'data: {"id":"chatcmpl-B","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default",'
    b'"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":'
    b'"{\\"city\\":"}}]},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"q"}\n\n'
    b'data: {"id":"chatcmpl-B","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default",'
    b'"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":'
    b'"\\"Paris\\"}"}}]},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":""}\n\n'
    b'data: {"id":"chatcmpl-B","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default",'
    b'"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}],'
    b'"usage":null,"obfuscation":"x"}\n\n'
    b"data: [DONE]\n\n"
)

VLLM_COMPLETION = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" Par",'
    b'"logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}\r\n\r\n'
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":"is",'
    b'"logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":null}\r\n\r\n'
    b"data: [DONE]\r\n\r\n"
)

RESPONSE = (
    b'{"id":"resp_1","object":"response","created_at":1,"status":"completed","error":null,"model":"m","output":'
    b'[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":'
    b'"Paris.","annotations":[],"logprobs":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":'
    b'{"input_tokens":12,"input_tokens_details":{"cached_tokens":0},"output_tokens":2,"output_tokens_details":'
    b'{"reasoning_tokens":0},"total_tokens":14}}'
)


def events(stream: bytes) -> list[bytes]:
    splitter = sse.EventSplitter()
    found = splitter.feed(stream)
    assert splitter.rest == b""
    return found


def finished(endpoint: Endpoint, stream: bytes) -> Finished:
    outcome = from_events(endpoint, events(stream))
    assert isinstance(outcome, Finished), outcome
    assert from_json(endpoint, outcome.body) == outcome
    return outcome


def test_a_trtllm_stream_becomes_one_answer() -> None:
    outcome = finished(Endpoint.CHAT, TRTLLM)
    assert (outcome.finish_reason, outcome.prompt_tokens, outcome.completion_tokens) == ("stop", 12, 5)
    assert json.loads(outcome.body) == {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1763600000,
        "model": "edge-test",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "The capital is Paris.",
                    "reasoning_content": "Easy.",
                },
                "finish_reason": "stop",
                "avg_decoded_tokens_per_iter": 1.0,
            }
        ],
        "usage": {
            "prompt_tokens": 12,
            "total_tokens": 17,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def test_a_dynamo_stream_becomes_one_answer() -> None:
    choice = json.loads(finished(Endpoint.CHAT, DYNAMO).body)["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {
        "role": "assistant",
        "content": "The capital is Paris.",
        "function_call": None,
        "tool_calls": None,
        "refusal": None,
        "reasoning_content": None,
    }


def test_a_dynamo_stream_that_died_is_unfinished_although_it_says_done() -> None:
    assert from_events(Endpoint.CHAT, events(DYNAMO_DIED)) == Unfinished("error")


def test_a_dynamo_error_event_without_data_is_seen_too() -> None:
    whole = events(DYNAMO)
    assert from_events(Endpoint.CHAT, [*whole[:-1], b"event: error\n: worker lost\n\n", sse.DONE]) == Unfinished(
        "error"
    )


def test_the_last_of_continuous_usage_counts() -> None:
    outcome = finished(Endpoint.CHAT, VLLM_CONTINUOUS_USAGE)
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (12, 2)


def test_an_openai_tool_call_is_put_together() -> None:
    outcome = finished(Endpoint.CHAT, OPENAI_TOOLS)
    assert (outcome.finish_reason, outcome.tool_calls) == ("tool_calls", True)
    whole = json.loads(outcome.body)
    assert whole["choices"][0]["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    ]
    assert (whole["service_tier"], whole["system_fingerprint"], "obfuscation" in whole) == ("default", "fp_1", False)


def test_a_completion_stream_that_hit_its_limit_is_finished_as_length() -> None:
    outcome = finished(Endpoint.COMPLETIONS, VLLM_COMPLETION)
    assert outcome.finish_reason == "length"
    assert json.loads(outcome.body)["choices"][0]["text"] == " Paris"


@pytest.mark.parametrize("stream", [TRTLLM, DYNAMO, VLLM_CONTINUOUS_USAGE, OPENAI_TOOLS])
def test_a_chat_stream_cut_anywhere_is_never_finished(stream: bytes) -> None:
    whole = events(stream)
    for length in range(len(whole)):
        assert isinstance(from_events(Endpoint.CHAT, whole[:length]), Unfinished)
    for missing, event in enumerate(whole):
        if b'"finish_reason":"' in event or event == sse.DONE:
            assert isinstance(from_events(Endpoint.CHAT, whole[:missing] + whole[missing + 1 :]), Unfinished)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"null", "null"),  # trtllm-serve after its engine died
        (b"", "not_json"),
        (b'{"choices":[', "not_json"),
        (b'"text"', "malformed"),
        (b"[" * 129 + b"]" * 129, "malformed"),
        (b'{"x":' + b"[" * 128 + b"]" * 128 + b"}", "malformed"),
        (b'{"error":{"message":"m"}}', "error"),
        (b'{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}', "error"),
        (b"{}", "no_choices"),
        (b'{"choices":[{"message":{"content":5},"finish_reason":"stop"}]}', "malformed"),
        (
            b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":"1"}}',
            "malformed",
        ),
        (b'{"choices":{"0":{}}}', "malformed"),
    ],
)
def test_a_body_that_is_no_whole_chat_answer_says_why(body: bytes, reason: str) -> None:
    assert from_json(Endpoint.CHAT, body) == Unfinished(reason)


def test_a_plain_answer_is_kept_byte_by_byte() -> None:
    body = (
        b'{ "id":"c", "choices":[{"index":0,"message":{"role":"assistant","content":"caf\\u00e9","tool_calls":[],'
        b'"reasoning_content":""},"finish_reason":"stop"}], "usage":null }'
    )
    assert from_json(Endpoint.CHAT, body) == Finished(body, "stop")


def test_embeddings_are_finished_when_there_are_any() -> None:
    body = b'{"object":"list","data":[{"index":0,"embedding":"AAA="}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
    assert from_json(Endpoint.EMBEDDINGS, body) == Finished(body, "stop", prompt_tokens=3)
    assert isinstance(from_json(Endpoint.EMBEDDINGS, b'{"object":"list","data":[{}]}'), Finished)
    assert from_json(Endpoint.EMBEDDINGS, b'{"object":"list","data":[]}') == Unfinished("no_data")
    assert from_json(Endpoint.EMBEDDINGS, b'{"object":"x","data":[{}]}') == Unfinished("no_data")
    assert from_json(Endpoint.EMBEDDINGS, b'{"data":[{}]}') == Unfinished("malformed")


def test_embeddings_have_no_stream() -> None:
    assert from_events(Endpoint.EMBEDDINGS, [sse.DONE]) == Unfinished("malformed")
    with pytest.raises(ValueError, match="not streamed"):
        render_stream(Endpoint.EMBEDDINGS, b"{}", include_usage=False)


def test_a_response_survives_its_stream_byte_by_byte() -> None:
    stream = render_stream(Endpoint.RESPONSES, RESPONSE, include_usage=False)
    assert finished(Endpoint.RESPONSES, stream) == Finished(RESPONSE, "stop", 12, 2)
    assert from_events(Endpoint.RESPONSES, events(stream)[:-1]) == Unfinished("not_completed")


# ---- what is rendered assembles to what was rendered -----------------------------------------------------------

texts = st.text(max_size=30) | st.integers(PIECE - 1, PIECE + 1).map(lambda size: "é" * size)
tool_calls = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(min_size=1, max_size=5),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.text(min_size=1, max_size=5), "arguments": texts}),
        }
    ),
    max_size=3,
)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | texts},
    optional={
        "reasoning_content": st.none() | texts,
        "reasoning": texts,
        "refusal": st.none(),
        "tool_calls": st.none() | tool_calls,
        "annotations": st.just([]),
        "extra": st.dictionaries(st.sampled_from("ab"), st.integers() | st.text(max_size=3), max_size=2),
    },
)
logprobs = st.none() | st.fixed_dictionaries(
    {"content": st.lists(st.fixed_dictionaries({"token": st.text(max_size=3), "logprob": st.integers()}), max_size=3)}
)
ends = st.sampled_from(["stop", "length", "tool_calls"])
usages = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99)})
chats = st.fixed_dictionaries(
    {
        "id": st.text(max_size=5),
        "object": st.just("chat.completion"),
        "created": st.integers(0, 2**40),
        "model": st.just("m"),
        "choices": st.lists(
            st.fixed_dictionaries(
                {"message": messages, "finish_reason": ends, "logprobs": logprobs}, optional={"stop_reason": ends}
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={"usage": usages, "system_fingerprint": st.none() | st.text(max_size=4), "nvext": st.integers()},
)
completions = st.fixed_dictionaries(
    {
        "object": st.just("text_completion"),
        "choices": st.lists(
            st.fixed_dictionaries({"text": texts, "finish_reason": ends, "logprobs": st.none()}), min_size=1, max_size=3
        ),
    },
    optional={"id": st.text(max_size=5), "usage": usages},
)


def meaning(body: bytes) -> Any:
    """An answer without the ways to write that something is absent."""
    answer = json.loads(body)
    for choice in answer["choices"]:
        if "message" in choice:
            choice["message"] = {
                key: value for key, value in choice["message"].items() if value not in (None, "", [], {})
            }
    return answer


@given(st.tuples(st.just(Endpoint.CHAT), chats) | st.tuples(st.just(Endpoint.COMPLETIONS), completions))
def test_what_is_rendered_assembles_to_the_same_answer(case: tuple[Endpoint, dict[str, Any]]) -> None:
    endpoint, answer = case
    for index, choice in enumerate(answer["choices"]):
        choice["index"] = index
    body = json.dumps(answer, ensure_ascii=False).encode()
    direct = from_json(endpoint, body)
    streamed = from_events(endpoint, events(render_stream(endpoint, body, include_usage=True)))
    if isinstance(direct, Unfinished):
        assert streamed == direct
        return
    assert isinstance(streamed, Finished)
    assert meaning(streamed.body) == meaning(direct.body)
    assert (streamed.finish_reason, streamed.tool_calls) == (direct.finish_reason, direct.tool_calls)
    assert (streamed.prompt_tokens, streamed.completion_tokens) == (direct.prompt_tokens, direct.completion_tokens)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x", "stop", "completed", "message"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


def loose(*fields: str, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(known, optional=dict.fromkeys(fields, anything))


parts = st.lists(
    loose(
        "annotations",
        "logprobs",
        type=st.sampled_from(["output_text", "summary_text", "refusal", "odd"]),
        text=st.just("x") | anything,
    ),
    max_size=2,
)
odd_answers = loose(
    "id",
    "usage",
    "error",
    "created",
    "completed_at",
    choices=st.lists(
        loose(
            "index",
            "logprobs",
            "stop_reason",
            message=loose("role", "tool_calls", "function_call", content=st.just("x") | anything),
            text=st.just("x") | anything,
            finish_reason=st.just("stop"),
        ),
        max_size=2,
    ),
    status=st.just("completed"),
    output=st.lists(
        loose(
            "id",
            "arguments",
            "name",
            type=st.sampled_from(["message", "function_call", "reasoning"]),
            content=parts | anything,
            summary=parts | anything,
            status=st.just("completed"),
        ),
        max_size=2,
    ),
)


@given(st.sampled_from([Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES]), odd_answers)
def test_whatever_is_finished_can_be_rendered(endpoint: Endpoint, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    if isinstance(from_json(endpoint, body), Finished):
        assert events(render_stream(endpoint, body, include_usage=True))


@given(st.sampled_from(list(Endpoint)), st.lists(anything.map(lambda value: sse.frame(json.dumps(value).encode()))))
def test_no_events_raise(endpoint: Endpoint, odd: list[bytes]) -> None:
    assert isinstance(from_events(endpoint, [*odd, sse.DONE]), Unfinished)


# ---- the openai SDK reads every stream -------------------------------------------------------------------------

Serve = Callable[[bytes], Awaitable[openai.AsyncOpenAI]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Answers every request with the given stream, in the smallest and meanest chunks."""
    runners: list[web.AppRunner] = []
    clients: list[openai.AsyncOpenAI] = []

    async def start(stream: bytes) -> openai.AsyncOpenAI:
        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for begin in range(0, len(stream), 97):
                await response.write(stream[begin : begin + 97])
            return response

        app = web.Application()
        app.router.add_post("/v1/{rest:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        client = openai.AsyncOpenAI(base_url=f"http://{host}:{port}/v1", api_key="k", max_retries=0)
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()
    for runner in runners:
        await runner.cleanup()


def rerendered(endpoint: Endpoint, stream: bytes) -> bytes:
    return render_stream(endpoint, finished(endpoint, stream).body, include_usage=True)


@pytest.mark.parametrize("stream", [TRTLLM, DYNAMO, VLLM_CONTINUOUS_USAGE, OPENAI_TOOLS])
async def test_the_sdk_reads_the_same_from_the_live_and_from_the_rendered_chat_stream(
    serve: Serve, stream: bytes
) -> None:
    read = []
    for text in (stream, rerendered(Endpoint.CHAT, stream)):
        client = await serve(text)
        content, arguments, usage, end = "", "", None, None
        async for chunk in await client.chat.completions.create(model="m", messages=[], stream=True):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                content += choice.delta.content or ""
                for call in choice.delta.tool_calls or []:
                    arguments += (call.function and call.function.arguments) or ""
                end = choice.finish_reason or end
        read.append((content, arguments, usage, end))
    assert read[0] == read[1]
    assert read[0][0] or read[0][1]


async def test_the_sdk_accumulates_the_rendered_stream_to_the_stored_answer(serve: Serve) -> None:
    stored = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": text,
                    "tool_calls": [
                        {"id": f"a{n}", "type": "function", "function": {"name": "f", "arguments": '{"n":1}'}}
                        for n in range(2)
                    ],
                },
                "logprobs": {"content": [{"token": text, "logprob": -1.0, "top_logprobs": []}], "refusal": None},
                "finish_reason": "stop",
            }
            for index, text in enumerate(["Paris.", "It is Paris."])
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    client = await serve(render_stream(Endpoint.CHAT, json.dumps(stored).encode(), include_usage=True))
    async with client.chat.completions.stream(model="m", messages=[]) as stream:
        await stream.until_done()
        whole = (await stream.get_final_completion()).to_dict()
    choices: Any = whole["choices"]
    for choice in choices:
        choice["message"] = {key: value for key, value in choice["message"].items() if value is not None}
        for call in choice["message"]["tool_calls"]:
            call.pop("index")
            call["function"].pop("parsed_arguments", None)
    assert whole["usage"] == stored["usage"]
    assert choices == stored["choices"]


async def test_the_sdk_reads_the_rendered_completion_stream(serve: Serve) -> None:
    client = await serve(rerendered(Endpoint.COMPLETIONS, VLLM_COMPLETION))
    stream = await client.completions.create(model="m", prompt="x", stream=True)
    chunks = [chunk.choices[0] async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == " Paris"
    assert chunks[-1].finish_reason == "length"


async def test_the_sdk_reads_the_rendered_responses_stream(serve: Serve) -> None:
    client = await serve(render_stream(Endpoint.RESPONSES, RESPONSE, include_usage=False))
    async with client.responses.stream(model="m", input="x") as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots == ["Paris."]
    assert final.output_text == "Paris."
    assert final.usage is not None
    assert final.usage.output_tokens == 2


async def test_the_sdk_accepts_reasoning_and_calls_in_the_rendered_responses_stream(serve: Serve) -> None:
    answer = json.loads(RESPONSE)
    answer["output"] = [
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}]},
        answer["output"][0],
        {"id": "fc", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
    ]
    client = await serve(render_stream(Endpoint.RESPONSES, json.dumps(answer).encode(), include_usage=False))
    async with client.responses.stream(model="m", input="x") as stream:
        names = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert names[0] == "response.created"
    assert names[-1] == "response.completed"
    assert [item.to_dict(mode="json", exclude_unset=True)["type"] for item in final.output] == [
        item["type"] for item in answer["output"]
    ]


async def test_the_sdk_raises_on_the_error_event_of_a_dead_stream(serve: Serve) -> None:
    client = await serve(DYNAMO_DIED)
    with pytest.raises(openai.APIError, match="temporarily unavailable"):
        async for _ in await client.chat.completions.create(model="m", messages=[], stream=True):
            pass


CALLS = {"message": {"content": "Let me see.", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}}


@pytest.mark.parametrize(
    ("endpoint", "body", "said"),
    [
        (Endpoint.CHAT, {"choices": [{"message": {"content": "Paris."}}]}, "Paris."),
        (Endpoint.CHAT, {"choices": [{"message": {"content": "A"}}, {"message": {"content": "B"}}]}, None),
        (Endpoint.CHAT, {"choices": [CALLS]}, None),
        (Endpoint.CHAT, {"choices": [{"message": {"content": None}}]}, None),
        (Endpoint.CHAT, {"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}]}, None),
        (Endpoint.CHAT, {}, None),
        (Endpoint.COMPLETIONS, {"choices": [{"text": " and on"}]}, " and on"),
        (Endpoint.RESPONSES, json.loads(RESPONSE), "Paris."),
        (Endpoint.RESPONSES, {"output": [{"type": "function_call", "arguments": "{}"}]}, None),
        (Endpoint.RESPONSES, {"output": []}, None),
        (Endpoint.CHAT, {"choices": 7}, None),
        (Endpoint.RESPONSES, 7, None),
    ],
)
def test_the_words_of_an_answer_are_those_of_its_only_choice(
    endpoint: Endpoint, body: object, said: str | None
) -> None:
    assert answers.text(endpoint, json.dumps(body).encode()) == said


def test_bytes_that_are_no_answer_have_no_words() -> None:
    assert answers.text(Endpoint.CHAT, b"{") is None


def test_a_stream_is_assembled_before_it_is_judged() -> None:
    events = [b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"content_filter"}]}\n\n', sse.DONE]
    whole = answers.assembled(Endpoint.CHAT, events)
    assert isinstance(whole, bytes)
    assert b"content_filter" in whole
    assert answers.from_events(Endpoint.CHAT, events) == Unfinished("content_filter")
    assert answers.assembled(Endpoint.EMBEDDINGS, events) == Unfinished("malformed")
