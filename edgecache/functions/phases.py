"""What a function is asked in each phase, and what its answer means. Pure.

A phase is an ordinary HTTP request to the function: its headers say what is at hand, its body is the request or answer
that may be changed. 204 leaves everything as it is, 200 puts its own body in place, `x-edgecache-*` headers say more.
Whatever means nothing here is a fault, and `on_error` of the manifest says what becomes of the request then.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache

import msgspec

from edgecache.errors import ClientError, Fault, FunctionFault
from edgecache.functions.manifest import Phase
from edgecache.types import CacheInfo, Call, Endpoint, Tenant
from edgecache.wasm.base import Headers, Request, Response
from edgecache.wire import answers, openai
from edgecache.wire.answers import Finished
from edgecache.wire.jsontext import JsonError, decode, encode

ACTION, KEY, ROUTE = "x-edgecache-action", "x-edgecache-key", "x-edgecache-route"
_JSON = ("content-type", "application/json")
_OF_CONNECTION = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "content-length",
))  # fmt: skip
"""Headers of one connection only (RFC 9110, section 7.6.1), and the length, which follows from the body."""
_PLAIN = frozenset(("content-type", "content-encoding", "cookie"))
"""What a function on a route gets beside all others: the body is the client's own there, and so is the site."""
_WITHHELD = _OF_CONNECTION | _PLAIN | {"authorization", "x-api-key", "api-key", "host", "expect"}
"""Request headers that a function sees in no phase: credentials, and those of a connection or of another body."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""What a model's name, which comes out of JSON, may hold and a header may not."""
_KEY_LIMIT = 256
"""Characters of the largest `x-edgecache-key`."""
_MESSAGE_LIMIT = 1024
"""Bytes of a refusal's text that reach the client."""
_HEADERS_LIMIT = 8192
"""Bytes of headers that a function may add to the client's response."""
_SOUND = frozenset(("content_filter", "refusal", "empty", "finish_reason", "no_finish_reason"))
"""Why an answer of the right shape is not stored: no concern of a function, whose answers never are."""


class Act(StrEnum):
    """What a function wants done; all but the first are values of `x-edgecache-action`."""

    GO_ON = ""
    MISS = "miss"
    """The answer from the cache will not do: go upstream."""
    BYPASS = "bypass"
    """Leave the cache out."""
    ANSWER = "answer"
    """The body is the answer to the client; it is never stored."""
    REFUSE = "refuse"
    """The client gets an error."""


_ACTS: Mapping[Phase, frozenset[Act]] = {
    Phase.REQUEST: frozenset((Act.BYPASS, Act.ANSWER, Act.REFUSE)),
    Phase.KEY: frozenset((Act.BYPASS, Act.ANSWER, Act.REFUSE)),
    Phase.HIT: frozenset((Act.MISS, Act.REFUSE)),
    Phase.MISS: frozenset((Act.ANSWER, Act.REFUSE)),
    Phase.RESPONSE: frozenset((Act.REFUSE,)),
    Phase.ROUTE: frozenset(),
}
_KEYED = (Phase.REQUEST, Phase.KEY)
_ROUTED = (Phase.REQUEST, Phase.MISS)
_OF_ANSWERS = (Phase.HIT, Phase.RESPONSE)


class Rules(msgspec.Struct, frozen=True):
    """What a request that a function puts in a client's place must keep to, as the client's own had to.

    `admit` raises Forbidden for a model that the tenant may not use; the limits are `limits.max_json_depth` and
    `limits.max_messages`.
    """

    admit: Callable[[Tenant, str], None]
    max_depth: int
    max_messages: int


class Action(msgspec.Struct, frozen=True):
    """What an answer means.

    `body` takes the place of the answer at hand, or is the one that `answer` gives; `call` takes the place of the
    request. None = unchanged. `key` divides the cache key further, `route` names the upstream to prefer, `headers` go
    to the client. `status` and `message` are a refusal's.
    """

    act: Act = Act.GO_ON
    body: bytes | None = None
    call: Call | None = None
    key: str = ""
    route: str = ""
    headers: Headers = ()
    status: int = 403
    message: str = ""


_REMEMBERED = 16 * 1024
"""Bytes of the largest answer that is remembered to be one."""
_UNCHANGED = Action()
_UPSTREAM = Action(Act.MISS)


def heading(client: Mapping[str, str], *, tenant: str, model: str, request_id: str) -> Headers:
    """The headers that every call for one client request has: the client's own, and whose request it is."""
    sent = [(name, value) for given, value in client.items() if (name := _name(given))]
    return (
        _JSON,
        *sent,
        ("x-edgecache-tenant", tenant),
        ("x-edgecache-model", _CONTROL.sub("?", model)),
        ("x-edgecache-request-id", request_id),
    )


def request(
    phase: Phase,
    target: str,
    headers: Headers,
    body: bytes,
    *,
    now: int,
    seed: bytes,
    info: CacheInfo | None = None,
    chunk: int | None = None,
) -> Request:
    """The request to a function. `headers` are those of `heading`; `now` and `seed` as in `wasm.base.Request`.

    `info` says how an answer came from the cache; `chunk` is the number of the server-sent event in `body`, from 0.
    """
    more = [*headers, ("x-edgecache-phase", phase.value)]
    if info is not None:
        more.append(("x-edgecache-status", info.status.value))
        if info.similarity is not None:
            more.append(("x-edgecache-similarity", f"{info.similarity:.4f}"))
        if info.entry_id is not None:
            more.append(("x-edgecache-entry", str(info.entry_id)))
        if info.age is not None:
            more.append(("x-edgecache-age", str(info.age)))
    if chunk is not None:
        more.append(("x-edgecache-chunk", str(chunk)))
    return Request("POST", target, tuple(more), body, now, seed)


def of_route(client: Mapping[str, str], *, tenant: str, request_id: str) -> Headers:
    """The headers of plain HTTP to a function: the client's, its cookies too, but no credentials and none of ours."""
    kept = ((given.lower(), value) for given, value in client.items())
    return (
        *((name, value) for name, value in kept if name in _PLAIN or _name(name)),
        ("x-edgecache-phase", Phase.ROUTE.value),
        ("x-edgecache-tenant", tenant),
        ("x-edgecache-request-id", request_id),
    )


def from_route(headers: Headers) -> Headers:
    """Those of the headers of an answer on a route that go to the client."""
    return tuple(
        (name, value) for name, value in headers if name not in _OF_CONNECTION and not name.startswith("x-edge")
    )


def read(phase: Phase, response: Response, call: Call, rules: Rules, *, chunk: bool = False) -> Action:
    """What `response` means in `phase` of `call`; raises FunctionFault for what means nothing there.

    What takes an answer's place must be an answer to `call`, or with `chunk` the data of one event of its stream.
    """
    if response.status == 204 and not response.headers:
        return _UNCHANGED
    said = {name: value for name, value in response.headers if name.startswith("x-")}
    act = _act(phase, said.pop(ACTION, "").strip().lower())
    key, route = said.pop(KEY, ""), said.pop(ROUTE, "")
    _refuse_misplaced(phase, key, route)
    headers = _for_client(said) if said else ()
    if act is Act.REFUSE:
        return _refusal(response, headers)
    if response.status == 204 and act is not Act.ANSWER:
        return Action(act, None, None, key, route, headers)
    if response.status != 200:
        raise _meaningless(f"answered {response.status}; 204 leaves things as they are, 200 puts the body in place")
    if act is Act.ANSWER or phase in _OF_ANSWERS:
        check = _check_event if chunk else _check_answer
        return Action(act, check(call.endpoint, response.body), None, key, route, headers)
    made = None if phase is Phase.KEY else _rewritten(call, response.body, rules)
    return Action(act, None, made, key, route, headers)


def failed(phase: Phase, on_error: str, fault: FunctionFault) -> Action:
    """What becomes of a request whose function failed, by `on_error` of its manifest; raises `fault` for `fail`."""
    if on_error == "fail":
        try:
            raise fault
        finally:
            del fault  # its traceback has this frame, which would keep it, and with it the function
    return _UPSTREAM if on_error == "miss" and phase is Phase.HIT else _UNCHANGED


def _act(phase: Phase, word: str) -> Act:
    if not word:
        return Act.GO_ON
    allowed = _ACTS[phase]
    if word not in allowed:
        known = ", ".join(sorted(allowed))
        raise _meaningless(f"says {ACTION}: {word[:40]!r}, which means nothing in phase {phase.value} ({known} do)")
    return Act(word)


def _refuse_misplaced(phase: Phase, key: str, route: str) -> None:
    if key and phase not in _KEYED:
        raise _meaningless(
            f"sent {KEY}, which means nothing in phase {phase.value}: only request and key divide the key"
        )
    if len(key) > _KEY_LIMIT:
        raise _meaningless(f"sent {KEY} with {len(key)} characters, at most {_KEY_LIMIT} are taken")
    if route and phase not in _ROUTED:
        raise _meaningless(f"sent {ROUTE}, which means nothing in phase {phase.value}: only request and miss route")


def _refusal(response: Response, headers: Headers) -> Action:
    status = response.status if 400 <= response.status <= 599 else 403
    message = response.body[:_MESSAGE_LIMIT].decode("utf-8", "ignore").strip()
    return Action(Act.REFUSE, headers=headers, status=status, message=message)


def _for_client(said: Mapping[str, str]) -> Headers:
    """The headers of a function that reach the client: `x-…` of its own, never ours (`x-edge…`)."""
    kept = tuple((name, value) for name, value in said.items() if not name.startswith("x-edge"))
    if (size := sum(len(name) + len(value) for name, value in kept)) > _HEADERS_LIMIT:
        raise _meaningless(f"has {size} bytes of headers for the client, at most {_HEADERS_LIMIT} are taken")
    return kept


def _check_answer(endpoint: Endpoint, body: bytes) -> bytes:
    """`body`, if it is a whole answer of `endpoint`."""
    (_checked_before if len(body) <= _REMEMBERED else _check_whole)(endpoint, body)
    return body


def _check_whole(endpoint: Endpoint, body: bytes) -> None:
    outcome = answers.from_json(endpoint, body)
    if isinstance(outcome, Finished) or (outcome.reason in _SOUND and _has_choices(endpoint, body)):
        return
    raise _meaningless(f"put a body in place that is no answer of {endpoint.path} ({outcome.reason})")


_checked_before = lru_cache(maxsize=512)(_check_whole)
"""Of popular answers functions make the same again and again; reading one takes longer than most functions."""


def _has_choices(endpoint: Endpoint, body: bytes) -> bool:
    """Whether an answer that is not Finished can be shown as a stream all the same."""
    if endpoint not in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        return False
    field, kind = ("message", dict) if endpoint is Endpoint.CHAT else ("text", str)
    choices = decode(body).get("choices") or ()
    return bool(choices) and all(isinstance(choice.get(field), kind) for choice in choices)


def _check_event(endpoint: Endpoint, body: bytes) -> bytes:
    """`body`, if it is the data of an event of a stream of `endpoint`."""
    try:
        value = decode(body)
    except JsonError as error:
        raise _meaningless(f"put an event in place that is not JSON: {error}") from error
    field, kind = ("type", str) if endpoint is Endpoint.RESPONSES else ("choices", list)
    if not isinstance(value, dict) or not isinstance(value.get(field), kind):
        raise _meaningless(f"put an event in place that is none of {endpoint.path}: it has no `{field}`")
    return body


def _rewritten(call: Call, body: bytes, rules: Rules) -> Call:
    """`call` with the request in `body`. Whether the answer is streamed stays the client's choice."""
    try:
        parsed = openai.parse(call.endpoint, body, max_depth=rules.max_depth, max_messages=rules.max_messages)
        rules.admit(call.tenant, parsed.model)
    except ClientError as error:
        raise _meaningless(f"put a request in place that no client could send: {error.message.rstrip('.')}") from error
    fields = parsed.body
    if (parsed.stream, parsed.include_usage) != (call.stream, call.include_usage):
        for name in ("stream", "stream_options"):
            fields.pop(name, None)
            if name in call.body:
                fields[name] = call.body[name]
        body = encode(fields)
    return msgspec.structs.replace(call, body=fields, raw=body, model=parsed.model)


@lru_cache(maxsize=1024)
def _name(given: str) -> str:
    """A request header's name in lower case; empty for one that no function sees."""
    name = given.lower()
    return "" if name in _WITHHELD or name.startswith(("x-edgecache-", "proxy-")) else name


def _meaningless(problem: str) -> FunctionFault:
    return FunctionFault(Fault.ANSWER, problem)
