"""The nouns that cross package borders. No behaviour beyond what their fields imply, no I/O.

Those made for every request are msgspec structs: a frozen dataclass of ten fields takes ten times as long to make.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec


class ServiceClass(StrEnum):
    """How urgent a request is, best first. A key's policy says which it may have; a request may only ask for less."""

    REALTIME = "realtime"
    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return _CLASSES.index(self)


_CLASSES = tuple(ServiceClass)


class Tier(StrEnum):
    """Where an upstream stands, nearest first."""

    EDGE = "edge"
    PEER = "peer"
    REGIONAL = "regional"
    CORE = "core"

    @property
    def rank(self) -> int:
        """0 for the nearest."""
        return _TIERS.index(self)


_TIERS = tuple(Tier)


class Purpose(StrEnum):
    """Why an upstream is asked."""

    CLIENT = "client"
    FUNCTION = "function"
    RENEW = "renew"
    """A new answer in place of one that has expired or is about to."""
    SAMPLE = "sample"
    """A second answer, to find out whether a semantic hit or a small model was right."""
    JUDGE = "judge"
    MIRROR = "mirror"
    """A new model, for comparison."""


class Endpoint(StrEnum):
    """An OpenAI endpoint family; part of every cache key."""

    CHAT = "chat.completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"

    @property
    def path(self) -> str:
        """The path of the endpoint on any OpenAI-compatible server."""
        return "/v1/" + self.value.replace(".", "/")


class Allowance(msgspec.Struct, frozen=True):
    """What `holder`, a tenant (`ID`) or one of its keys (`ID/KEY`), may take. 0 = no limit; `budget` is in USD."""

    holder: str
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    budget: float = 0.0
    period: Literal["day", "month"] = "month"


class Terms(msgspec.Struct, frozen=True):
    """On which terms a tenant, by one of its keys, is served: its policy, never what a request says of itself.

    `service` is the best class; `residency` the jurisdictions that its prompts may be processed in, empty = any;
    `weight` its share where requests wait; `continuation` lets another upstream continue a stream that died.
    """

    service: ServiceClass = ServiceClass.STANDARD
    residency: frozenset[str] = frozenset()
    weight: float = 1.0
    continuation: bool = False
    allowances: tuple[Allowance, ...] = ()

    def served_as(self, wished: ServiceClass | None) -> ServiceClass:
        """The class that is wished for, unless it is better than what is allowed."""
        return wished if wished is not None and wished.rank > self.service.rank else self.service


_NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who a request belongs to. Entries of one tenant are never visible to another."""

    id: str
    authorization: str | None = field(default=None, repr=False)
    """The client's own credential, kept only when `auth.mode = "forward"` sends it upstream."""
    writer: str = ""
    """A short hash that names the API key of the request (`edgecache keys list` prints it); empty without keys."""
    terms: Terms = _NO_TERMS


class Wishes(msgspec.Struct, frozen=True):
    """What the `EdgeCache-*` headers of a request say about routing. They can only tighten what its key may have.

    `deadline` is in seconds from `arrived` (monotonic); `residency` None = all that the tenant's allows. `hops` counts
    the POPs that have handed the request on.
    """

    service: ServiceClass | None = None
    deadline: float | None = None
    residency: frozenset[str] | None = None
    hops: int = 0
    arrived: float | None = None


class Attempt(msgspec.Struct):
    """One request to an upstream and what it took. Times in seconds, `cost` in USD by the price list `price`.

    `outcome` is `ok`, `rejected` (the upstream's 4xx), `overloaded`, `failed`, `timeout`, `cut` (it died on the way),
    `cancelled` (nobody wanted it any more) or `hedge_lost`; empty while it runs. `estimated` = its tokens were counted
    here, since the upstream did not say.
    """

    upstream: str
    tier: str
    region: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    cost: float = 0.0
    price: str = ""
    ttft: float = 0.0
    seconds: float = 0.0
    outcome: str = ""
    hedge: bool = False


class Account(msgspec.Struct):
    """What one request has cost so far: the attempts that were made for it. `router.ledger` keeps the books.

    `open` counts who may still add to it: the request itself and each attempt in progress. `service` is the class in
    which it was served.
    """

    attempts: list[Attempt] = []
    open: int = 1
    service: str = ""
    purpose: Purpose = Purpose.CLIENT


class Mode(StrEnum):
    """`EdgeCache-Mode`: how much of the cache a request wants."""

    DEFAULT = "default"
    CACHE = "cache"
    """Opt in to the exact tier for requests that sample too warmly to be cached by default."""
    BYPASS = "bypass"
    REFRESH = "refresh"
    READONLY = "readonly"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Controls:
    """What the client's headers say about caching (`Cache-Control` of RFC 9111 and the `EdgeCache-*` headers).

    Ages and lifetimes are in seconds. `max_stale` is `inf` when the directive carries no value. `immutable` (the word
    of RFC 8246) promises that what the request refers to by URL does not change.
    """

    mode: Mode = Mode.DEFAULT
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    immutable: bool = False
    max_age: float | None = None
    min_fresh: float | None = None
    max_stale: float | None = None
    ttl: float | None = None
    threshold: float | None = None
    namespace: str = ""
    tags: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """One validated request of a client, ready to be keyed, looked up and dispatched.

    `body` is the decoded JSON object, `raw` the bytes it came from, `headers` the few request headers that may travel
    upstream (`traceparent`, session affinity), in lower case. `client` is all the client sent, for functions only, by
    case-insensitive names. `inner` calls are made by a function: no function runs on them. `upstream` names the one
    that a function has chosen; empty = any that serves the model. `account` is where its attempts are booked; None =
    the dispatcher opens one.
    """

    request_id: str
    tenant: Tenant
    endpoint: Endpoint
    model: str
    body: Mapping[str, Any]
    raw: bytes
    stream: bool = False
    include_usage: bool = False
    controls: Controls = Controls()
    headers: Mapping[str, str] = {}
    client: Mapping[str, str] = {}
    inner: bool = False
    upstream: str = ""
    wishes: Wishes = Wishes()
    purpose: Purpose = Purpose.CLIENT
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Where an answer may be found. Only `cache.key` makes one.

    `scope` (16 bytes) covers all that may change the answer except the last user turn, tenant first; `digest`
    (32 bytes) covers the scope and that turn. `text` is the last user turn where it may be compared by meaning, None
    where only an identical request may hit. `max_tokens` is outside both hashes: see `cache.policy.usable`.
    """

    tenant: str
    namespace: str
    model: str
    scope: bytes
    digest: bytes
    text: str | None
    max_tokens: int | None = None


class Entry(msgspec.Struct, frozen=True):
    """A stored answer: the canonical OpenAI object as bytes and what is needed to judge it. `id` 0 = not yet stored.

    `created` and `expires` are Unix seconds. `finish_reason` is the one shared by all choices. `writer` names who asked
    the question that it answers, as `cache.admission` does: `KEY`, `KEY.USER`, `.USER` or empty. `held` says why the
    answer serves no other wordings although it has a `text`; empty where nothing holds it back.
    """

    tenant: str
    namespace: str
    model: str
    scope: bytes
    digest: bytes
    text: str | None
    endpoint: Endpoint
    body: bytes
    created: float
    expires: float
    finish_reason: str = "stop"
    max_tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tags: tuple[str, ...] = ()
    upstream: str = ""
    id: int = 0
    soft_purged: bool = False
    writer: str = ""
    held: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One result of a vector search: which entry, and its cosine similarity to the query."""

    entry_id: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question that may have the same answer, as the hit decision sees it."""

    entry_id: int
    similarity: float
    text: str


@dataclass(frozen=True, slots=True)
class GuardWord:
    """What one guard said of one candidate: its name, whether it lets the candidate pass, and why."""

    guard: str
    passed: bool
    detail: str = ""


class Judgement(msgspec.Struct, frozen=True):
    """What the hit decision holds of one candidate.

    `risk` is the probability, before any evidence of this POP, that its answer is wrong for the question; `logit` what
    the pair verifier said, None where it was not asked; `identical` says the words are the same. `words` are what tells
    the two questions apart: reasons for a reader, inputs of the score, never vetoes.
    """

    candidate: Candidate
    risk: float
    logit: float | None = None
    identical: bool = False
    words: tuple[GuardWord, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """The hit decision: the accepted candidate or None, the rule that decided, and what is held of each candidate.

    `judgements` are best first. `risk` is the probability of a wrong answer that the decision went by: that of the best
    candidate after the evidence, 1.0 without one. `limit` is the largest risk that may be served here and now.
    """

    accepted: Candidate | None
    rule: str
    reason: str
    judgements: tuple[Judgement, ...] = ()
    risk: float = 1.0
    limit: float = 0.0


class CacheStatus(StrEnum):
    """`x-edgecache-status` of a response."""

    HIT = "HIT"
    SEMANTIC_HIT = "SEMANTIC_HIT"
    MISS = "MISS"
    BYPASS = "BYPASS"
    STALE = "STALE"
    REFRESH = "REFRESH"


@dataclass(slots=True)
class CacheInfo:
    """How the cache handled a request, in the terms of RFC 9211 (`fwd`, `detail`, `ttl`, `collapsed`).

    `age` and `ttl` are whole seconds, `ttl` negative once stale. `score` is the probability that a semantic hit is
    right.
    """

    status: CacheStatus
    fwd: str | None = None
    detail: str | None = None
    entry_id: int | None = None
    similarity: float | None = None
    score: float | None = None
    age: int | None = None
    ttl: int | None = None
    collapsed: bool = False
    fwd_status: int | None = None


@dataclass(slots=True)
class Reply:
    """What goes back to the client: either `body` or, for a stream, `chunks`.

    `chunks` yields server-sent-event bytes; it raises `errors.UpstreamDied` when the upstream ended badly, after which
    the transport must be aborted. Whoever takes a Reply with `chunks` must `aclose()` them, also when the client left.
    """

    status: int
    cache: CacheInfo
    content_type: str = "application/json"
    body: bytes = b""
    chunks: AsyncIterator[bytes] | None = None
    upstream: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usage: Callable[[], tuple[int, int, int, bool] | None] | None = None
    """Prompt, generated and cached tokens of an upstream's answer, and whether they are estimated; once it ended."""
