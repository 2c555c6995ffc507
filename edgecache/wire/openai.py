"""Requests and errors of the OpenAI API: bodies read and checked, error envelopes and model lists written."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from edgecache.errors import BadRequest, EdgeCacheError
from edgecache.types import Endpoint
from edgecache.wire import requests, sse
from edgecache.wire.jsontext import JsonError, decode, deeper_than, encode

_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_TYPE_NAMES = re.compile(r"`([a-z| ]+)`")
_JSON_TYPES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "array": "a list",
    "object": "an object",
}
_MESSAGE_LIMIT = 1000  # characters of a foreign error text that are passed on


class Parsed(msgspec.Struct, frozen=True):
    """A request body that this POP can work with: every field the client sent, and the ones read most."""

    body: dict[str, Any]
    model: str
    stream: bool
    include_usage: bool


def parse(endpoint: Endpoint, raw: bytes, *, max_depth: int, max_messages: int) -> Parsed:
    """Decode and check the body of a request to `endpoint`; fields this POP does not rely on are kept unchecked.

    Raises BadRequest, which says what is wrong, where (`param`, as in `messages[1].content`) and what to do.
    """
    try:
        body = decode(raw)
    except JsonError as error:
        detail = str(error) if raw.strip() else "it is empty"
        raise BadRequest(f"The body is not valid JSON: {detail}. Send one JSON object.") from error
    if type(body) is not dict:
        raise BadRequest("The body is JSON, but not an object. Send one JSON object.")
    field = requests.LISTS[endpoint]
    items = body.get(field)
    # Counted before anything walks them. A list of integers is one text, however long.
    if type(items) is list and len(items) > max_messages and type(items[0]) is not int:
        raise BadRequest(f"`{field}` has {len(items)} items, at most {max_messages} are accepted.", param=field)
    if deeper_than(max_depth, raw, body):
        raise BadRequest(f"The body is nested more than {max_depth} levels deep. Flatten it.")
    try:
        request = msgspec.convert(body, requests.SHAPES[endpoint])
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from error
    if isinstance(request, requests.Embeddings):
        _check_one_kind(field, items)
        return Parsed(body, request.model, stream=False, include_usage=False)
    if isinstance(request, requests.Completion):
        _check_one_kind(field, items)
    elif isinstance(request, requests.Responses):
        _check_input(request)
    options = request.stream_options
    if options is not None and not request.stream:
        raise BadRequest(
            "`stream_options` is only allowed when `stream` is true. Set `stream` or leave `stream_options` out.",
            param="stream_options",
        )
    return Parsed(
        body,
        request.model,
        stream=request.stream is True,
        include_usage=options is not None and options.include_usage is True,
    )


def _check_one_kind(field: str, items: Any) -> None:
    if type(items) is list and len({type(item) for item in items}) > 1:
        raise BadRequest(f"`{field}` mixes kinds of items. {requests.ADVICE['prompt']}", param=field)


def _check_input(request: requests.Responses) -> None:
    if all(x is None for x in (request.input, request.previous_response_id, request.prompt, request.conversation)):
        raise BadRequest(
            "`input` is missing. Send it, or one of `previous_response_id`, `prompt` and `conversation`.", param="input"
        )


def _explained(problem: str) -> BadRequest:
    """`problem` is msgspec's: "Expected `str`, got `int` - at `$.messages[0].role`"."""
    what, _, where = problem.partition(" - at `$")
    param = where.rstrip("`").removeprefix(".")
    if what.startswith("Object missing required field `"):
        param = f"{param}.{what.split('`')[1]}".removeprefix(".")
        what = "a required field is missing"
    what = _TYPE_NAMES.sub(_in_words, what[:1].lower() + what[1:])
    advice = requests.ADVICE.get(re.split(r"[.\[]", param)[0], "")
    return BadRequest(f"`{param}`: {what[:200]}. {advice}".rstrip(), param=param)


def _in_words(names: re.Match[str]) -> str:
    return " or ".join(_JSON_TYPES.get(name, name) for name in names[1].split(" | "))


def error_body(error: EdgeCacheError) -> bytes:
    """The error envelope that every OpenAI SDK understands."""
    return _envelope(error.message, error.type, error.param, error.code)


def error_event(error: EdgeCacheError) -> bytes:
    """The envelope as a server-sent event, for a stream that has already begun."""
    return sse.frame(error_body(error))


def _envelope(message: str, kind: str, param: str | None, code: str | None) -> bytes:
    # Header values reach messages, and may hold what the server could not decode.
    sound = message.encode("utf-8", "replace").decode()
    return encode({"error": {"message": sound, "type": kind, "param": param, "code": code}})


def normalise_error(status: int, body: bytes) -> bytes:
    """The error body of an upstream as one OpenAI envelope.

    An envelope stays as it is, byte by byte. Wrapped once: the flat objects of trtllm-serve and Dynamo,
    `{"error": "text"}`, FastAPI's `{"detail": ...}`, plain text, HTML, nothing at all.
    """
    try:
        value = decode(body)
    except JsonError:
        value = body.decode("utf-8", "replace").strip()
    fields = value if isinstance(value, dict) else {}
    error = fields.get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return body
    message = next((found for found in (fields.get("message"), error, fields.get("detail"), value) if found), None)
    if message is None:
        message = f"The upstream answered {status} without saying why."
    elif not isinstance(message, str):
        message = body.decode("utf-8", "replace")
    kind, code = fields.get("type"), fields.get("code")
    return _envelope(
        message[:_MESSAGE_LIMIT],
        kind if isinstance(kind, str) and kind.endswith("_error") else _type_of(status),
        param if isinstance(param := fields.get("param"), str) else None,
        code if isinstance(code, str) else _CODES.get(status),
    )


def _type_of(status: int) -> str:
    return "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    401: "invalid_api_key",
    408: "request_timeout",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    500: "server_error",
    502: "upstream_error",
    503: "overloaded",
    504: "upstream_timeout",
    529: "overloaded",  # Dynamo's status for it
}


def models_body(ids: Sequence[tuple[str, str]]) -> bytes:
    """The answer of `GET /v1/models` for (id, owner) pairs."""
    return encode({"object": "list", "data": [_model(model_id, owner) for model_id, owner in ids]})


def model_body(id: str, owner: str) -> bytes:  # noqa: A002 - the name of the field
    """The answer of `GET /v1/models/{id}`."""
    return encode(_model(id, owner))


def _model(model_id: str, owner: str) -> dict[str, Any]:
    return {"id": model_id, "object": "model", "created": 0, "owned_by": owner}  # when it was made is not known here


def is_usage_chunk(event: bytes) -> bool:
    """Whether an event is the extra chunk that `include_usage` asks for: no choices, and a usage object."""
    if b'"usage"' not in event or _NO_CHOICES.search(event) is None:  # nearly every event of a stream ends here
        return False
    chunk = _object_in(event)
    return chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)


def reports_error(event: bytes) -> bool:
    """Whether an event of a stream says that the stream has failed.

    Dynamo also does so with an event named `error` that has its text in a comment and no data at all.
    """
    return b"error" in event and (sse.event_name(event) == "error" or is_error(_object_in(event)))


def is_error(value: dict[str, Any]) -> bool:
    """Whether a decoded object is an error: OpenAI's envelope, trtllm-serve's flat object, a Responses error event."""
    return bool(value.get("error")) or value.get("object") == "error" or value.get("type") == "error"


def _object_in(event: bytes) -> dict[str, Any]:
    try:
        value = decode(sse.data(event) or b"{}")
    except JsonError:
        return {}
    return value if isinstance(value, dict) else {}
