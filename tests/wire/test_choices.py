import json
from typing import Any

import pytest

from edgecache.types import Endpoint
from edgecache.wire import choices, sse
from edgecache.wire.outcome import Finished, Unfinished


def answer(message: dict[str, Any], finish_reason: str = "stop", **choice: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **choice}]}


def judged(value: dict[str, Any], endpoint: Endpoint = Endpoint.CHAT) -> Finished | Unfinished:
    return choices.judge(endpoint, value, b"body")


def chunks(endpoint: Endpoint, value: dict[str, Any], *, include_usage: bool = False) -> list[dict[str, Any]]:
    events = sse.EventSplitter().feed(choices.render(endpoint, json.dumps(value).encode(), include_usage=include_usage))
    assert events[-1] == sse.DONE
    return [json.loads(sse.data(event) or b"") for event in events[:-1]]


def parts(value: dict[str, Any], endpoint: Endpoint = Endpoint.CHAT) -> list[dict[str, Any]]:
    return [chunk["choices"][0] for chunk in chunks(endpoint, value)]


def test_an_answer_that_stopped_is_finished_with_its_usage() -> None:
    value = {**answer({"content": "x"}), "usage": {"prompt_tokens": 3, "completion_tokens": 0}}
    assert judged(value) == Finished(b"body", "stop", 3, 0)
    assert judged({**value, "usage": None}) == Finished(b"body", "stop")


@pytest.mark.parametrize("end", ["stop", "length", "tool_calls", "function_call"])
def test_the_ends_that_policy_may_accept_are_finished(end: str) -> None:
    assert judged(answer({"content": "x"}, end)) == Finished(b"body", end)


@pytest.mark.parametrize(
    "message", [{"tool_calls": [{"id": "a"}]}, {"content": "x", "tool_calls": [{}]}, {"function_call": {"name": "f"}}]
)
def test_calls_of_tools_are_noticed_whatever_the_finish_reason(message: dict[str, Any]) -> None:
    assert judged(answer(message)) == Finished(b"body", "stop", tool_calls=True)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, "no_choices"),
        ({"choices": None}, "no_choices"),
        ({"choices": []}, "no_choices"),
        ({"choices": [{"message": {"content": "x"}}]}, "no_finish_reason"),
        (answer({"content": "x"}, ""), "no_finish_reason"),
        (answer({"content": "x"}, "content_filter"), "content_filter"),
        (answer({"content": "x"}, "abort"), "finish_reason"),
        (answer({"content": "x", "refusal": "I cannot."}), "refusal"),
        (answer({"content": ""}), "empty"),
        (answer({"content": " \n"}), "empty"),
        (answer({"content": None, "tool_calls": [], "reasoning_content": "hm"}), "empty"),
        (answer({"content": []}), "empty"),
        (answer({}, text="chat has no text"), "empty"),
    ],
)
def test_an_answer_that_did_not_end_well_says_why(value: dict[str, Any], reason: str) -> None:
    assert judged(value) == Unfinished(reason)


def test_a_completion_is_its_text() -> None:
    assert judged({"choices": [{"text": "x", "finish_reason": "stop"}]}, Endpoint.COMPLETIONS) == Finished(
        b"body", "stop"
    )
    assert judged(answer({"content": "x"}), Endpoint.COMPLETIONS) == Unfinished("empty")


def test_every_choice_must_end_and_the_odd_end_counts() -> None:
    good = answer({"content": "x"})["choices"][0]
    assert judged({"choices": [good, {**good, "finish_reason": None}]}) == Unfinished("no_finish_reason")
    assert judged({"choices": [good, {**good, "finish_reason": "length"}]}) == Finished(b"body", "length")


def test_content_in_parts_is_content() -> None:
    assert judged(answer({"content": [{"type": "text", "text": "x"}]})) == Finished(b"body", "stop")


def test_a_chat_stream_is_role_content_and_finish() -> None:
    value = {**answer({"role": "assistant", "content": "hi"}, stop_reason=7), "created": 1, "model": "m"}
    head = {"object": "chat.completion.chunk", "id": "c", "created": 1, "model": "m"}
    open_end = {"index": 0, "logprobs": None, "finish_reason": None}
    assert chunks(Endpoint.CHAT, value) == [
        {**head, "choices": [{**open_end, "delta": {"role": "assistant", "content": ""}}]},
        {**head, "choices": [{**open_end, "delta": {"content": "hi"}}]},
        {**head, "choices": [{**open_end, "delta": {}, "finish_reason": "stop", "stop_reason": 7}]},
    ]


def test_usage_is_null_in_every_chunk_and_then_in_one_of_its_own() -> None:
    value = {**answer({"content": "hi"}), "usage": {"prompt_tokens": 1}}
    *others, last = chunks(Endpoint.CHAT, value, include_usage=True)
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in others)
    assert (last["usage"], last["choices"]) == ({"prompt_tokens": 1}, [])
    assert all("usage" not in chunk for chunk in chunks(Endpoint.CHAT, value))


def test_without_usage_in_the_answer_none_is_made_up() -> None:
    assert all("usage" not in chunk for chunk in chunks(Endpoint.CHAT, answer({"content": "x"}), include_usage=True))


def test_each_field_has_a_delta_of_its_own_with_reasoning_first_and_calls_last() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "tool_calls": calls, "content": "x", "refusal": None, "reasoning_content": "r"}
    assert [part["delta"] for part in parts(answer(message, "tool_calls"))][1:-1] == [
        {"reasoning_content": "r"},
        {"content": "x"},
        {"tool_calls": [{"index": 0, **calls[0]}]},
    ]


def test_a_call_without_content_starts_with_null_content() -> None:
    assert parts(answer({"function_call": {"name": "f"}}))[0]["delta"] == {"role": "assistant", "content": None}


def test_logprobs_come_once_with_the_content_or_else_at_the_end() -> None:
    logprobs = {"content": [{"token": "x"}]}
    shown = [part["logprobs"] for part in parts(answer({"content": "x"}, logprobs=logprobs))]
    assert shown == [None, logprobs, None]
    late = [part["logprobs"] for part in parts(answer({"tool_calls": [{}]}, logprobs=logprobs))]
    assert late == [None, None, logprobs]
    text = {"choices": [{"index": 0, "text": "x", "logprobs": logprobs, "finish_reason": "stop"}]}
    assert [part["logprobs"] for part in parts(text, Endpoint.COMPLETIONS)] == [logprobs, None]


def test_a_completion_stream_is_text_and_finish() -> None:
    value = {"id": "c", "choices": [{"index": 0, "text": "hi", "finish_reason": "length"}]}
    assert parts(value, Endpoint.COMPLETIONS) == [
        {"index": 0, "text": "hi", "logprobs": None, "finish_reason": None},
        {"index": 0, "text": "", "logprobs": None, "finish_reason": "length"},
    ]


def test_long_text_is_cut_so_that_line_readers_can_take_it() -> None:
    content = "\N{PILE OF POO}" * (2 * choices.PIECE + 1)
    deltas = [part["delta"]["content"] for part in parts(answer({"content": content}))[1:-1]]
    assert [len(delta) for delta in deltas] == [choices.PIECE, choices.PIECE, 1]
    assert "".join(deltas) == content
    assert choices.pieces("") == []


def test_unknown_top_level_fields_come_once() -> None:
    value = {**answer({"content": "x"}), "nvext": {"ttft_ms": 3}, "system_fingerprint": "f"}
    rendered = chunks(Endpoint.CHAT, value)
    assert ["nvext" in chunk for chunk in rendered] == [True, False, False]
    assert all(chunk["system_fingerprint"] == "f" for chunk in rendered)


def test_choices_follow_each_other() -> None:
    one = answer({"content": "x"})["choices"][0]
    rendered = parts({"choices": [one, {**one, "index": 1}]})
    assert [part["index"] for part in rendered] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([], "no_done"),
        ([b'data: {"choices":[]}\n\n'], "no_done"),
        ([b"data: {\n\n", sse.DONE], "not_json"),
        ([b"event: note\ndata: {\n\n", sse.DONE], "not_json"),
        ([b"event: error\ndata: sorry\n\n", sse.DONE], "error"),
        ([b"event: error\n: sorry\n\n", sse.DONE], "error"),
        ([b'event: error\ndata: {"message":"sorry"}\n\n', sse.DONE], "error"),
        ([b'data: {"error":{"message":"sorry"}}\n\n', sse.DONE], "error"),
        ([b'data: {"usage":null}\n\n', sse.DONE], "malformed"),
        ([b"data: null\n\n", sse.DONE], "malformed"),
        ([b'event: message\ndata: {"a":1}\n\n', sse.DONE], "malformed"),
        ([b'data: {"choices":[5]}\n\n', sse.DONE], "malformed"),
        ([sse.DONE, b'data: {"choices":[]}\n\n'], "after_done"),
    ],
)
def test_a_stream_that_cannot_be_a_whole_answer_says_why(events: list[bytes], reason: str) -> None:
    assert choices.assembled(Endpoint.CHAT, events) == Unfinished(reason)


def test_deep_nesting_in_chunks_is_malformed_and_no_crash() -> None:
    deep = b'data: {"choices":[{"delta":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}]}\n\n"
    assert choices.assembled(Endpoint.CHAT, [deep, deep, sse.DONE]) == Unfinished("malformed")


def test_comments_and_annotations_are_no_part_of_an_answer() -> None:
    events = [
        b": ping\n\n",
        b'event: request_id\n: "5f0c"\n\n',
        b'event: formatted_prompt\ndata: "<s>"\n\n',
        b'event: chunk\ndata: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n',
        sse.DONE,
        b": bye\n\n",
    ]
    body = choices.assembled(Endpoint.CHAT, events)
    assert isinstance(body, bytes)
    assert json.loads(body)["choices"][0]["message"]["content"] == "x"
