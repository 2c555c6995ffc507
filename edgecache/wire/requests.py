"""The shapes of request bodies, as far as this POP relies on them. All other fields are the upstream's to judge."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgecache.types import Endpoint

Name = Annotated[str, Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1)]
TokenIds = Annotated[list[int], Meta(min_length=1)]
Texts = Annotated[list[Name | int | TokenIds], Meta(min_length=1)]
"""Strings, or the token ids of one text, or those of several; `openai.parse` refuses a mixture."""


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None


class _Generation(msgspec.Struct, kw_only=True):
    """What every request for generated text has."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None


class Message(msgspec.Struct):
    """One turn of a conversation."""

    role: str
    content: str | list[Any] | None = None


class Chat(_Generation, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    n: Positive | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None


class Completion(_Generation, kw_only=True):
    """`POST /v1/completions`. The prompt is required but may be null, as at OpenAI."""

    prompt: str | Annotated[list[str | int | TokenIds], Meta(min_length=1)] | None
    n: Positive | None = None
    max_tokens: Positive | None = None


class InputItem(msgspec.Struct):
    """One item of a Responses input: a message, or the result of a tool, or a reference."""

    role: str | None = None
    content: str | list[Any] | None = None


class Responses(_Generation, kw_only=True):
    """`POST /v1/responses`. The input may be left out where one of the other three stands in for it."""

    input: str | list[InputItem] | None = None
    previous_response_id: Any = None
    prompt: Any = None
    conversation: Any = None
    max_output_tokens: Positive | None = None


class Embeddings(msgspec.Struct, kw_only=True):
    """`POST /v1/embeddings`."""

    model: Name
    input: Name | Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Positive | None = None


SHAPES: dict[Endpoint, type[Chat | Completion | Responses | Embeddings]] = {
    Endpoint.CHAT: Chat,
    Endpoint.COMPLETIONS: Completion,
    Endpoint.RESPONSES: Responses,
    Endpoint.EMBEDDINGS: Embeddings,
}

LISTS = {
    Endpoint.CHAT: "messages",
    Endpoint.COMPLETIONS: "prompt",
    Endpoint.RESPONSES: "input",
    Endpoint.EMBEDDINGS: "input",
}
"""The field of each endpoint whose items `limits.max_messages` counts."""

ADVICE = {
    "model": "Send the name of a model that `GET /v1/models` lists.",
    "messages": "Send a non-empty list of objects with `role` and `content` (a string, a list of parts or null).",
    "prompt": "Send a string, a list of strings, a list of token ids or a list of such lists.",
    "input": "Send a string or a non-empty list, as the OpenAI API defines it.",
    "stream": "Send true or false.",
    "stream_options": 'Send an object such as {"include_usage": true}, with `stream` true.',
    "temperature": "Send a number from 0 to 2.",
    "n": "Send a whole number of at least 1.",
    "max_tokens": "Send a whole number of at least 1.",
    "max_completion_tokens": "Send a whole number of at least 1.",
    "max_output_tokens": "Send a whole number of at least 1.",
    "encoding_format": 'Send "float" or "base64".',
    "dimensions": "Send a whole number of at least 1.",
}
"""What to do about a bad value, by top-level field."""
