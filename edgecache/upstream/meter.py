"""How many tokens an answer took: the upstream's own word where it gives one, zero included, else counted here.

Reads along while the answer passes and keeps its events by reference; they are only decoded when somebody asks.
"""

import re
from typing import Annotated, Any, NamedTuple

import msgspec
import orjson

from edgecache.types import Endpoint
from edgecache.wire import answers
from edgecache.wire.sse import data, event_name

_KEPT = 4 * 1024 * 1024
"""Bytes of a stream that are kept for `text`; of what comes after only the events are counted."""
_BYTES_A_TOKEN = 4
_USAGE = re.compile(rb'"usage"(?!\s*:\s*null)')
"""What an event must hold to tell a usage: vLLM writes `"usage":null` into each that does not."""
_DELTAS = frozenset({"response.output_text.delta", "response.reasoning_text.delta", "response.refusal.delta",
                     "response.function_call_arguments.delta", "response.reasoning_summary_text.delta"})  # fmt: skip


class Usage(NamedTuple):
    """Tokens of one upstream request; `cached` of the prompt were in the upstream's KV cache.

    `estimated` = counted here, at least in part.
    """

    prompt: int
    completion: int
    cached: int
    estimated: bool


_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class _Details(msgspec.Struct):
    cached_tokens: _Tokens | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


class _Response(msgspec.Struct):
    usage: _Usage | None = None


class _Metered(msgspec.Struct):
    usage: _Usage | None = None
    response: _Response | None = None


_DECODER = msgspec.json.Decoder(_Metered)


class Meter:
    """Reads along with one answer to a request of `endpoint`.

    `begun`: something that was generated has come; `finished`: the upstream gave a reason for the end; `empty`: a whole
    answer that is no object, such as the `null` of a server whose engine died.
    """

    def __init__(self, endpoint: Endpoint | None) -> None:
        self.begun = False
        self.finished = False
        self.empty = False
        self._endpoint = endpoint
        self._whole = b""
        self._kept: list[bytes] = []
        self._size = 0
        self._more = 0
        self._said: _Usage | None = None

    def events(self, events: list[bytes]) -> list[bytes]:
        """Some more events of a stream. Returns those that may tell a usage: nearly always none."""
        if not self.begun:
            self.begun = any(self._pieces(event) for event in events)
        if not self.finished:  # the end is at the end
            self.finished = any(map(finishes, reversed(events)))
        told = list(filter(_USAGE.search, events))
        for event in told:
            self._read(data(event) or b"")
        self._keep(events)
        return told

    def _keep(self, events: list[bytes]) -> None:
        size = self._size + sum(map(len, events))
        if size <= _KEPT:
            self._kept += events
            self._size = size
            return
        for event in events:
            self._size += len(event)
            if self._size <= _KEPT:
                self._kept.append(event)
            else:
                self._more += 1

    def body(self, body: bytes) -> None:
        """The whole of an answer that is not streamed."""
        self.empty = not body.lstrip().startswith(b"{")
        self.begun = self.finished = not self.empty
        self._whole = body
        if self._endpoint is not None:
            self._read(body)

    def text(self) -> str:
        """What it has said so far, in the words of its first choice; tool calls and reasoning are left out."""
        if self._whole:
            return answers.text(self._endpoint, self._whole) or "" if self._endpoint is not None else ""
        return "".join(piece for event in self._kept for piece in self._pieces(event, words=True))

    def usage(self, prompt_estimate: int) -> Usage:
        """The tokens; where the upstream did not say, `prompt_estimate` and one a piece that came."""
        said = self._said or _Usage()
        prompt, completion = _first(said.prompt_tokens, said.input_tokens), _completion(said)
        details = said.prompt_tokens_details or said.input_tokens_details
        cached = (details.cached_tokens if details is not None else 0) or 0
        if prompt is not None and completion is not None:
            return Usage(prompt, completion, min(cached, prompt), estimated=False)
        if prompt is None:
            prompt = prompt_estimate
        if completion is None:
            completion = sum(len(self._pieces(event)) for event in self._kept) + self._more
            completion += -(-len(self.text().encode()) // _BYTES_A_TOKEN) if self._whole else 0
        return Usage(prompt, completion, min(cached, prompt), estimated=True)

    def _read(self, payload: bytes) -> None:
        try:
            found = _DECODER.decode(payload)
        except msgspec.DecodeError:
            return
        usage = found.usage or (found.response.usage if found.response is not None else None)
        self._said = usage if usage is not None else self._said

    def _pieces(self, event: bytes, *, words: bool = False) -> list[str]:
        """What of an event was generated: a piece a choice, or only the `words` of the first choice."""
        payload = data(event)
        if payload is None or payload == b"[DONE]":
            return []
        try:
            value = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return []
        if not isinstance(value, dict):
            return []
        if self._endpoint is Endpoint.RESPONSES:
            piece = value.get("delta") if event_name(event) in _DELTAS else None
            return [piece] if isinstance(piece, str) and piece else []
        choices = value.get("choices")
        found = [_generated(each, words=words) for each in choices] if isinstance(choices, list) else []
        return [piece for piece in (found[:1] if words else found) if piece]


def _generated(choice: Any, *, words: bool) -> str:
    if not isinstance(choice, dict):
        return ""
    delta = choice.get("delta")
    fields = delta if isinstance(delta, dict) else choice
    for name in ("content", "text"):
        if isinstance(value := fields.get(name), str) and value:
            return value
    if words:
        return ""
    for name in ("reasoning_content", "reasoning", "refusal"):
        if isinstance(value := fields.get(name), str) and value:
            return value
    return "call" if fields.get("tool_calls") or fields.get("function_call") else ""


def _completion(said: _Usage) -> int | None:
    found = _first(said.completion_tokens, said.output_tokens)
    if found is None and said.total_tokens is not None and said.prompt_tokens is not None:
        return max(0, said.total_tokens - said.prompt_tokens)  # embeddings name the total only
    return found


def _first(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


def finishes(event: bytes) -> bool:
    """Whether the event carries a finish reason: the key, then a string (not null), whatever the spacing."""
    _, key, value = event.rpartition(b'"finish_reason"')
    return bool(key) and value.lstrip(b" :").startswith(b'"')
