"""The settings themselves, with meaning, unit, default and bounds of each. `docs/config.md` is checked against this.

The larger sections have modules of their own: who may do what in `access`, the broker in `routing`.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from edgecache.config.access import Auth
from edgecache.config.routing import Router, Upstream
from edgecache.config.section import Bytes, Count, Positive, Rate, Ratio, Seconds, Section, Whole
from edgecache.config.section import doc as _doc


class Server(Section, frozen=True):
    """Where the POP listens and keeps its data."""

    listen: Annotated[str, _doc("host:port of the public API")] = "127.0.0.1:8080"
    data: Annotated[str, _doc("folder of the store and the index snapshot")] = "data"
    pop: Annotated[str, _doc("name of this POP, as in `x-edgecache-pop`")] = "local"
    drain_timeout: Annotated[Seconds, _doc("s that running requests get to finish after SIGTERM")] = 30.0
    drain_delay: Annotated[Seconds, _doc("s between `/readyz` turning 503 and the listener closing")] = 0.0
    server_timing: Annotated[bool, _doc("send `Server-Timing` by stage")] = True


class AdminDeveloper(Section, frozen=True):
    """Somebody who may upload and watch the functions of one tenant, and nothing else."""

    tenant: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$"), _doc("whose functions")]
    tokens: Annotated[tuple[str, ...], _doc("bearer tokens, or their digests as `edgecache keys` prints them (secret)")]


class Admin(Section, frozen=True):
    """The admin API: its own listener, loopback by default."""

    listen: Annotated[str, _doc("host:port of the admin API")] = "127.0.0.1:8081"
    token: Annotated[str | None, _doc("bearer token that admin calls must carry; unset = none needed (secret)")] = None
    developer: Annotated[
        tuple[AdminDeveloper, ...], _doc("who may manage the functions of one tenant; needs `admin.token`")
    ] = ()


class Limits(Section, frozen=True):
    """What one client may take."""

    header_timeout: Annotated[Positive, _doc("s to send the whole request head")] = 10.0
    body_timeout: Annotated[Positive, _doc("s to send the body, before `body_min_rate` is taken into account")] = 30.0
    body_min_rate: Annotated[Bytes, _doc("bytes/s that extend `body_timeout` for large bodies")] = 1024
    idle_timeout: Annotated[Positive, _doc("s an idle keep-alive connection stays open")] = 75.0
    write_timeout: Annotated[Positive, _doc("s a client may leave response bytes unread")] = 30.0
    max_body_bytes: Annotated[Bytes, _doc("largest request body")] = 10 * 1024 * 1024
    max_header_bytes: Annotated[Bytes, _doc("largest request line and header section together")] = 65536
    max_json_depth: Annotated[Count, _doc("deepest nesting of a request body")] = 64
    max_messages: Annotated[Count, _doc("most messages in one conversation")] = 2048
    max_connections: Annotated[Count, _doc("most open client connections")] = 10_000
    max_inflight: Annotated[Count, _doc("most requests in progress; more are answered 503")] = 2048
    allowed_hosts: Annotated[tuple[str, ...], _doc("names accepted in `Host`; empty = any well-formed one")] = ()


PolicyName: TypeAlias = Literal["budget", "verified", "threshold", "similarity"]


class HitPolicy(Section, frozen=True):
    """When an answer to another wording is served. Wrong-hit rates are wrong answers per request served."""

    policy: Annotated[
        PolicyName,
        _doc(
            "`budget`: as many hits as keep wrong answers under `budget`; `verified`: vCache (arXiv 2502.03771) under "
            "`delta`; `threshold`: a fixed score; `similarity`: a fixed cosine, as other caches have it, no verifier"
        ),
    ] = "budget"
    budget: Annotated[Rate, _doc("`budget`: most wrong answers per request served")] = 0.005
    delta: Annotated[Rate, _doc("`verified`: most wrong answers per request served")] = 0.01
    threshold: Annotated[Ratio, _doc("`threshold`: least probability that the stored answer is right")] = 0.98
    similarity: Annotated[Ratio, _doc("`similarity`: least cosine similarity")] = 0.95
    floor: Annotated[
        Ratio, _doc("least cosine similarity under every policy; a caller can only raise it (`EdgeCache-Threshold`)")
    ] = 0.6
    mode: Annotated[
        Literal["serve", "shadow"],
        _doc(
            "`shadow`: every answer that the semantic tier would give comes from upstream, and only the report is kept"
        ),
    ] = "serve"
    contextual: Annotated[
        bool, _doc("compare follow-ups together with the turns they depend on; off = history must match exactly")
    ] = False


class ScopePolicy(Section, frozen=True):
    """Another hit policy for some requests. The first that matches holds; what it leaves out is inherited."""

    tenant: Annotated[str | None, _doc("requests of this tenant; unset = any")] = None
    namespace: Annotated[str | None, _doc("requests of this namespace; unset = any")] = None
    model: Annotated[str | None, _doc("requests for this model; unset = any")] = None
    policy: Annotated[PolicyName | None, _doc("as `cache.semantic.policy`")] = None
    budget: Annotated[Rate | None, _doc("as `cache.semantic.budget`")] = None
    delta: Annotated[Rate | None, _doc("as `cache.semantic.delta`")] = None
    threshold: Annotated[Ratio | None, _doc("as `cache.semantic.threshold`")] = None
    similarity: Annotated[Ratio | None, _doc("as `cache.semantic.similarity`")] = None
    floor: Annotated[Ratio | None, _doc("as `cache.semantic.floor`")] = None
    mode: Annotated[Literal["serve", "shadow"] | None, _doc("as `cache.semantic.mode`")] = None
    contextual: Annotated[bool | None, _doc("as `cache.semantic.contextual`")] = None


class Semantic(HitPolicy, frozen=True):
    """The semantic tier: answers to other wordings of the same question."""

    enabled: Annotated[bool, _doc("look up by meaning after the exact tier")] = True
    neighbours: Annotated[int, Meta(ge=1, le=64), _doc("candidates judged per lookup")] = 8
    max_turns: Annotated[Count, _doc("most user turns of a conversation that may hit by meaning")] = 4
    tools: Annotated[bool, _doc("also for requests that offer tools")] = False
    time_sensitive: Annotated[bool, _doc("also for questions about now, today, the latest, prices")] = False
    max_prompt_tokens: Annotated[Count, _doc("prompts of this many tokens or more (estimated) only hit exactly")] = 8192
    scope: Annotated[tuple[ScopePolicy, ...], _doc("other hit policies for some tenants, namespaces or models")] = ()


class Learning(Section, frozen=True):
    """How a POP finds out whether its semantic hits were right."""

    misses: Annotated[
        bool,
        _doc("compare the answer to a miss with the stored answer of its nearest candidate: costs no upstream request"),
    ] = True
    sample: Annotated[Ratio, _doc("share of semantic hits that are answered upstream too, in the background")] = 0.05
    max_inflight: Annotated[Count, _doc("background answers at once; more are left out")] = 4
    agree: Annotated[Ratio, _doc("two answers this similar (cosine) say the same")] = 0.9
    differ: Annotated[
        Ratio, _doc("two answers less similar than this say something else; between, the judge decides")
    ] = 0.7
    judge: Annotated[
        str | None, _doc("model asked whether two answers that are neither say the same; unset = they teach nothing")
    ] = None
    feedback_window: Annotated[Positive, _doc("s in which `POST /v1/feedback` knows a request by its id")] = 86_400.0


class Admission(Section, frozen=True):
    """Who may fill the semantic tier with what: defences against poisoned answers."""

    writer: Annotated[
        Literal["key", "end_user"],
        _doc(
            "who counts as one writer: an API key, or each end user of it (`safety_identifier`, `user`), which clients "
            "can make up; without keys always the end user"
        ),
    ] = "key"
    second_sighting: Annotated[
        bool, _doc("an answer serves other wordings only once its question was asked by a second writer")
    ] = False
    max_entries_per_writer: Annotated[
        Bytes, _doc("entries of one writer that may serve other wordings; 0 = no limit")
    ] = 0
    max_fills_per_minute: Annotated[
        Bytes, _doc("answers one writer may add to the semantic tier in a minute; 0 = no limit")
    ] = 0


class Cache(Section, frozen=True):
    """What is cached and for how long."""

    enabled: Annotated[bool, _doc("off = every request goes upstream")] = True
    scope: Annotated[Literal["tenant", "end_user"], _doc("`end_user` adds `user` / `safety_identifier` to the key")] = (
        "tenant"
    )
    pii: Annotated[
        Literal["cache", "exact", "end_user", "bypass"],
        _doc(
            "questions that seem to hold personal data: cached like others, hit exactly only, kept apart by end user "
            "(`user` / `safety_identifier`, without one bypassed), or bypassed"
        ),
    ] = "exact"
    ttl: Annotated[Seconds, _doc("s an answer stays fresh; a caller can only shorten it")] = 86_400.0
    ttl_jitter: Annotated[
        Ratio, _doc("share of the TTL taken off at random, so that entries do not expire at once")
    ] = 0.1
    ttl_time_sensitive: Annotated[Seconds, _doc("TTL of answers to time-sensitive questions, s")] = 300.0
    stale_if_error: Annotated[Seconds, _doc("s past expiry that an answer may serve while the upstream is down")] = (
        3600.0
    )
    stale_while_revalidate: Annotated[Seconds, _doc("s past expiry that an answer may serve while renewed")] = 60.0
    negative_ttl: Annotated[Seconds, _doc("s that an upstream's 400, 404, 413 or 422 answers the same request")] = 2.0
    max_temperature: Annotated[float, Meta(ge=0, le=2), _doc("warmer requests are not cached unless asked")] = 0.3
    omitted_temperature: Annotated[Literal["cache", "bypass"], _doc("what a request without temperature means")] = (
        "cache"
    )
    tool_calls: Annotated[bool, _doc("store answers that call tools (exact tier only)")] = False
    max_entry_bytes: Annotated[Bytes, _doc("largest answer that is stored")] = 1024 * 1024
    max_stream_bytes: Annotated[Bytes, _doc("bytes of a stream kept for its copy; longer ones are not stored")] = (
        16 * 1024 * 1024
    )
    coalesce: Annotated[bool, _doc("identical concurrent misses share one upstream request")] = True
    semantic: Annotated[Semantic, _doc("the semantic tier")] = Semantic()
    learning: Annotated[Learning, _doc("evidence on semantic hits")] = Learning()
    admission: Annotated[Admission, _doc("defences against poisoning")] = Admission()


class Store(Section, frozen=True):
    """LMDB and the vector index."""

    max_bytes: Annotated[Bytes, _doc("hard budget of the store file; entries are evicted to keep it")] = 4 * 1024**3
    initial_map_bytes: Annotated[Bytes, _doc("first size of the LMDB map; grows up to `max_bytes`")] = 256 * 1024**2
    sync: Annotated[bool, _doc("fsync each commit; off survives a crash of the process but not of the machine")] = True
    snapshot_interval: Annotated[Seconds, _doc("s between snapshots of the vector index; 0 = only at stop")] = 300.0
    sweep_interval: Annotated[Seconds, _doc("s between sweeps of expired and purged entries")] = 30.0
    flat_max: Annotated[Count, _doc("vectors a scope keeps in the exact index before it takes sign codes")] = 4096
    binary_ivf_min: Annotated[Count, _doc("vectors from which a scope's sign codes get inverted lists")] = 500_000


class Embed(Section, frozen=True):
    """The embedder of the semantic tier and of `/v1/embeddings`."""

    model: Annotated[str, _doc("name in models/manifest.toml, or `hashing` (no torch, identical words only)")] = (
        "all-MiniLM-L6-v2"
    )
    path: Annotated[str | None, _doc("local folder of the weights; unset = as the manifest says")] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], _doc("`auto`: CUDA where there is one")] = "auto"
    deadline: Annotated[Seconds, _doc("s a request waits for its vector before it goes on as a miss")] = 0.05
    queue: Annotated[Count, _doc("texts that may wait; more are misses at once")] = 512
    max_batch_tokens: Annotated[Count, _doc("tokens, padding included, embedded in one forward pass")] = 8192
    threads: Annotated[Count, _doc("torch threads of the CPU engine")] = 1
    verifier: Annotated[
        str | None, _doc("folder of the pair verifier; unset = the one in models/, empty = none: only equal words hit")
    ] = None


class Functions(Section, frozen=True):
    """WebAssembly functions that developers upload: what all of them together, and each at most, may take."""

    enabled: Annotated[bool, _doc("run functions; off = uploads are refused and none runs")] = True
    threads: Annotated[Count, _doc("functions that run at once beside the event loop; more wait")] = 4
    instances: Annotated[Count, _doc("sandboxes alive at once, per POP (pooling allocator)")] = 64
    tick: Annotated[Positive, _doc("s of an epoch, in which the CPU time of functions is counted out")] = 0.001
    inline: Annotated[
        Seconds, _doc("a function whose p99 is below so many s, and that never waits, runs on the event loop; 0 = none")
    ] = 0.0002
    isolation: Annotated[
        Literal["thread", "process"],
        _doc("`process`: every function runs in a worker process; else only those whose manifest asks for it"),
    ] = "thread"
    untrusted: Annotated[tuple[str, ...], _doc("tenants whose functions always run in a worker process")] = ()
    max_cpu: Annotated[Positive, _doc("most s in the sandbox a manifest may ask for")] = 1.0
    max_wall: Annotated[Positive, _doc("most s in all, host calls included")] = 30.0
    max_memory: Annotated[Bytes, _doc("most bytes of memory per call")] = 128 * 1024 * 1024
    max_host_calls: Annotated[Count, _doc("most host calls per call")] = 1000
    max_host_bytes: Annotated[Bytes, _doc("most bytes through the host calls of one call")] = 32 * 1024 * 1024
    max_artefact_bytes: Annotated[Bytes, _doc("largest upload")] = 50 * 1024 * 1024
    compile_cpu: Annotated[Count, _doc("CPU s that compiling one upload may take")] = 120
    compile_memory: Annotated[Bytes, _doc("bytes of memory that compiling one upload may take")] = 6 * 1024**3
    max_response_bytes: Annotated[Bytes, _doc("largest answer of a function")] = 10 * 1024 * 1024
    versions: Annotated[Count, _doc("versions of one function that are kept")] = 20
    signatures: Annotated[
        Literal["off", "required"], _doc("`required`: uploads carry an Ed25519 signature of `trusted`")
    ] = "off"
    trusted: Annotated[tuple[str, ...], _doc("Ed25519 public keys (32 bytes, base64) whose uploads are taken")] = ()
    fetch: Annotated[bool, _doc("let functions reach the hosts that their manifests list")] = False
    private: Annotated[
        tuple[str, ...], _doc("private networks (CIDR) that `fetch` may reach all the same; empty = none")
    ] = ()
    kv_bytes: Annotated[Bytes, _doc("bytes of key-value data per function")] = 64 * 1024 * 1024
    kv_keys: Annotated[Count, _doc("keys per function")] = 100_000
    log_lines: Annotated[Count, _doc("log lines kept per function")] = 1000
    canary_calls: Annotated[Count, _doc("calls of a canary before it is compared with the stable version")] = 50
    canary_margin: Annotated[
        Ratio, _doc("how much larger than the stable version's a canary's rate of failed calls may be")
    ] = 0.02


class FakeMetrics(Section, frozen=True):
    """What the embedded core claims of its load in its metrics, in place of the truth. Unset = the truth."""

    running_requests: Annotated[Whole | None, _doc("requests in progress")] = None
    waiting_requests: Annotated[Whole | None, _doc("requests in line")] = None
    kv_cache_usage: Annotated[Ratio | None, _doc("share of the KV cache in use")] = None


class Core(Section, frozen=True):
    """The embedded core, used when no upstream is configured: a scripted cluster. Names as in llm-d-inference-sim."""

    dialect: Annotated[Literal["openai", "trtllm", "dynamo", "vllm"], _doc("whose wire habits it shows")] = "trtllm"
    models: Annotated[tuple[str, ...], _doc("served model names")] = ("edge-test",)
    loras: Annotated[
        tuple[str, ...], _doc("LoRA adapters it has loaded: models of their own, for trtllm names in `lora_request`")
    ] = ()
    time_to_first_token: Annotated[Seconds, _doc("s, apart from `prefill_time_per_token`")] = 0.05
    time_to_first_token_std_dev: Annotated[Seconds, _doc("s, at most 30 % of the mean")] = 0.0
    prefill_time_per_token: Annotated[
        Seconds, _doc("s to the first token for each prompt token that is not in the prefix cache")
    ] = 0.0
    inter_token_latency: Annotated[Seconds, _doc("s")] = 0.005
    inter_token_latency_std_dev: Annotated[Seconds, _doc("s, at most 30 % of the mean")] = 0.0
    time_factor: Annotated[Positive, _doc("all delays times this; 10 = a server that has become ten times slower")] = (
        1.0
    )
    time_factor_under_load: Annotated[
        float, Meta(ge=1), _doc("delays times this with `max_num_seqs` requests in progress, less with fewer")
    ] = 1.0
    max_num_seqs: Annotated[Count, _doc("requests generated at once; more wait in the queue")] = 64
    max_waiting_queue_length: Annotated[Count, _doc("requests that may wait; more are refused (429, Dynamo 529)")] = (
        1024
    )
    max_model_len: Annotated[Count, _doc("context window, tokens")] = 32768
    failure_injection_rate: Annotated[Ratio, _doc("share of requests that fail")] = 0.0
    failure_types: Annotated[
        tuple[
            Literal[
                "rate_limit",
                "server_error",
                "overloaded",
                "empty_404",
                "null_body",
                "hang",
                "silent",
                "stall",
                "cut",
                "error_event",
            ],
            ...,
        ],
        _doc(
            "which failures are injected; `hang`: not a byte, `silent`: only the head, `stall`: nothing more from "
            "`failure_position` on, `empty_404`: as Dynamo whose workers are gone"
        ),
    ] = ("server_error",)
    failure_position: Annotated[
        Whole | None, _doc("tokens that a stream says before it stalls, is cut or ends in an error; unset = half of it")
    ] = None
    retry_after: Annotated[Whole, _doc("s that answers 429 and 503 ask to wait for; 0 = they do not say")] = 1
    fake_metrics: Annotated[FakeMetrics, _doc("lies about its load")] = FakeMetrics()
    seed: Annotated[int, _doc("of delays, lengths and failures")] = 0


class Log(Section, frozen=True):
    """What is written to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], _doc("least severity")] = "info"
    access: Annotated[bool, _doc("one JSON line a request, without prompts")] = True


class Config(Section, frozen=True):
    """The whole tree."""

    server: Server = Server()
    admin: Admin = Admin()
    limits: Limits = Limits()
    auth: Auth = Auth()
    cache: Cache = Cache()
    store: Store = Store()
    embed: Embed = Embed()
    functions: Functions = Functions()
    upstream: tuple[Upstream, ...] = ()
    core: Core = Core()
    router: Router = Router()
    log: Log = Log()
