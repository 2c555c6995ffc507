"""Where the answer to a request may be found: the scope, the digest and the question. Not whether it may be cached.

The scope covers all that may change an answer except the last user turn. Everything is in it unless it is named here
as being without influence, so a field nobody has heard of separates answers. Two requests share a scope only if a
server treats them as one; two spellings of the same request that are not recognised as such only cost a hit.

Contextual matching takes more out of the scope: the turns before the last one, where `cache.context` says that the
question does not depend on them, or carries those it depends on. The digest covers every turn all the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any
from unicodedata import normalize

import msgspec

from edgecache.cache import context
from edgecache.cache.context import Comparison
from edgecache.types import CacheKey, Call, Endpoint

CANONICALISER = 2
"""Raised whenever the same request would be encoded differently: old entries then no longer match."""

NO_INFLUENCE = frozenset({"model", "stream", "stream_options", "service_tier", "metadata", "cache"})
"""Fields that do not change the answer; `model` is keyed on its own, `cache` is LiteLLM's and never goes upstream."""

END_USER = frozenset({"user", "safety_identifier"})
LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")

DEFAULTS: Mapping[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "tools": [],
    "functions": [],
    "stop": [],
    "store": False,
    "background": False,
    "include": [],
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "encoding_format": "float",
}
"""Values that mean the same as leaving the field out on every server. `temperature` and `top_p` have no such value:
a model's own generation config may replace what is left out."""

NULLABLE = frozenset(
    """audio conversation function_call instructions max_completion_tokens max_output_tokens max_tokens max_tool_calls
    moderation parallel_tool_calls prediction previous_response_id prompt reasoning reasoning_effort seed suffix
    safety_identifier temperature text tool_choice top_logprobs top_p truncation user verbosity web_search_options
    """.split()  # noqa: SIM905 - as a list it would take thirty lines
).union(DEFAULTS)
"""OpenAI's optional fields, for which an explicit null means left out. Of unknown fields null stays in the key."""

INSTRUCTIONS = ("system", "developer")
"""Roles whose messages stay in the scope, however the turns are compared."""

TEXT_PARTS = ("text", "input_text", "output_text")

_PLAIN_PART = {"type", "text"}
_PLAIN_MESSAGE = {"role", "content"}
_encode = msgspec.json.Encoder(order="deterministic").encode


class _Split(msgspec.Struct, frozen=True):
    """A request taken apart: the fields of the scope, and the turns that only the digest covers."""

    scope: dict[str, Any]
    turn: str | list[str] | None
    history: list[Any]
    comparison: Comparison | None


def build(call: Call, *, embedder: str, end_user: bool, question: str | None, contextual: bool = False) -> CacheKey:
    """Key a request. `question` is the text to compare by meaning, None where policy allows exact hits only.

    `question` is in neither hash: a request has the same digest whether or not it may also hit by meaning. `embedder`
    is the fingerprint of the embedder; `end_user` says whether `user` and `safety_identifier` separate answers. With
    `contextual` the text may come to carry earlier turns, which the scope then leaves to it; such scopes are never
    those of requests keyed without.

    The digest covers the last user turn as it was written, apart from Unicode composition (NFC) and white space around
    it, which chat templates trim. Case, inner white space and punctuation stay: they carry meaning in code, names
    and data, and whoever asks again in other letters is served by the semantic tier. The prompt of a plain completion
    is not a turn but text to be continued, and is taken byte for byte.
    """
    split = _take_apart(call, embedder=embedder, end_user=end_user, contextual=contextual)
    digest = blake2b(_encode(list(split.scope.values())), digest_size=32)
    partition = digest.digest()[:16]
    # Which of the two it is, the scope says: `history`.
    digest.update(_encode(split.turn if split.comparison is None else [split.history, split.turn]))
    return CacheKey(
        tenant=call.tenant.id,
        namespace=call.controls.namespace,
        model=call.model,
        scope=partition,
        digest=digest.digest(),
        text=question if question is None or split.comparison is None else split.comparison.text,
        max_tokens=_limit(call.body),
    )


def divided(key: CacheKey, words: Sequence[str]) -> CacheKey:
    """`key` divided further by what functions said of the request: never that of requests with other words, or none.

    `words` are header values: bytes that were no UTF-8 are surrogates in them, line breaks there are none.
    """
    told = "\n".join(words).encode("utf-8", "surrogateescape")
    return replace(
        key,
        scope=blake2b(told, key=key.scope, digest_size=16).digest(),
        digest=blake2b(told, key=key.digest, digest_size=32).digest(),
    )


def fields(call: Call, *, embedder: str, end_user: bool, contextual: bool = False) -> dict[str, Any]:
    """What the scope covers, tenant first, in the order it is hashed; for explaining a decision."""
    return _take_apart(call, embedder=embedder, end_user=end_user, contextual=contextual).scope


def question(call: Call) -> str | None:
    """The last user turn where its text alone says what is asked; None where only an identical request may hit.

    None for embeddings, for several or token-id prompts, for a turn with anything but text, for a blank one, and in an
    agent loop, where the last word is a tool's or the assistant's: successive steps of a loop are nearly identical in
    meaning and have different answers.
    """
    split = _split(call)
    if split is None:
        return None
    text = split[0] if isinstance(split[0], str) else _canonical("\n".join(split[0]))
    return text if text.strip() else None


def items(call: Call) -> Sequence[Any]:
    """The messages or input items of a conversation, oldest first; empty where the request has none."""
    found = call.body.get(_conversation(call))
    return found if isinstance(found, list) else ()


def _conversation(call: Call) -> str:
    return "input" if call.endpoint is Endpoint.RESPONSES else "messages"


def has_end_user(call: Call) -> bool:
    """Whether the request says which end user it is for."""
    return any(call.body.get(name) for name in END_USER)


def _take_apart(call: Call, *, embedder: str, end_user: bool, contextual: bool) -> _Split:
    body = _kept(call.body, end_user=end_user)
    split = _split(call)
    turn, place = None, ""
    if split is not None:
        turn, place, rest = split
        body[place] = rest
    name = _conversation(call)
    if isinstance(body.get(name), list):
        body[name] = [_message(item) for item in body[name]]
    history: list[Any] = []
    comparison = None
    if contextual and isinstance(turn, str) and place == name:
        start = _opening(body[name])
        *history, last = body[name][start:]
        said = _said(history)
        comparison = None if said is None else context.compare([*said, turn])
        if comparison is not None:
            body[name] = [*body[name][:start], last]
    scope = {
        "tenant": call.tenant.id,
        "namespace": call.controls.namespace,
        "endpoint": call.endpoint.value,
        "model": call.model,
        "embedder": embedder,
        "canonicaliser": CANONICALISER,
        "turn_apart": turn is not None,
        "history": ["exact"] if comparison is None else [comparison.kind.value, *comparison.words],
        "body": body,
    }
    return _Split(scope, turn, history, comparison)


def _opening(messages: Sequence[Any]) -> int:
    """Where the conversation begins, behind the instructions."""
    roles = (message.get("role") if isinstance(message, dict) else None for message in messages)
    return next(at for at, role in enumerate(roles) if role not in INSTRUCTIONS)


def _said(history: Sequence[Any]) -> list[str] | None:
    """What the user said before the last turn; None unless user and assistant took turns in nothing but text."""
    for at, message in enumerate(history):
        role = "assistant" if at % 2 else "user"
        plain = isinstance(message, dict) and message.keys() == _PLAIN_MESSAGE and message["role"] == role
        if not plain or not isinstance(message["content"], str) or not message["content"].strip():
            return None
    return None if len(history) % 2 else [_canonical(message["content"]) for message in history[::2]]


def _kept(body: Mapping[str, Any], *, end_user: bool) -> dict[str, Any]:
    kept = {}
    for name, given in body.items():
        value = given
        if name in NO_INFLUENCE or name.startswith("prompt_cache_") or (name in END_USER and not end_user):
            continue
        if value is None and name in NULLABLE:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if name in DEFAULTS and type(value) is type(DEFAULTS[name]) and value == DEFAULTS[name]:
            continue
        if name in LIMITS and type(value) is int:
            continue
        kept[name] = value
    return kept


def _limit(body: Mapping[str, Any]) -> int | None:
    limits = [value for name in LIMITS if type(value := body.get(name)) is int]
    return min(limits) if limits else None


def _split(call: Call) -> tuple[str | list[str], str, Any] | None:
    """The last user turn, the field it is in, and what of that field belongs to the scope."""
    if call.endpoint is Endpoint.COMPLETIONS:
        prompt = call.body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        return (prompt, "prompt", None) if isinstance(prompt, str) else None
    if call.endpoint is Endpoint.RESPONSES and isinstance(said := call.body.get("input"), str):
        return _canonical(said), "input", [{"role": "user"}]
    conversation = items(call)
    last = conversation[-1] if conversation else None
    if not isinstance(last, dict) or last.get("role") != "user" or last.get("type", "message") != "message":
        return None
    turn = _texts(last.get("content"))
    if turn is None:
        return None
    rest = {key: value for key, value in last.items() if key != "content"}
    return turn, _conversation(call), [*conversation[:-1], rest]


def _texts(content: Any) -> str | list[str] | None:
    """The text of a turn: one string, or the strings of its parts as they are; None if it holds anything else."""
    if isinstance(content, str):
        return _canonical(content)
    if not isinstance(content, list) or not all(_is_plain(part) for part in content):
        return None
    parts = [part["text"] for part in content]
    return _canonical(parts[0]) if len(parts) == 1 else parts


def _is_plain(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and part.keys() == _PLAIN_PART
        and part["type"] in TEXT_PARTS
        and isinstance(part["text"], str)
    )


def _canonical(text: str) -> str:
    return (text if text.isascii() else normalize("NFC", text)).strip()


def _message(item: Any) -> Any:
    """One form for the spellings of a message: no nulls, no default `type`, a single text part as a string."""
    if not isinstance(item, dict):
        return item
    message = {name: value for name, value in item.items() if value is not None}
    content = message.get("content")
    if isinstance(content, list) and len(content) == 1 and _is_plain(content[0]):
        message["content"] = content[0]["text"]
    if message.get("type") == "message" and "role" in message:
        del message["type"]
    return message
