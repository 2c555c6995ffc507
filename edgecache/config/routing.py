"""The broker's settings: the upstreams there are, what each class of service is promised, which model means what."""

from typing import Annotated, Literal

from msgspec import Meta

from edgecache.config.section import Amount, Bytes, Count, Positive, Rate, Ratio, Seconds, Section, Whole
from edgecache.config.section import doc as _doc
from edgecache.types import ServiceClass, Tier

Feature = Literal["tools", "json_object", "json_schema", "vision", "audio", "logprobs"]


class Price(Section, frozen=True):
    """What tokens cost. USD per million tokens, as price lists have it."""

    input: Annotated[Amount, _doc("USD per million prompt tokens")] = 0.0
    output: Annotated[Amount, _doc("USD per million generated tokens")] = 0.0
    cached: Annotated[
        Amount | None, _doc("USD per million prompt tokens that the upstream had in its KV cache; unset = `input`")
    ] = None
    version: Annotated[str, _doc("name of the price list, kept with every ledger record")] = ""


class UpstreamModel(Section, frozen=True):
    """What is different about one model of an upstream; what is left out is the upstream's."""

    name: Annotated[str, Meta(min_length=1), _doc("as the upstream calls it")]
    context: Annotated[Whole | None, _doc("as `upstream.context`")] = None
    features: Annotated[tuple[Feature, ...] | None, _doc("as `upstream.features`")] = None
    price: Annotated[Price | None, _doc("as `upstream.price`")] = None
    tokenizer: Annotated[
        str | None, _doc("its `tokenizer.json`, to count tokens with; unset = bytes, by a learned ratio")
    ] = None


class Upstream(Section, frozen=True):
    """One endpoint that answers misses: a cluster, a server at this edge, or a neighbour POP."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$"), _doc("as in `x-edgecache-upstream`")]
    url: Annotated[str, Meta(pattern=r"^https?://"), _doc("base URL without `/v1`")]
    dialect: Annotated[
        Literal["openai", "trtllm", "dynamo", "vllm", "edgecache"],
        _doc("what the server understands; `edgecache` = a neighbour POP"),
    ] = "openai"
    tier: Annotated[Tier, _doc("where it stands: here, at a neighbour POP, in the region, in the core")] = Tier.CORE
    models: Annotated[tuple[str, ...], _doc("models it serves; empty = asked from its `/v1/models`")] = ()
    model: Annotated[tuple[UpstreamModel, ...], _doc("models that differ from the rest, in price for one")] = ()
    api_key: Annotated[str | None, _doc("bearer token for this upstream only (secret)")] = None
    region: Annotated[str, _doc("where it stands, for people and reports")] = ""
    jurisdiction: Annotated[
        str, _doc("whose law it is under, as in `auth.tenant.residency`; empty = none that a residency allows")
    ] = ""
    context: Annotated[Whole, _doc("longest prompt and answer together, tokens; 0 = not known, any is tried")] = 0
    features: Annotated[
        tuple[Feature, ...] | None, _doc("what its models can do beyond text; unset = not known, all is tried")
    ] = None
    loras: Annotated[tuple[str, ...], _doc("LoRA adapters it has loaded (`lora_request` of TensorRT-LLM)")] = ()
    gpu: Annotated[str, _doc("class of its GPUs, such as `H100`; empty = not told")] = ""
    gpu_memory: Annotated[Whole, _doc("GB of GPU memory of one replica; 0 = not told")] = 0
    price: Annotated[Price, _doc("what tokens cost there")] = Price()
    max_concurrency: Annotated[Whole, _doc("requests in progress that it takes from this POP; 0 = no limit")] = 0
    tokens_per_minute: Annotated[Whole, _doc("tokens a minute that it takes from this POP; 0 = no limit")] = 0
    priority: Annotated[
        bool, _doc("tell it the service class as its own `priority`; only where its scheduler has been set to use it")
    ] = False
    load: Annotated[
        Literal["none", "prometheus", "trtllm_json"],
        _doc(
            "how its load is read: `prometheus` metrics, or the draining JSON `/metrics` of trtllm-serve, only where "
            "nobody else reads it"
        ),
    ] = "none"
    load_url: Annotated[str | None, _doc("where its load is read; unset = as the dialect has it")] = None
    connect_timeout: Annotated[Seconds, _doc("s to connect")] = 2.0
    first_byte_timeout: Annotated[Seconds, _doc("s to the first response byte; of a stream, to the first token")] = 60.0
    idle_timeout: Annotated[Seconds, _doc("s between two response bytes; in a stream, after the first token")] = 30.0
    keepalive: Annotated[Seconds, _doc("s an idle connection is kept; below the server's own (uvicorn: 5)")] = 4.0
    max_response_bytes: Annotated[Bytes, _doc("largest answer read from it")] = 64 * 1024 * 1024


class ServiceLevel(Section, frozen=True):
    """What one class of service is promised, and what it may take. Timeouts of an upstream hold too."""

    ttft: Annotated[Positive, _doc("s to the first token that are aimed at")] = 5.0
    probability: Annotated[Rate, _doc("with which probability")] = 0.9
    connect_timeout: Annotated[Positive, _doc("s to connect, before the next upstream is tried")] = 2.0
    first_token_timeout: Annotated[Positive, _doc("s to the first token of a stream, before the next is tried")] = 60.0
    inter_token_timeout: Annotated[Positive, _doc("s between two tokens, before the stream counts as dead")] = 30.0
    deadline: Annotated[Positive, _doc("s to the end of the answer; a client can only shorten it")] = 600.0
    queue: Annotated[Whole, _doc("requests that may wait for an upstream; more are refused")] = 512
    share: Annotated[
        Ratio,
        _doc("sent only while less than this share of `max_concurrency` is in use: the rest is for better classes"),
    ] = 0.9
    hedge: Annotated[bool, _doc("ask a second upstream where the first is later than it was predicted to be")] = False


class ServiceLevels(Section, frozen=True):
    """The classes of service, best first."""

    realtime: Annotated[ServiceLevel, _doc("a person or a game waits for the first word")] = ServiceLevel(
        ttft=0.3,
        probability=0.95,
        connect_timeout=0.5,
        first_token_timeout=5.0,
        inter_token_timeout=5.0,
        deadline=30.0,
        queue=64,
        share=1.0,
        hedge=True,
    )
    interactive: Annotated[ServiceLevel, _doc("a person reads along")] = ServiceLevel(
        ttft=1.0,
        connect_timeout=1.0,
        first_token_timeout=20.0,
        inter_token_timeout=20.0,
        deadline=300.0,
        queue=256,
        share=0.95,
        hedge=True,
    )
    standard: Annotated[ServiceLevel, _doc("what nobody has classed")] = ServiceLevel()
    batch: Annotated[ServiceLevel, _doc("nobody waits; first to be refused")] = ServiceLevel(
        ttft=60.0,
        probability=0.5,
        first_token_timeout=600.0,
        inter_token_timeout=120.0,
        deadline=3600.0,
        queue=1024,
        share=0.7,
    )


class RouteTarget(Section, frozen=True):
    """A model that answers for the one that was asked for."""

    model: Annotated[str, Meta(min_length=1), _doc("as upstreams call it")]
    weight: Annotated[Positive, _doc("share of requests; the same question always has the same target")] = 1.0


class SmallModel(Section, frozen=True):
    """A smaller model that answers where it will probably do. A hint, not a promise: see docs/routing.md."""

    model: Annotated[str, Meta(min_length=1), _doc("the small model, as upstreams call it")]
    probability: Annotated[
        Rate, _doc("least probability that its answer will do; the shipped estimate says 0.83 at most")
    ] = 0.8
    sample: Annotated[Ratio, _doc("share of its answers that are compared with one of the model asked for")] = 0.02


class Mirror(Section, frozen=True):
    """A model that is asked too, whose answers nobody gets: they are compared with those that were given."""

    model: Annotated[str, Meta(min_length=1), _doc("the new model, as upstreams call it")]
    sample: Annotated[Ratio, _doc("share of requests")] = 0.01


class Route(Section, frozen=True):
    """What a model name means: an alias, a canary, a split, what stands in for it. The first that matches holds."""

    model: Annotated[str, Meta(min_length=1), _doc("the name that clients ask for")]
    tenant: Annotated[str | None, _doc("requests of this tenant; unset = any")] = None
    target: Annotated[tuple[RouteTarget, ...], _doc("models that answer, by weight; empty = the model itself")] = ()
    fallback: Annotated[
        tuple[str, ...], _doc("models tried in this order where no upstream of the target can; not kept in the cache")
    ] = ()
    small: Annotated[SmallModel | None, _doc("a smaller model for what is easy enough")] = None
    mirror: Annotated[Mirror | None, _doc("a new model that is asked for comparison")] = None
    gpu: Annotated[str, _doc("only upstreams of this `upstream.gpu` answer; empty = any")] = ""
    gpu_memory: Annotated[Whole, _doc("only upstreams that tell of so many GB of GPU memory answer; 0 = any")] = 0


class Hedging(Section, frozen=True):
    """Second requests, and how many there may be."""

    ratio: Annotated[Ratio, _doc("hedges per request, most; 0 = none")] = 0.05
    retries: Annotated[Ratio, _doc("further attempts per request, most, apart from hedges")] = 0.2
    burst: Annotated[Count, _doc("further attempts that are always allowed in ten seconds")] = 10


class Ejection(Section, frozen=True):
    """When an upstream is left out, and how it comes back (circuit breaker, outlier ejection)."""

    failures: Annotated[Count, _doc("failures in a row")] = 5
    error_rate: Annotated[Ratio, _doc("share of failed requests in the last 30 s, from 20 requests on")] = 0.5
    base: Annotated[Positive, _doc("s out, doubled each time up to `longest`")] = 5.0
    longest: Annotated[Positive, _doc("s out, most")] = 300.0
    ramp: Annotated[Positive, _doc("s until one that came back gets its full share")] = 30.0
    most: Annotated[
        Ratio, _doc("share of the upstreams of a model that may be out; with more failing all are tried")
    ] = 0.5


class Ledger(Section, frozen=True):
    """The record of every request and what it cost."""

    enabled: Annotated[bool, _doc("keep the ledger; budgets need it")] = True
    flush: Annotated[Positive, _doc("s of records that a crash of the machine may lose")] = 0.2
    keep: Annotated[Positive, _doc("days that records are kept")] = 90.0
    max_bytes: Annotated[Bytes, _doc("size of the ledger's file, most; the oldest records go first")] = 2 * 1024**3


class Router(Section, frozen=True):
    """The broker: which upstream gets a miss."""

    service_class: Annotated[ServiceClass, _doc("class of tenants and keys that name none")] = ServiceClass.STANDARD
    residency: Annotated[
        tuple[str, ...], _doc("jurisdictions that prompts of tenants that name none may be processed in; empty = any")
    ] = ()
    classes: Annotated[ServiceLevels, _doc("what each class of service is promised")] = ServiceLevels()
    route: Annotated[tuple[Route, ...], _doc("what model names mean")] = ()
    hedging: Annotated[Hedging, _doc("second requests")] = Hedging()
    ejection: Annotated[Ejection, _doc("circuit breaking")] = Ejection()
    ledger: Annotated[Ledger, _doc("the usage ledger")] = Ledger()
    discovery: Annotated[
        str | None,
        _doc("JSON file with a list of upstreams, read again when it changes, added to those of `[[upstream]]`"),
    ] = None
    probe_interval: Annotated[Positive, _doc("s between two looks at an upstream: round trip, health, load")] = 5.0
    near: Annotated[Ratio, _doc("offers whose cost, else time, is so little worse count as equals, and share")] = 0.1
    max_waiting: Annotated[Count, _doc("requests of all classes that may wait for an upstream")] = 2048
    explain: Annotated[bool, _doc("say in `x-edgecache-route` why an upstream was chosen")] = True
