"""Complete answers: whether one ended well, as one canonical object, and that object as a stream again.

A stored answer is always the non-streaming object of its endpoint; the same entry serves both kinds of request.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from edgecache.types import Endpoint
from edgecache.wire import choices, responses
from edgecache.wire.jsontext import JsonError, decode, deeper_than
from edgecache.wire.openai import is_error
from edgecache.wire.outcome import Finished, Unfinished, Usage

__all__ = ["Finished", "Unfinished", "assembled", "from_events", "from_json", "render_stream", "text"]

_MAX_DEPTH = 128
"""Nesting up to which an answer can surely be decoded again, from whatever depth of the stack."""


class _Embeddings(msgspec.Struct):
    object: str
    data: list[dict[str, Any]]
    usage: Usage | None = None


def from_json(endpoint: Endpoint, body: bytes) -> Finished | Unfinished:
    """The complete-answer rule for the body of a 200 answer that was not streamed; it is kept as it is."""
    try:
        value = decode(body)
    except JsonError:
        return Unfinished("not_json")
    if value is None:  # trtllm-serve's answer when its engine died
        return Unfinished("null")
    if not isinstance(value, dict) or deeper_than(_MAX_DEPTH, body, value):
        return Unfinished("malformed")
    if is_error(value):
        return Unfinished("error")
    try:
        return _judge(endpoint, value, body)
    except msgspec.ValidationError:
        return Unfinished("malformed")


def from_events(endpoint: Endpoint, events: Sequence[bytes]) -> Finished | Unfinished:
    """The complete-answer rule for the events of a stream that ended without an exception on either side.

    The chunks are assembled to the object that the request would have got without `stream`. Takes some microseconds an
    event.
    """
    body = assembled(endpoint, events)
    return body if isinstance(body, Unfinished) else from_json(endpoint, body)


def assembled(endpoint: Endpoint, events: Sequence[bytes]) -> bytes | Unfinished:
    """The object that the request would have got without `stream`, not yet judged."""
    if endpoint is Endpoint.EMBEDDINGS:
        return Unfinished("malformed")  # there are no streams of them
    return responses.completed(events) if endpoint is Endpoint.RESPONSES else choices.assembled(endpoint, events)


def render_stream(endpoint: Endpoint, body: bytes, *, include_usage: bool) -> bytes:
    """The text of the stream that says what `body`, a Finished one, says. Embeddings have none: ValueError."""
    if endpoint is Endpoint.EMBEDDINGS:
        raise ValueError("embeddings are not streamed")
    if endpoint is Endpoint.RESPONSES:
        return responses.render(body)
    return choices.render(endpoint, body, include_usage=include_usage)


def text(endpoint: Endpoint, body: bytes) -> str | None:
    """The words of a whole answer; None where it has none, calls tools, has several choices or cannot be read."""
    try:
        return responses.text(body) if endpoint is Endpoint.RESPONSES else choices.text(endpoint, body)
    except msgspec.MsgspecError:
        return None


def _judge(endpoint: Endpoint, value: dict[str, Any], body: bytes) -> Finished | Unfinished:
    if endpoint is Endpoint.EMBEDDINGS:
        return _judge_embeddings(value, body)
    if endpoint is Endpoint.RESPONSES:
        return responses.judge(value, body)
    return choices.judge(endpoint, value, body)


def _judge_embeddings(value: dict[str, Any], body: bytes) -> Finished | Unfinished:
    answer = msgspec.convert(value, _Embeddings)
    if answer.object != "list" or not answer.data:
        return Unfinished("no_data")
    return Finished(body, "stop", prompt_tokens=answer.usage.prompt_tokens if answer.usage else None)
