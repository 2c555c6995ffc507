"""What each kind of server understands: turns a client's request into the request that goes upstream.

Pure. The servers answer 400 to body fields that they do not know (trtllm-serve: pydantic `extra="forbid"`; Dynamo:
"Unsupported parameter(s)"). Fields that only keep books for the caller and cannot change the answer are dropped where
the server refuses them; every other unknown field is forwarded, so that the client gets the server's own honest 400.
Sources: TensorRT-LLM `serve/openai_protocol.py`, Dynamo 1.6.1 as measured, its `protocols/openai/nvext.rs`, vLLM's
`extra="allow"`. Not here: sending (`client`), choosing (`router`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from edgecache.types import Call, Endpoint
from edgecache.wire.jsontext import encode

BOOKKEEPING = frozenset(
    {
        "store",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "safety_identifier",
        "user",
        "cache",
    }
)
"""Fields for the caller's or the vendor's books. `cache` is what LiteLLM's client adds for LiteLLM's own proxy."""

FORBIDDEN = frozenset({"disaggregated_params", "kv_transfer_params", "api_base", "base_url", "api_key"})
"""Never forwarded from a client: they steer a cluster's inside, or send a proxy behind us elsewhere with our key."""

NVEXT_FORBIDDEN = frozenset(
    {
        "annotations",
        "backend_instance_id",
        "prefill_worker_id",
        "decode_worker_id",
        "dp_rank",
        "prefill_dp_rank",
    }
)
"""The same inside Dynamo's `nvext`: worker pinning, and annotations, which put events of their own into the stream."""

_TRACE_HEADERS = ("traceparent", "tracestate")
_SESSION_HEADERS = ("x-session-id", "x-correlation-id", "x-session-affinity", "x-multi-turn-session-id")
_HAS_USAGE_CHUNK = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})
_FORWARDABLE = re.compile(
    r"(?P<resource>/v1/responses/(?!\.{1,2}(?:[/?]|$))[A-Za-z0-9_.~-]{1,256})(?P<part>/cancel|/input_items)?"
    r"(?:\?[A-Za-z0-9_.~%&=+\[\],:-]*)?"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of server: the bookkeeping fields it accepts and the endpoints that take `cache_salt`, by endpoint."""

    accepts: Mapping[Endpoint, frozenset[str]]
    salted: frozenset[Endpoint]
    sessions: bool
    """True where the session-affinity headers mean something to the server."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What goes upstream.

    `strip_usage` is True when the usage chunk was asked for here and not by the client. `dropped` names the body
    fields that were taken out, nested ones with a dot.
    """

    body: bytes
    headers: dict[str, str]
    strip_usage: bool
    dropped: tuple[str, ...]


_USER = frozenset({"user"})
_BOOKS = frozenset({"user", "store", "metadata", "service_tier"})
_ALL = BOOKKEEPING - {"cache"}

DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(
        accepts={**dict.fromkeys(Endpoint, _USER), Endpoint.CHAT: _ALL, Endpoint.RESPONSES: _ALL},
        salted=frozenset(),
        sessions=False,
    ),
    "trtllm": Dialect(
        accepts={**dict.fromkeys(Endpoint, _USER), Endpoint.RESPONSES: _BOOKS},
        salted=frozenset({Endpoint.CHAT}),
        sessions=True,
    ),
    "dynamo": Dialect(
        accepts={
            Endpoint.CHAT: _BOOKS | {"prompt_cache_key"},
            Endpoint.COMPLETIONS: _USER | {"metadata"},
            Endpoint.EMBEDDINGS: _USER,
            Endpoint.RESPONSES: _ALL,
        },
        salted=frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS}),
        sessions=True,
    ),
    "vllm": Dialect(
        accepts=dict.fromkeys(Endpoint, _ALL),
        salted=frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES}),
        sessions=True,
    ),
}
"""The servers by the name that `[[upstream]] dialect` gives them."""


def prepare(dialect: str, call: Call) -> Prepared:
    """The request for a server of `dialect` (a key of `DIALECTS`).

    The client's bytes are forwarded unchanged unless a field has to go or come.
    """
    rules = DIALECTS[dialect]
    removed, changes = _private(call.body)
    removed |= _refused(rules, call)
    if call.endpoint in rules.salted and call.tenant.id != "default":
        changes["cache_salt"] = _salt(call)
    strip_usage = call.stream and call.endpoint in _HAS_USAGE_CHUNK and not call.include_usage
    if strip_usage:
        options = call.body.get("stream_options")
        changes["stream_options"] = {**(options if isinstance(options, Mapping) else {}), "include_usage": True}
    return Prepared(
        body=_rewrite(call, removed, changes),
        headers=_headers(rules, call),
        strip_usage=strip_usage,
        dropped=tuple(sorted(removed)),
    )


def _refused(rules: Dialect, call: Call) -> set[str]:
    """Bookkeeping that the server would answer with 400, and `stream_options` without a stream (a 400 as well)."""
    refused = (call.body.keys() & BOOKKEEPING) - rules.accepts[call.endpoint]
    if call.body.get("store"):
        refused.discard("store")  # the client wants its answer kept: only the server can say that it will not
    if not call.stream and "stream_options" in call.body:
        refused.add("stream_options")
    return refused


def _private(body: Mapping[str, Any]) -> tuple[set[str], dict[str, Any]]:
    """Fields that no client may send on: their names, and what replaces a partly cleaned `nvext`."""
    removed: set[str] = set(body.keys() & FORBIDDEN)
    nvext = body.get("nvext")
    if not isinstance(nvext, Mapping) or not (private := nvext.keys() & NVEXT_FORBIDDEN):
        return removed, {}
    return removed | {f"nvext.{name}" for name in private}, {
        "nvext": {name: value for name, value in nvext.items() if name not in private}
    }


def _salt(call: Call) -> str:
    """A salt that keeps tenants from sharing KV blocks. The client's own salt can only divide further."""
    own = call.body.get("cache_salt")
    parts = encode([call.tenant.id, own if isinstance(own, str) else ""])
    return blake2b(parts, digest_size=16, person=b"edgecache-salt").hexdigest()


def _rewrite(call: Call, removed: set[str], changes: Mapping[str, Any]) -> bytes:
    if not removed and not changes:
        return call.raw
    body = {name: value for name, value in call.body.items() if name not in removed}
    body.update(changes)
    return encode(body)


def _headers(rules: Dialect, call: Call) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json" if call.stream else "application/json",
        "x-request-id": call.request_id,
    }
    allowed = _TRACE_HEADERS + _SESSION_HEADERS if rules.sessions else _TRACE_HEADERS
    headers.update((name, call.headers[name]) for name in allowed if name in call.headers)
    return headers


def forward_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The few headers of a pass-through request that travel upstream, from names in lower case."""
    allowed = ("accept", "content-type", "x-request-id", *_TRACE_HEADERS)
    return {name: headers[name] for name in allowed if name in headers}


def forwardable(method: str, path: str) -> bool:
    """Whether a pass-through request may leave: stored responses only, never a server's control paths.

    `path` may carry a query. trtllm-serve has unauthenticated control endpoints beside `/v1`.
    """
    match = _FORWARDABLE.fullmatch(path)
    if match is None:
        return False
    allowed = {None: ("GET", "DELETE"), "/cancel": ("POST",), "/input_items": ("GET",)}
    return method in allowed[match["part"]]


def reply_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The response headers that travel back to the client, in lower case: retry advice and rate limits."""
    kept = ("retry-after", "retry-after-ms", "x-should-retry", "x-llm-d-request-dropped-reason")
    names = ((name.lower(), value) for name, value in headers.items())
    return {name: value for name, value in names if name in kept or name.startswith("x-ratelimit-")}
