import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import BadRequest, ModelNotFound, UpstreamDied
from edgecache.types import Endpoint
from edgecache.wire import openai, sse
from edgecache.wire.openai import Parsed, is_usage_chunk, normalise_error, reports_error

USER = {"role": "user", "content": "hi"}
MINIMAL: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"model": "m", "messages": [USER]},
    Endpoint.COMPLETIONS: {"model": "m", "prompt": "hi"},
    Endpoint.RESPONSES: {"model": "m", "input": "hi"},
    Endpoint.EMBEDDINGS: {"model": "m", "input": "hi"},
}
STREAMING = [Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES]


def parse(endpoint: Endpoint, body: object, *, max_depth: int = 64, max_messages: int = 2048) -> Parsed:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return openai.parse(endpoint, raw, max_depth=max_depth, max_messages=max_messages)


def refused(endpoint: Endpoint, body: object, **limits: int) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(endpoint, body, **limits)
    return caught.value


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_a_minimal_request_of_every_endpoint_parses(endpoint: Endpoint) -> None:
    assert parse(endpoint, MINIMAL[endpoint]) == Parsed(MINIMAL[endpoint], "m", stream=False, include_usage=False)


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_unknown_fields_are_kept(endpoint: Endpoint) -> None:
    body = {**MINIMAL[endpoint], "cache": {"ttl": 5}, "top_k": 3, "n": None, "temperature": None, "user": "u"}
    assert parse(endpoint, body).body == body


@pytest.mark.parametrize("endpoint", STREAMING)
@pytest.mark.parametrize(
    ("fields", "stream", "include_usage"),
    [
        ({"stream": True}, True, False),
        ({"stream": False}, False, False),
        ({"stream": None, "stream_options": None}, False, False),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": None, "include_obfuscation": False}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
    ],
)
def test_stream_and_its_options_are_read(
    endpoint: Endpoint, fields: dict[str, Any], stream: bool, include_usage: bool
) -> None:
    parsed = parse(endpoint, {**MINIMAL[endpoint], **fields})
    assert (parsed.stream, parsed.include_usage) == (stream, include_usage)


@pytest.mark.parametrize("endpoint", STREAMING)
@pytest.mark.parametrize("stream", [{}, {"stream": False}, {"stream": None}])
def test_stream_options_without_stream_are_refused(endpoint: Endpoint, stream: dict[str, Any]) -> None:
    error = refused(endpoint, {**MINIMAL[endpoint], **stream, "stream_options": {}})
    assert error.param == "stream_options"
    assert "only allowed when `stream` is true" in error.message


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"{", "not valid JSON"),
        (b'{"model":"m","temperature":NaN}', "not valid JSON"),
        (b'{"model":"m","temperature":-Infinity}', "not valid JSON"),
        (b'{"model":"\xff"}', "not UTF-8"),
        (b'{"model":"\\udfff"}', "lone surrogate"),
        (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b"null", "not an object"),
        (b"[]", "not an object"),
        (b'"' + b"{" * 100 + b'"', "not an object"),
        (b"12", "not an object"),
    ],
    ids=lambda raw: repr(raw[:20]),
)
@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_a_body_that_is_no_json_object_is_refused(endpoint: Endpoint, raw: bytes, says: str) -> None:
    error = refused(endpoint, raw)
    assert says in error.message
    assert error.status == 400


CHAT = MINIMAL[Endpoint.CHAT]


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"messages": [USER]}, "model", "a required field is missing"),
        ({**CHAT, "model": ""}, "model", "of length >= 1"),
        ({**CHAT, "model": None}, "model", "expected a string, got null"),
        ({**CHAT, "model": 5}, "model", "expected a string, got an integer"),
        ({"model": "m"}, "messages", "a required field is missing"),
        ({**CHAT, "messages": []}, "messages", "of length >= 1"),
        ({**CHAT, "messages": "hi"}, "messages", "expected a list"),
        ({**CHAT, "messages": ["hi"]}, "messages[0]", "expected an object, got a string"),
        ({**CHAT, "messages": [USER, {"content": "x"}]}, "messages[1].role", "a required field is missing"),
        ({**CHAT, "messages": [{"role": None}]}, "messages[0].role", "expected a string"),
        (
            {**CHAT, "messages": [USER, {"role": "user", "content": 5}]},
            "messages[1].content",
            "expected a string or a list or null, got an integer",
        ),
        ({**CHAT, "messages": [{"role": "user", "content": {}}]}, "messages[0].content", "got an object"),
        ({**CHAT, "stream": "yes"}, "stream", "a boolean"),
        ({**CHAT, "stream": 1}, "stream", "a boolean"),
        ({**CHAT, "stream": True, "stream_options": []}, "stream_options", "got a list"),
        ({**CHAT, "stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "a boolean"),
        ({**CHAT, "temperature": 2.1}, "temperature", "<= 2.0"),
        ({**CHAT, "temperature": -1}, "temperature", ">= 0.0"),
        ({**CHAT, "temperature": "warm"}, "temperature", "a number"),
        ({**CHAT, "temperature": True}, "temperature", "got a boolean"),
        ({**CHAT, "n": 0}, "n", ">= 1"),
        ({**CHAT, "n": 1.5}, "n", "an integer"),
        ({**CHAT, "n": True}, "n", "got a boolean"),
        ({**CHAT, "max_tokens": 0}, "max_tokens", ">= 1"),
        ({**CHAT, "max_completion_tokens": "1"}, "max_completion_tokens", "an integer"),
    ],
)
def test_a_bad_chat_request_is_told_what_and_where(body: object, param: str, says: str) -> None:
    error = refused(Endpoint.CHAT, body)
    assert error.param == param
    assert says in error.message
    assert error.message.startswith(f"`{param}`: ")
    assert "Send " in error.message


@pytest.mark.parametrize("content", ["x", "", None, [], [{"type": "text", "text": "x"}], ["x"], "\N{PILE OF POO}"])
def test_every_kind_of_content_is_accepted(content: object) -> None:
    body = {"model": "m", "messages": [{"role": "assistant", "content": content, "tool_calls": []}]}
    assert parse(Endpoint.CHAT, body).body == body


@pytest.mark.parametrize("prompt", ["", "x", None, ["x", ""], [1, 2], [[1], [2, 3]]])
def test_every_shape_of_prompt_is_accepted(prompt: object) -> None:
    assert parse(Endpoint.COMPLETIONS, {"model": "m", "prompt": prompt}).body["prompt"] == prompt


@pytest.mark.parametrize(
    ("endpoint", "field", "value", "param"),
    [
        (Endpoint.COMPLETIONS, "prompt", [], "prompt"),
        (Endpoint.COMPLETIONS, "prompt", 5, "prompt"),
        (Endpoint.COMPLETIONS, "prompt", {}, "prompt"),
        (Endpoint.COMPLETIONS, "prompt", ["a", 1], "prompt"),
        (Endpoint.COMPLETIONS, "prompt", [None], "prompt[0]"),
        (Endpoint.COMPLETIONS, "prompt", [[]], "prompt[0]"),
        (Endpoint.COMPLETIONS, "prompt", [["x"]], "prompt[0][0]"),
        (Endpoint.COMPLETIONS, "max_tokens", -1, "max_tokens"),
        (Endpoint.EMBEDDINGS, "input", "", "input"),
        (Endpoint.EMBEDDINGS, "input", None, "input"),
        (Endpoint.EMBEDDINGS, "input", [], "input"),
        (Endpoint.EMBEDDINGS, "input", [""], "input[0]"),
        (Endpoint.EMBEDDINGS, "input", [True], "input[0]"),
        (Endpoint.EMBEDDINGS, "input", [1, [2]], "input"),
        (Endpoint.EMBEDDINGS, "encoding_format", "hex", "encoding_format"),
        (Endpoint.EMBEDDINGS, "dimensions", 0, "dimensions"),
        (Endpoint.EMBEDDINGS, "dimensions", "8", "dimensions"),
        (Endpoint.RESPONSES, "input", 5, "input"),
        (Endpoint.RESPONSES, "input", ["x"], "input[0]"),
        (Endpoint.RESPONSES, "input", [{"role": 5}], "input[0].role"),
        (Endpoint.RESPONSES, "max_output_tokens", 0, "max_output_tokens"),
    ],
)
def test_bad_fields_of_the_other_endpoints_are_named(endpoint: Endpoint, field: str, value: object, param: str) -> None:
    error = refused(endpoint, {**MINIMAL[endpoint], field: value})
    assert error.param == param
    assert "Send " in error.message


def test_a_completion_needs_a_prompt() -> None:
    assert refused(Endpoint.COMPLETIONS, {"model": "m"}).param == "prompt"


@pytest.mark.parametrize("text", ["x", ["x", "y"], [1, 2, 3], [[1], [2, 3]]])
@pytest.mark.parametrize("form", [{}, {"encoding_format": "base64"}, {"encoding_format": "float", "dimensions": 8}])
def test_every_shape_of_embedding_input_is_accepted(text: object, form: dict[str, Any]) -> None:
    body = {"model": "m", "input": text, **form}
    assert parse(Endpoint.EMBEDDINGS, body).body == body


@pytest.mark.parametrize("field", ["previous_response_id", "prompt", "conversation"])
def test_responses_may_leave_the_input_out_where_something_stands_in(field: str) -> None:
    assert parse(Endpoint.RESPONSES, {"model": "m", field: "x"}).model == "m"
    assert refused(Endpoint.RESPONSES, {"model": "m", field: None}).param == "input"


def test_responses_take_a_list_of_items_of_any_type() -> None:
    items = [USER, {"type": "function_call_output", "call_id": "c", "output": "5"}]
    assert parse(Endpoint.RESPONSES, {"model": "m", "input": items}).body["input"] == items


def test_too_many_messages_are_refused() -> None:
    body = {"model": "m", "messages": [USER] * 3}
    assert parse(Endpoint.CHAT, body, max_messages=3).body == body
    error = refused(Endpoint.CHAT, body, max_messages=2)
    assert error.param == "messages"
    assert "3 items, at most 2" in error.message


def test_token_ids_of_one_text_are_not_counted_as_messages() -> None:
    body = {"model": "m", "input": list(range(1, 100))}
    assert parse(Endpoint.EMBEDDINGS, body, max_messages=2).body == body


def nested(levels: int) -> dict[str, Any]:
    """A chat body with `levels` levels of nesting, the body itself being the first."""
    value: Any = "x"
    for _ in range(levels - 1):
        value = [value]
    return {**CHAT, "metadata": value}


def test_nesting_is_accepted_up_to_the_limit_and_no_further() -> None:
    assert parse(Endpoint.CHAT, nested(64)).model == "m"
    assert "more than 64 levels" in refused(Endpoint.CHAT, nested(65)).message
    assert parse(Endpoint.CHAT, nested(8), max_depth=8).model == "m"


def test_a_very_long_bad_value_is_not_repeated_in_full() -> None:
    body = {**MINIMAL[Endpoint.EMBEDDINGS], "encoding_format": "x" * 10_000}
    assert len(refused(Endpoint.EMBEDDINGS, body).message) < 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(list(Endpoint)),
    st.dictionaries(
        st.sampled_from(["model", "messages", "prompt", "input", "stream", "stream_options", "temperature", "n"]),
        json_values | st.just("m") | st.just([USER]),
    ),
)
def test_any_object_parses_or_is_a_bad_request(endpoint: Endpoint, body: dict[str, Any]) -> None:
    with suppress(BadRequest):
        assert parse(endpoint, body).model == body["model"]


def test_an_error_is_written_as_the_openai_envelope() -> None:
    error = ModelNotFound("No upstream serves `x`.", param="model")
    assert json.loads(openai.error_body(error)) == {
        "error": {
            "message": "No upstream serves `x`.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


def test_an_error_event_is_the_envelope_as_one_event() -> None:
    event = openai.error_event(UpstreamDied("It broke off."))
    assert sse.data(event) == openai.error_body(UpstreamDied("It broke off."))
    assert reports_error(event)


def test_text_that_no_utf8_can_hold_does_not_break_the_envelope() -> None:
    assert json.loads(openai.error_body(BadRequest("bad \udcff value")))["error"]["message"] == "bad ? value"


ENVELOPE = b'{ "error": {"message": "no", "type": "BadRequestError", "param": null, "code": 400} }'


@pytest.mark.parametrize(
    ("status", "body", "message", "kind", "code"),
    [
        (400, b'{"error":"text"}', "text", "invalid_request_error", None),
        (
            400,
            b'{"object":"error","message":"m","type":"BadRequestError","param":null,"code":400}',
            "m",
            "invalid_request_error",
            None,
        ),
        (529, b'{"message":"busy","type":"overloaded","code":529}', "busy", "server_error", "overloaded"),
        (422, b'{"detail":"no field"}', "no field", "invalid_request_error", None),
        (
            422,
            b'{"detail":[{"loc":["body"],"msg":"m"}]}',
            '{"detail":[{"loc":["body"],"msg":"m"}]}',
            "invalid_request_error",
            None,
        ),
        (400, b'{"error":{"code":7}}', '{"error":{"code":7}}', "invalid_request_error", None),
        (502, b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>", "server_error", "upstream_error"),
        (500, b"\xff", "\N{REPLACEMENT CHARACTER}", "server_error", "server_error"),
        (404, b"", "The upstream answered 404 without saying why.", "invalid_request_error", None),
        (503, b"null", "The upstream answered 503 without saying why.", "server_error", "overloaded"),
        (500, b"{}", "The upstream answered 500 without saying why.", "server_error", "server_error"),
        (429, b'{"message":"slow","code":"quota"}', "slow", "rate_limit_error", "quota"),
        (401, b"no", "no", "authentication_error", "invalid_api_key"),
        (403, b"no", "no", "permission_error", None),
        (400, b'{"message":"m","type":"tokens_error","param":"n"}', "m", "tokens_error", None),
        (500, b'["a"]', '["a"]', "server_error", "server_error"),
    ],
)
def test_whatever_an_upstream_says_becomes_one_envelope(
    status: int, body: bytes, message: str, kind: str, code: str | None
) -> None:
    error = json.loads(normalise_error(status, body))["error"]
    assert (error["message"], error["type"], error["code"]) == (message, kind, code)
    assert error["param"] == ("n" if b"param" in body and b'"n"' in body else None)


def test_an_envelope_passes_unchanged() -> None:
    assert normalise_error(400, ENVELOPE) == ENVELOPE


@given(st.integers(400, 599), st.binary(max_size=30) | json_values.map(lambda value: json.dumps(value).encode()))
def test_nothing_is_wrapped_twice(status: int, body: bytes) -> None:
    once = normalise_error(status, body)
    assert json.loads(once)["error"]["message"]
    assert normalise_error(status, once) == once


def test_a_long_error_page_is_cut() -> None:
    assert len(normalise_error(500, b"x" * 100_000)) < 2000


def test_model_lists_are_written_as_openai_does() -> None:
    model = {"id": "m", "object": "model", "created": 0, "owned_by": "core"}
    assert json.loads(openai.model_body("m", "core")) == model
    assert json.loads(openai.models_body([("m", "core")])) == {"object": "list", "data": [model]}
    assert json.loads(openai.models_body([])) == {"object": "list", "data": []}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', True),
        (b'data: {"usage": {"prompt_tokens": 1}, "choices" : [ ]} \n\n', True),
        (b'data: {"choices":[],"usage":null}\n\n', False),
        (b'data: {"choices":[],"prompt_filter_results":[{"usage":1}]}\n\n', False),
        (b'data: {"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}\n\n', False),
        (b'data: {"choices":[{"delta":{"content":"\\"choices\\":[] \\"usage\\""}}],"usage":null}\n\n', False),
        (b'data: {"choices":[{"x":{"choices":[]}}],"usage":{}}\n\n', False),
        (b'data: ["usage", {"choices":[]}]\n\n', False),
        (b'data: "usage" "choices":[]\n\n', False),
        (b"data: [DONE]\n\n", False),
        (b": ping\n\n", False),
    ],
)
def test_the_usage_chunk_is_told_from_all_others(event: bytes, expected: bool) -> None:
    assert is_usage_chunk(event) is expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'data: {"error":{"message":"Service temporarily unavailable","code":503}}\n\n', True),
        (b'data:{"error":"text"}\n\n', True),
        (b'data: {"object":"error","message":"m"}\n\n', True),
        (b'event: error\ndata: {"type":"error","message":"m"}\n\n', True),
        (b"event: error\n: worker lost\n\n", True),
        (b'data: {"choices":[],"error":null}\n\n', False),
        (b'data: {"choices":[{"delta":{"content":"an error, {\\"error\\":1}"}}]}\n\n', False),
        (b'event: response.created\ndata: {"type":"response.created","response":{"error":null}}\n\n', False),
        (b": error\n\n", False),
        (b'data: {"error"\n\n', False),
        (b"data: [DONE]\n\n", False),
    ],
)
def test_an_event_that_reports_an_error_is_seen(event: bytes, expected: bool) -> None:
    assert reports_error(event) is expected
