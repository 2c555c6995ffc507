"""Answers with `choices` (chat and completions): the complete-answer rule for them, and their stream form."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from edgecache.types import Endpoint
from edgecache.wire import deltas, sse
from edgecache.wire.jsontext import JsonError, decode, encode
from edgecache.wire.openai import is_error
from edgecache.wire.outcome import Finished, Unfinished, Usage

_ENDS = frozenset({"stop", "length", "tool_calls", "function_call"})
_CHUNK_OBJECTS = {Endpoint.CHAT: "chat.completion.chunk", Endpoint.COMPLETIONS: "text_completion"}
_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier")
"""Top-level fields that every chunk repeats; others go into the first one."""

PIECE = 8192
"""Characters in one delta: below the line limits of clients that read streams line by line (aiohttp: 64 KiB)."""


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message = msgspec.field(default_factory=_Message)
    text: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Usage | None = None


def judge(endpoint: Endpoint, value: dict[str, Any], body: bytes) -> Finished | Unfinished:
    """The complete-answer rule for one whole answer, `value` decoded from `body`.

    Raises msgspec.ValidationError where fields that the rule, or `render`, looks at have other types.
    """
    answer = msgspec.convert(value, _Answer)
    if not answer.choices:
        return Unfinished("no_choices")
    for choice in answer.choices:
        if (reason := _unfinished(endpoint, choice)) is not None:
            return Unfinished(reason)
    ends = [choice.finish_reason for choice in answer.choices]
    usage = answer.usage or Usage()
    return Finished(
        body,
        finish_reason=next((end for end in ends if end and end != "stop"), "stop"),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        tool_calls=any(choice.message.tool_calls or choice.message.function_call for choice in answer.choices),
    )


def text(endpoint: Endpoint, body: bytes) -> str | None:
    """The words of the only choice; None where there are several, or tools are called. Raises MsgspecError."""
    found = msgspec.json.decode(body, type=_Answer).choices or []
    if len(found) != 1 or found[0].message.tool_calls or found[0].message.function_call:
        return None
    said = found[0].text if endpoint is Endpoint.COMPLETIONS else found[0].message.content
    return said if isinstance(said, str) else None


def _unfinished(endpoint: Endpoint, choice: _Choice) -> str | None:
    message = choice.message
    if not choice.finish_reason:
        return "no_finish_reason"
    if choice.finish_reason == "content_filter":
        return "content_filter"
    if choice.finish_reason not in _ENDS:
        return "finish_reason"
    if message.refusal:
        return "refusal"
    content = choice.text if endpoint is Endpoint.COMPLETIONS else message.content
    if isinstance(content, str):
        content = content.strip()
    return None if content or message.tool_calls or message.function_call else "empty"


def assembled(endpoint: Endpoint, events: Sequence[bytes]) -> bytes | Unfinished:
    """The whole answer of a stream without an error in any event and with `[DONE]` last, still to be judged."""
    chunks = []
    done = False
    for event in events:
        payload, name = sse.data(event), sse.event_name(event)
        if name == "error":  # Dynamo's may come without data
            return Unfinished("error")
        if payload is None:
            continue
        if done:
            return Unfinished("after_done")
        if payload == b"[DONE]":
            done = True
            continue
        chunk = _chunk(name, payload)
        if isinstance(chunk, Unfinished):
            return chunk
        if chunk is not None:
            chunks.append(chunk)
    if not done:
        return Unfinished("no_done")
    try:
        return encode(deltas.assemble(endpoint, chunks))
    except (deltas.MalformedError, RecursionError):
        return Unfinished("malformed")


def _chunk(name: str, payload: bytes) -> dict[str, Any] | Unfinished | None:
    """The chunk in an event, None for one of the named events that Dynamo adds as annotations."""
    try:
        chunk = decode(payload)
    except JsonError:
        return Unfinished("not_json")
    if isinstance(chunk, dict) and is_error(chunk):
        return Unfinished("error")
    if isinstance(chunk, dict) and "choices" in chunk:
        return chunk
    return Unfinished("malformed") if name in {"", "message"} else None


def render(endpoint: Endpoint, body: bytes, *, include_usage: bool) -> bytes:
    """A stored answer as the text of its stream: each choice in turn, the usage chunk if asked for, `[DONE]`."""
    answer = decode(body)
    usage = answer.get("usage")
    head = {"object": _CHUNK_OBJECTS[endpoint], **{key: answer[key] for key in _HEAD if key in answer}}
    if include_usage and usage:
        head["usage"] = None  # as OpenAI does in every chunk but the last
    frames = []
    extra = {key: answer[key] for key in answer if key not in head and key not in {"choices", "usage"}}
    for choice in answer["choices"]:
        for part in _chat_parts(choice) if endpoint is Endpoint.CHAT else _text_parts(choice):
            frames.append(sse.frame(encode({**head, "choices": [part], **extra})))
            extra = {}
    if include_usage and usage:
        frames.append(sse.frame(encode({**head, "choices": [], "usage": usage})))
    frames.append(sse.DONE)
    return b"".join(frames)


def _chat_parts(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    index = choice.get("index", 0)
    message = choice["message"]
    logprobs = choice.get("logprobs")
    start = {"role": message.get("role", "assistant"), "content": "" if message.get("content") else None}
    yield {"index": index, "delta": start, "logprobs": None, "finish_reason": None}
    for delta in _deltas(message):
        shown = logprobs if "content" in delta else None
        if shown is not None:
            logprobs = None
        yield {"index": index, "delta": delta, "logprobs": shown, "finish_reason": None}
    rest = {key: value for key, value in choice.items() if key not in {"index", "message"}}
    yield {"index": index, "delta": {}, **rest, "logprobs": logprobs}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One delta a field, as clients look for one at a time: reasoning and the like, then content, then calls."""
    for key in sorted(message, key=lambda name: _ORDER.get(name, 0)):
        value = message[key]
        if key == "role" or value in (None, "", [], {}):
            continue
        if key == "tool_calls":
            yield {key: [{"index": index, **call} for index, call in enumerate(value)]}
        elif isinstance(value, str):
            for piece in pieces(value):
                yield {key: piece}
        else:
            yield {key: value}


_ORDER = {"content": 1, "tool_calls": 2, "function_call": 2}


def _text_parts(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    index = choice.get("index", 0)
    logprobs = choice.get("logprobs")
    for piece in pieces(choice.get("text") or ""):
        yield {"index": index, "text": piece, "logprobs": logprobs, "finish_reason": None}
        logprobs = None
    rest = {key: value for key, value in choice.items() if key not in {"index", "text"}}
    yield {"index": index, "text": "", **rest, "logprobs": logprobs}


def pieces(text: str) -> list[str]:
    """`text` cut to deltas of bearable size."""
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
