"""What may be cached, in which tiers, for how long, and whether a stored answer still serves. Values in, values out.

The first reason that applies is the one given; `docs/caching.md` lists them. A caller's directives can only tighten:
raise the floor, shorten a lifetime, leave out tiers. The exceptions concern nobody but the caller: `max-age` or
`EdgeCache-Mode: cache` opts a warm request into the exact tier, `immutable` vouches for what the request refers to by
URL, and `max-stale` (RFC 9111, section 5.2.1.2) accepts an expired answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from edgecache import config
from edgecache.cache import key as keys
from edgecache.cache import pii
from edgecache.cache.wording import is_time_sensitive
from edgecache.types import CacheKey, Call, Endpoint, Entry, Mode
from edgecache.wire.answers import Finished

UNSEEN: Mapping[str, str] = {
    "background": "stateful",
    "conversation": "stateful",
    "previous_response_id": "stateful",
    "include": "stateful",
    "store": "stateful",
    "web_search_options": "hosted-tools",
    "audio": "audio-output",
    "moderation": "moderation",
}
"""Fields that tie the answer to state or time that this POP cannot see, with the reason each one gives."""

SAMPLING: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "n": ("n", (None, 1)),
    "best_of": ("n", (None, 1)),
    "logprobs": ("logprobs", (None, False)),
    "top_logprobs": ("logprobs", (None, 0)),
    "logit_bias": ("logit-bias", (None, {})),
    "seed": ("seed", (None,)),
    "echo": ("echo", (None, False)),
}
"""Fields that ask for one particular answer, the reason each gives, and the values that ask for nothing."""

CLIENT_TOOLS = ("function", "custom")
"""Tools that the client runs itself; any other runs at the server, against a world that changes."""

TEXT = ("text", "input_text", "output_text", "refusal")
NOTABLE = frozenset(UNSEEN).union(SAMPLING, ("modalities", "tools", "functions"))
URLS = ("image_url", "video_url", "audio_url", "file_url")


class Decision(msgspec.Struct, frozen=True):
    """What the cache may do for a request.

    `exact` and `semantic` are the tiers it belongs to, for the lookup and for keeping its answer. `refresh` skips the
    lookup, `store` lets the answer be kept. `bypass` names why the cache is left out altogether, `exact_only` why the
    semantic tier is. `ttl` is in seconds, `floor` the least cosine similarity, `policy` when another wording hits.
    """

    exact: bool
    semantic: bool
    store: bool
    refresh: bool
    bypass: str | None
    exact_only: str | None
    ttl: float
    floor: float
    policy: config.HitPolicy
    end_user: bool = False


class Freshness(msgspec.Struct, frozen=True):
    """Whether a stored answer serves a request, whether it is past its lifetime, and the rule that says so."""

    ok: bool
    stale: bool
    reason: str


def decide(call: Call, settings: config.Cache) -> Decision:
    """Apply the decision table to a request.

    `no-cache` and `EdgeCache-Mode: refresh` force a miss whose answer is kept. `no-store` and `readonly` keep nothing
    but may be answered from what is stored (RFC 9111, section 5.2.1.5). `only-if-cached` is left to the caller: it
    changes what happens on a miss, not what may be cached.
    """
    controls = call.controls
    lookup = not (controls.no_cache or controls.mode is Mode.REFRESH)
    keep = not (controls.no_store or controls.mode is Mode.READONLY)
    hits = hit_policy(settings.semantic, call.tenant.id, controls.namespace, call.model)
    floor = max(hits.floor, controls.threshold or 0.0)
    talk = _listen(call)
    warm = _is_warm(call, settings)
    bypass = _refused(call, settings, warm=warm) or talk.bypass or (None if lookup or keep else "no-store")
    if bypass is not None:
        return Decision(False, False, False, False, bypass, None, 0.0, floor, hits)
    private = settings.pii != "cache" and pii.contains(talk.said)
    end_user = settings.scope == "end_user" or (private and settings.pii == "end_user")
    if private and (settings.pii == "bypass" or (settings.pii == "end_user" and not keys.has_end_user(call))):
        return Decision(False, False, False, False, "pii", None, 0.0, floor, hits)
    ttl = settings.ttl if controls.ttl is None else min(settings.ttl, controls.ttl)
    timely = is_time_sensitive(talk.said)
    if timely:
        ttl = min(ttl, settings.ttl_time_sensitive)
    exact_only = _by_settings(call, settings, warm=warm) or _by_question(call, talk, settings.semantic)
    if exact_only is None and private and settings.pii == "exact":
        exact_only = "pii"
    if exact_only is None and timely and not settings.semantic.time_sensitive:
        exact_only = "time-sensitive"
    return Decision(
        exact=True,
        semantic=exact_only is None,
        store=keep and ttl > 0,
        refresh=not lookup,
        bypass=None,
        exact_only=exact_only,
        ttl=ttl,
        floor=floor,
        policy=hits,
        end_user=end_user,
    )


def hit_policy(semantic: config.Semantic, tenant: str, namespace: str, model: str) -> config.HitPolicy:
    """The hit policy of a request: what the first matching scope says, and the general one where that says nothing."""
    for scope in semantic.scope:
        place = ((scope.tenant, tenant), (scope.namespace, namespace), (scope.model, model))
        if all(wanted in (None, given) for wanted, given in place):
            said = ((name, getattr(scope, name)) for name in config.HitPolicy.__struct_fields__)
            return msgspec.structs.replace(semantic, **{name: value for name, value in said if value is not None})
    return semantic


def in_words(semantic: config.Semantic) -> str:
    """When another wording hits, for an operator."""
    if not semantic.enabled:
        return "identical requests only"
    said = {
        "budget": f"budget {100 * semantic.budget:g} % wrong per request",
        "verified": f"verified, {100 * semantic.delta:g} % wrong per request",
        "threshold": f"threshold {semantic.threshold:g}",
        "similarity": f"similarity {semantic.similarity:g}",
    }[semantic.policy]
    said += ", in shadow mode" if semantic.mode == "shadow" else ""
    return said + (f", {len(semantic.scope)} scopes with other rules" if semantic.scope else "")


def usable(entry: Entry, call: Call, key: CacheKey, *, now: float) -> Freshness:
    """Whether `entry` may answer `call` at Unix time `now` (RFC 9111, sections 4.2 and 5.2.1).

    The token limit is outside the key, so it is judged here: an answer that ended by itself within the new limit is
    what the model would have said under it. A soft-purged entry is stale by an operator's word, which no `max-stale`
    of a caller lifts.
    """
    left = entry.expires - now
    refused = _unfit(entry, call, key, now=now)
    if refused is not None:
        return Freshness(ok=False, stale=entry.soft_purged or left <= 0, reason=refused)
    controls = call.controls
    if left <= 0:
        accepted = controls.max_stale is not None and -left <= controls.max_stale
        return Freshness(ok=accepted, stale=True, reason="max-stale" if accepted else "expired")
    if controls.min_fresh is not None and left < controls.min_fresh:
        return Freshness(ok=False, stale=False, reason="min-fresh")
    return Freshness(ok=True, stale=False, reason="fresh")


def stale_on_error(entry: Entry, call: Call, key: CacheKey, *, now: float, grace: float) -> bool:
    """Whether `entry` may answer although it is stale, because the upstream cannot (RFC 5861, section 4).

    Up to `grace` seconds past expiry, soft-purged or not. A caller who asked for a new answer, for a young or for a
    fresh one gets the error instead.
    """
    controls = call.controls
    if controls.no_cache or controls.mode is Mode.REFRESH or controls.min_fresh is not None:
        return False
    return now - entry.expires <= grace and _unfit(entry, call, key, now=now) in (None, "soft-purged")


def admit(finished: Finished, decision: Decision, settings: config.Cache) -> str | None:
    """Why a finished answer is not stored; None if it is.

    An answer that calls tools is kept only where no other wording of the question can reach it: replaying a call for
    a question that merely resembles the first would repeat its side effects with the wrong arguments.
    """
    if not decision.store:
        return "no-store"
    if finished.tool_calls or finished.finish_reason in {"tool_calls", "function_call"}:
        if not settings.tool_calls or decision.semantic:
            return "tool-calls"
    elif finished.finish_reason != "stop":
        return "length"
    return "too-large" if len(finished.body) > settings.max_entry_bytes else None


class _Talk(msgspec.Struct):
    """What a conversation holds. `said` is all that the user said: `And in Rome?` is as timely as what it follows."""

    bypass: str | None = None
    media: bool = False
    turns: int = 0
    said: str = ""


def _refused(call: Call, settings: config.Cache, *, warm: bool) -> str | None:
    """Why settings, mode or fields keep a request out of both tiers."""
    body = call.body
    reason = None
    if not settings.enabled:
        reason = "disabled"
    elif call.controls.mode is Mode.BYPASS:
        reason = "mode-bypass"
    elif call.endpoint is Endpoint.RESPONSES and (body.get("store") is not False or body.get("prompt") is not None):
        reason = "stateful"  # the API stores by default; `prompt` is a template kept at the server
    elif not NOTABLE.isdisjoint(body):
        reason = _unseen(body)
    if reason is None and warm and not (call.controls.mode is Mode.CACHE or call.controls.max_age):
        reason = "temperature"
    return reason


def _unseen(body: Mapping[str, Any]) -> str | None:
    for name, reason in UNSEEN.items():
        if body.get(name) not in (None, False, []):
            return reason
    if body.get("modalities") not in (None, ["text"]):
        return "audio-output"
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(t, dict) and t.get("type") in CLIENT_TOOLS for t in tools):
        return "hosted-tools"
    return None


def _is_warm(call: Call, settings: config.Cache) -> bool:
    if call.endpoint is Endpoint.EMBEDDINGS:
        return False
    temperature = call.body.get("temperature")
    if temperature is None:
        return settings.omitted_temperature == "bypass"
    return not isinstance(temperature, int | float) or temperature > settings.max_temperature


def _by_settings(call: Call, settings: config.Cache, *, warm: bool) -> str | None:
    """Why settings, mode or sampling fields keep a request out of the semantic tier."""
    if call.controls.mode is Mode.EXACT:
        return "mode-exact"
    if not settings.semantic.enabled:
        return "semantic-off"
    if call.endpoint is Endpoint.EMBEDDINGS:
        return "endpoint"
    if warm:
        return "temperature"
    if not NOTABLE.isdisjoint(call.body):
        for name, (reason, neutral) in SAMPLING.items():
            value = call.body.get(name)
            if not any(type(value) is type(one) and value == one for one in neutral):
                return reason
    return None


def _by_question(call: Call, talk: _Talk, semantic: config.Semantic) -> str | None:
    """Why a conversation is not one whose last user turn may be compared by meaning."""
    conversation = keys.items(call)
    last = conversation[-1] if conversation else None
    if isinstance(last, dict) and last.get("role") not in ("user", "system", "developer"):
        return "agent-loop"
    if talk.media:
        return "media"
    if keys.question(call) is None:
        return "no-question"
    if not semantic.tools and (call.body.get("tools") or call.body.get("functions")):
        return "tools"
    if talk.turns > semantic.max_turns:
        return "turns"
    return "length" if (len(call.raw) + 3) // 4 >= semantic.max_prompt_tokens else None


def _listen(call: Call) -> _Talk:
    """Go through a conversation once."""
    conversation = keys.items(call)
    if not conversation:
        return _Talk(said=keys.question(call) or "")
    talk = _Talk()
    said: list[Any] = []
    for item in conversation:
        if not isinstance(item, dict):
            continue
        if item.get("audio") is not None or item.get("type") == "item_reference":
            talk.bypass = "stateful"  # by id: an earlier answer kept at the server
        held = item.get("content") or item.get("output")
        texts = list(_read(held, talk, immutable=call.controls.immutable)) if isinstance(held, list) else [held]
        if item.get("role") == "user":
            talk.turns += 1
            said += texts
    talk.said = "\n".join(text for text in said if isinstance(text, str))
    return talk


def _read(parts: list[Any], talk: _Talk, *, immutable: bool) -> Iterator[Any]:
    """The texts among the parts of a message; what else there is goes into `talk`."""
    for part in parts:
        if isinstance(part, dict) and part.get("type") in TEXT:
            yield part.get("text")
            continue
        talk.media = True
        reason = _refers_to(part) if isinstance(part, dict) else None
        if reason is not None and not (immutable and reason != "stateful"):
            talk.bypass = reason


def _refers_to(part: Mapping[str, Any]) -> str | None:
    """Why a part of a message that is not text keeps a request out of both tiers: what it names can change."""
    for name in URLS:
        place = part.get(name)
        url = place.get("url") if isinstance(place, dict) else place
        if isinstance(url, str) and url[:5].lower() != "data:":
            return "remote-image" if name == "image_url" else "remote-file"
    file = part.get("file")
    named = part.get("file_id") or (isinstance(file, dict) and file.get("file_id"))
    return "stateful" if named else None


def _unfit(entry: Entry, call: Call, key: CacheKey, *, now: float) -> str | None:
    """Why an entry does not serve a request, however long it is fresh."""
    place = (entry.tenant, entry.namespace, entry.model, entry.scope, entry.endpoint)
    if place != (key.tenant, key.namespace, key.model, key.scope, call.endpoint):
        return "scope"  # never so after a sound lookup; a second look costs nothing, a foreign answer a lot
    if not _fits(entry, key.max_tokens):
        return "max-tokens"
    if call.controls.max_age is not None and now - entry.created > call.controls.max_age:
        return "max-age"
    return "soft-purged" if entry.soft_purged else None


def _fits(entry: Entry, limit: int | None) -> bool:
    """Whether an answer under one token limit is the answer under another; `limit` None asks for no limit."""
    if entry.max_tokens == limit:
        return True
    if entry.finish_reason != "stop":
        return False
    return limit is None or (entry.completion_tokens is not None and entry.completion_tokens <= limit)
