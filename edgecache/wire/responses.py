"""Answers of the Responses API: the complete-answer rule for them, and their stream form of named events.

Such a stream has no `[DONE]`; it ends with `response.completed`, which carries the whole answer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from edgecache.wire import sse
from edgecache.wire.choices import pieces
from edgecache.wire.jsontext import decode, encode
from edgecache.wire.outcome import Finished, Unfinished, Usage

_TEXTS = {
    "output_text": ("content_index", "response.content_part", "response.output_text"),
    "reasoning_text": ("content_index", "response.content_part", "response.reasoning_text"),
    "summary_text": ("summary_index", "response.reasoning_summary_part", "response.reasoning_summary_text"),
}
"""By type of a part: the name of its index, and the names of the events that add it and its text."""

_Event = tuple[str, dict[str, Any]]


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Item(msgspec.Struct):
    type: str = ""
    status: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    arguments: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    output: list[_Item] | None = None
    usage: Usage | None = None


class _StreamEvent(msgspec.Struct):
    type: str = ""
    error: Any = None
    response: msgspec.Raw = msgspec.Raw(b"null")


_decode_event = msgspec.json.Decoder(_StreamEvent).decode


def judge(value: dict[str, Any], body: bytes) -> Finished | Unfinished:
    """The complete-answer rule for one whole answer, `value` decoded from `body`.

    Raises msgspec.ValidationError where fields that the rule, or `render`, looks at have other types.
    """
    answer = msgspec.convert(value, _Response)
    items = answer.output or []
    if answer.status != "completed" or any(item.status not in {None, "completed"} for item in items):
        return Unfinished("status")
    parts = [part for item in items if item.type == "message" for part in item.content or []]
    if any(part.type == "refusal" for part in parts):
        return Unfinished("refusal")
    tool_calls = any(item.type.endswith("_call") for item in items)
    if not tool_calls and not any(part.text and part.text.strip() for part in parts):
        return Unfinished("empty")
    usage = answer.usage or Usage()
    return Finished(
        body, "tool_calls" if tool_calls else "stop", usage.input_tokens, usage.output_tokens, tool_calls=tool_calls
    )


def text(body: bytes) -> str | None:
    """The words of all messages; None where tools are called. Raises MsgspecError."""
    items = msgspec.json.decode(body, type=_Response).output or []
    if any(item.type.endswith("_call") for item in items):
        return None
    parts = [part for item in items if item.type == "message" for part in item.content or []]
    return "\n".join(part.text for part in parts if part.text and part.type == "output_text") or None


def completed(events: Sequence[bytes]) -> bytes | Unfinished:
    """The answer in a stream's `response.completed`, which must be its last event and preceded by no error."""
    answer: bytes | None = None
    for event in events:
        payload, name = sse.data(event), sse.event_name(event)
        if name == "error":  # Dynamo's may come without data
            return Unfinished("error")
        if payload is None or payload == b"[DONE]":
            continue
        if answer is not None:
            return Unfinished("after_done")
        try:
            fields = _decode_event(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Unfinished("not_json")
        if fields.error or (fields.type or name) in {"error", "response.failed"}:
            return Unfinished("error")
        if (fields.type or name) == "response.completed":
            answer = bytes(fields.response)
    return Unfinished("not_completed") if answer is None else answer


def render(body: bytes) -> bytes:
    """A stored answer as the text of its stream, numbered from 0; the last event carries `body` as it is."""
    answer = decode(body)
    return b"".join(
        sse.frame(encode({"type": name, "sequence_number": number, **fields}), name)
        for number, (name, fields) in enumerate(_events(answer, body))
    )


def _events(answer: dict[str, Any], body: bytes) -> Iterator[_Event]:
    start = {**answer, "status": "in_progress", "output": [], "usage": None}
    if "completed_at" in start:
        start["completed_at"] = None
    yield "response.created", {"response": start}
    yield "response.in_progress", {"response": start}
    for index, item in enumerate(answer["output"]):
        place: dict[str, Any] = {"output_index": index}
        yield "response.output_item.added", {**place, "item": _begun(item)}
        place["item_id"] = item.get("id") or ""
        for field in ("summary", "content"):
            for number, part in enumerate(item.get(field) or []):
                yield from _part_events(place, number, part)
        if item.get("type") == "function_call":
            yield from _argument_events(place, item)
        yield "response.output_item.done", {"output_index": index, "item": item}
    yield "response.completed", {"response": msgspec.Raw(body)}


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it looks before anything has been generated for it."""
    blanks: dict[str, Any] = {"content": [], "summary": [], "status": "in_progress"}
    if item.get("type") == "function_call":
        blanks["arguments"] = ""
    return {**item, **{key: blank for key, blank in blanks.items() if item.get(key)}}


def _part_events(place: dict[str, Any], number: int, part: dict[str, Any]) -> Iterator[_Event]:
    index, part_event, text_event = _TEXTS.get(part.get("type", ""), ("content_index", "response.content_part", ""))
    place = {**place, index: number}
    # `output_text` alone has a list of logprobs, which its events must carry.
    logprobs: dict[str, Any] = {"logprobs": []} if text_event == "response.output_text" else {}
    blanks: dict[str, Any] = {"text": "", "annotations": [], "logprobs": []} if text_event else {}
    begun = {**part, **{key: blank for key, blank in blanks.items() if key in part}}
    yield f"{part_event}.added", {**place, "part": begun}
    if text_event:
        text = part.get("text") or ""
        for piece in pieces(text):
            yield f"{text_event}.delta", {**place, "delta": piece, **logprobs}
        if logprobs:
            logprobs = {"logprobs": part.get("logprobs") or []}
        yield f"{text_event}.done", {**place, "text": text, **logprobs}
    yield f"{part_event}.done", {**place, "part": part}


def _argument_events(place: dict[str, Any], item: dict[str, Any]) -> Iterator[_Event]:
    arguments = item.get("arguments") or ""
    for piece in pieces(arguments):
        yield "response.function_call_arguments.delta", {**place, "delta": piece}
    done = {**place, "name": item.get("name"), "arguments": arguments}
    yield "response.function_call_arguments.done", done
