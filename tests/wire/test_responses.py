import json
from typing import Any

import pytest

from edgecache.wire import responses, sse
from edgecache.wire.choices import PIECE
from edgecache.wire.outcome import Finished, Unfinished


def text_part(text: str = "Paris.") -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [{"type": "file"}], "logprobs": [{"token": "P"}]}


def message(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [*parts], **fields}


REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "short"}],
    "content": [{"type": "reasoning_text", "text": "long"}],
}
CALL = {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"}


def answer(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "error": None,
        "completed_at": 5,
        "output": [*items],
        "usage": {"input_tokens": 4, "output_tokens": 2, "total_tokens": 6},
        **fields,
    }


def judged(value: dict[str, Any]) -> Finished | Unfinished:
    return responses.judge(value, b"body")


def rendered(value: dict[str, Any]) -> list[dict[str, Any]]:
    events = sse.EventSplitter().feed(responses.render(json.dumps(value).encode()))
    found = [json.loads(sse.data(event) or b"") for event in events]
    assert [event["type"] for event in found] == [sse.event_name(event) for event in events]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_a_completed_response_is_finished_with_its_usage() -> None:
    assert judged(answer(REASONING, message(text_part()))) == Finished(b"body", "stop", 4, 2)
    assert judged(answer(message(text_part()), usage=None)) == Finished(b"body", "stop")


@pytest.mark.parametrize("kind", ["function_call", "web_search_call"])
def test_a_call_of_a_tool_is_noticed(kind: str) -> None:
    assert judged(answer({**CALL, "type": kind})) == Finished(b"body", "tool_calls", 4, 2, tool_calls=True)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (answer(message(text_part()), status="incomplete"), "status"),
        (answer(message(text_part()), status=None), "status"),
        (answer(message(text_part(), status="incomplete")), "status"),
        (answer(message({"type": "refusal", "refusal": "no"})), "refusal"),
        (answer(), "empty"),
        (answer(output=None), "empty"),
        (answer(REASONING), "empty"),
        (answer(message(text_part(" "))), "empty"),
        (answer(message(text_part(), content=None)), "empty"),
    ],
)
def test_a_response_that_did_not_end_well_says_why(value: dict[str, Any], reason: str) -> None:
    assert judged(value) == Unfinished(reason)


def test_a_text_answer_is_streamed_in_the_order_openai_uses() -> None:
    events = rendered(answer(message(text_part())))
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    created, _, item, part, delta, text, part_done, item_done, done = events
    assert created["response"] == answer(status="in_progress", usage=None, completed_at=None)
    assert item["item"] == message(status="in_progress")
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    assert place.items() <= part.items()
    assert part["part"] == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert {**place, "delta": "Paris.", "logprobs": []}.items() <= delta.items()
    assert {**place, "text": "Paris.", "logprobs": [{"token": "P"}]}.items() <= text.items()
    assert part_done["part"] == text_part()
    assert item_done["item"] == message(text_part())
    assert done["response"] == answer(message(text_part()))


def test_reasoning_and_calls_have_their_own_events() -> None:
    assert [event["type"].removeprefix("response.") for event in rendered(answer(REASONING, CALL))][2:-1] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]


def test_a_call_begins_without_arguments_and_ends_with_them() -> None:
    added, delta, done, _ = rendered(answer(CALL))[2:-1]
    assert added["item"] == {**CALL, "arguments": "", "status": "in_progress"}
    assert delta["delta"] == "{}"
    assert (done["arguments"], done["name"]) == ("{}", "f")


def test_parts_of_an_unknown_type_are_shown_whole() -> None:
    part = {"type": "drawing", "text": "<svg/>"}
    events = rendered(answer(message(part, text_part(""))))
    assert next(event["part"] for event in events if event["type"] == "response.content_part.added") == part
    assert [event["type"] for event in events].count("response.output_text.delta") == 0


def test_an_answer_without_optional_fields_is_rendered() -> None:
    bare = {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}]}
    events = rendered(bare)
    assert "completed_at" not in events[0]["response"]
    assert events[4]["item_id"] == ""


def test_long_text_is_cut_to_pieces() -> None:
    text = "x" * (PIECE + 1)
    deltas = [event["delta"] for event in rendered(answer(message(text_part(text)))) if "delta" in event]
    assert "".join(deltas) == text
    assert len(deltas) == 2


def test_the_last_event_carries_the_answer_byte_by_byte() -> None:
    body = json.dumps(answer(message(text_part("caf\N{LATIN SMALL LETTER E WITH ACUTE} 1.50"))), indent=None).encode()
    events = sse.EventSplitter().feed(responses.render(body))
    assert responses.completed(events) == body
    assert responses.completed([b": ping\n\n", *events, sse.DONE]) == body


COMPLETED = b'event: response.completed\ndata: {"type":"response.completed","response":{"a": 1}}\n\n'


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([], "not_completed"),
        ([b'data: {"type":"response.created","response":{}}\n\n'], "not_completed"),
        ([b'data: {"type":"response.incomplete","response":{}}\n\n'], "not_completed"),
        ([b'data: {"type":"response.failed","response":{}}\n\n'], "error"),
        ([b'event: error\ndata: {"code":"x","message":"m"}\n\n', COMPLETED], "error"),
        ([b'data: {"type":"error","message":"m"}\n\n', COMPLETED], "error"),
        ([b'data: {"error":{"message":"m"}}\n\n', COMPLETED], "error"),
        ([b"event: error\n: sorry\n\n", COMPLETED], "error"),
        ([b"data: {\n\n", COMPLETED], "not_json"),
        ([b'data: {"type":5}\n\n', COMPLETED], "not_json"),
        ([b'data: {"type":"\xff"}\n\n', COMPLETED], "not_json"),
        ([b'data: {"error":' + b"[" * 100_000 + b"\n\n", COMPLETED], "not_json"),
        ([COMPLETED, b'data: {"type":"error"}\n\n'], "after_done"),
    ],
)
def test_a_stream_without_a_clean_completed_event_says_why(events: list[bytes], reason: str) -> None:
    assert responses.completed(events) == Unfinished(reason)


def test_the_event_name_stands_in_for_a_missing_type() -> None:
    assert responses.completed([b'event: response.completed\ndata: {"response":{"a": 1}}\n\n']) == b'{"a": 1}'
