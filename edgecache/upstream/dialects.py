"""What each kind of server understands: turns a client's request into the request that goes upstream.

Pure. The servers answer 400 to body fields that they do not know (trtllm-serve: pydantic `extra="forbid"`; Dynamo:
"Unsupported parameter(s)"). Fields that only keep books for the caller and cannot change the answer are dropped where
the server refuses them; every other unknown field is forwarded, so that the client gets the server's own honest 400.
Sources: TensorRT-LLM `serve/openai_protocol.py`, Dynamo 1.6.1 as measured, its `protocols/openai/nvext.rs`, vLLM's
`extra="allow"`. Not here: sending (`client`), choosing (`router`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, NamedTuple

from edgecache.types import Call, Endpoint, Mode, Purpose, ServiceClass
from edgecache.upstream.sending import Sending
from edgecache.wire import directives
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

_LOOKED_AT = FORBIDDEN | BOOKKEEPING | {"nvext", "stream_options"}
"""The fields of which one may have to go, or a part of it."""

_AS_ASKED = Sending()
_TRACE_HEADERS = ("traceparent", "tracestate")
_RETURNED = frozenset({"retry-after", "retry-after-ms", "x-should-retry", "x-llm-d-request-dropped-reason"})
_SESSION_HEADERS = ("x-session-id", "x-correlation-id", "x-session-affinity", "x-multi-turn-session-id")
_WITH_SESSION = _TRACE_HEADERS + _SESSION_HEADERS
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


class Prepared(NamedTuple):
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
    "edgecache": Dialect(accepts=dict.fromkeys(Endpoint, BOOKKEEPING), salted=frozenset(), sessions=True),
}
"""The servers by the name that `[[upstream]] dialect` gives them."""


_URGENCY: Mapping[str, Mapping[ServiceClass, float]] = {
    "trtllm": dict(zip(ServiceClass, (1.0, 0.75, 0.5, 0.0), strict=True)),  # 0 to 1, higher first
    "vllm": dict(zip(ServiceClass, (-2, -1, 0, 1), strict=True)),  # lower first, 0 = what has none
    "dynamo": dict(zip(ServiceClass, (3, 2, 1, 0), strict=True)),  # higher first, inside `nvext.agent_hints`
}
"""`priority` has three meanings."""


_HANDED_MODE = {
    Purpose.RENEW: Mode.REFRESH,
    Purpose.SAMPLE: Mode.BYPASS,
    Purpose.JUDGE: Mode.BYPASS,
    Purpose.MIRROR: Mode.BYPASS,
}
"""What a POP asks of its own accord is asked for a new answer: a neighbour's stored one says nothing."""


def prepare(dialect: str, call: Call, sending: Sending = _AS_ASKED, *, priority: bool = False) -> Prepared:
    """The request for a server of `dialect` (a key of `DIALECTS`), as `sending` has it.

    The client's bytes are forwarded unchanged unless a field has to go or come. With `priority` the server is told the
    service class.
    """
    rules = DIALECTS[dialect]
    removed, changes = set[str](), dict[str, Any]()
    if not _LOOKED_AT.isdisjoint(call.body):  # nearly no request has any of them
        removed, changes = _private(call.body)
        removed |= _refused(rules, call)
    if sending.model and sending.model != call.model:
        changes["model"] = sending.model
    if sending.written:
        changes |= _continued(call, sending)
    if priority and sending.service is not None and dialect in _URGENCY:
        changes |= _urgency(dialect, call, changes, _URGENCY[dialect][sending.service])
    if call.endpoint in rules.salted and call.tenant.id != "default":
        changes["cache_salt"] = _salt(call)
    strip_usage = call.stream and call.endpoint in _HAS_USAGE_CHUNK and not call.include_usage
    if strip_usage:
        options = call.body.get("stream_options")
        changes["stream_options"] = {**(options if isinstance(options, Mapping) else {}), "include_usage": True}
    headers = _headers(rules, call)
    if dialect == "edgecache":
        headers |= _handed_on(call, sending)
    return Prepared(
        body=_rewrite(call, removed, changes),
        headers=headers,
        strip_usage=strip_usage,
        dropped=tuple(sorted(removed)),
    )


def continues(dialect: str, call: Call) -> bool:
    """Whether a server of `dialect` can go on where another stopped in the midst of its answer to `call`.

    A completion goes on by making what was written part of the prompt. A chat needs a server that leaves the last
    message open (vLLM's `continue_final_message`). Structured answers and several choices are not taken up.
    """
    body = call.body
    if any(body.get(name) for name in ("logprobs", "top_logprobs", "tools", "functions", "response_format", "echo")):
        return False
    if body.get("n") not in {None, 1} or body.get("best_of") not in {None, 1} or body.get("suffix"):
        return False
    if call.endpoint is Endpoint.COMPLETIONS:
        return isinstance(body.get("prompt"), str)
    messages = body.get("messages")
    if call.endpoint is not Endpoint.CHAT or dialect != "vllm" or not isinstance(messages, list) or not messages:
        return False
    last = messages[-1]
    return isinstance(last, Mapping) and last.get("role") == "user"


def _continued(call: Call, sending: Sending) -> dict[str, Any]:
    """What changes in the body where the answer has begun with `sending.written` already."""
    changes: dict[str, Any] = {
        name: max(1, limit - sending.written_tokens)
        for name in ("max_tokens", "max_completion_tokens")
        if isinstance(limit := call.body.get(name), int)
    }
    if call.endpoint is Endpoint.COMPLETIONS:
        return changes | {"prompt": call.body["prompt"] + sending.written}
    said = {"role": "assistant", "content": sending.written}
    return changes | {
        "messages": [*call.body["messages"], said],
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def _urgency(dialect: str, call: Call, changes: Mapping[str, Any], value: float) -> dict[str, Any]:
    if dialect != "dynamo":
        return {"priority": value}
    nvext = changes.get("nvext", call.body.get("nvext"))
    nvext = nvext if isinstance(nvext, Mapping) else {}
    hints = nvext.get("agent_hints")
    return {"nvext": {**nvext, "agent_hints": {**(hints if isinstance(hints, Mapping) else {}), "priority": value}}}


def _handed_on(call: Call, sending: Sending) -> dict[str, str]:
    """What a neighbour POP must know of a request that is handed on.

    Whose it is, how urgent, where it may go, and what the neighbour's cache may do for it: no more than this one's.
    """
    controls = replace(call.controls, mode=_HANDED_MODE.get(call.purpose, call.controls.mode), tags=())
    headers = directives.headers(controls)
    headers |= {"EdgeCache-Hop": str(sending.hops), "EdgeCache-Tenant": call.tenant.id}
    if sending.service is not None:
        headers["EdgeCache-Class"] = sending.service.value
    if sending.due is not None:
        headers["EdgeCache-Deadline"] = f"{max(sending.due, 0.001):.3f}"
    if call.tenant.terms.residency:
        allowed = call.tenant.terms.residency & (call.wishes.residency or call.tenant.terms.residency)
        headers["EdgeCache-Residency"] = ", ".join(sorted(allowed)) or "-"
    elif call.wishes.residency is not None:
        headers["EdgeCache-Residency"] = ", ".join(sorted(call.wishes.residency)) or "-"
    return headers


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
    for name in _WITH_SESSION if rules.sessions else _TRACE_HEADERS:
        if name in call.headers:
            headers[name] = call.headers[name]
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
    return {
        name: value
        for given, value in headers.items()
        if (name := given.lower()) in _RETURNED or name.startswith("x-ratelimit-")
    }
