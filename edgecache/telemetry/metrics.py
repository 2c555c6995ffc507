"""Every metric, declared once. `docs/metrics.md` is checked against this module.

Parts take a `Metrics` and use its attributes. Label values come from small closed sets (endpoints, stages, configured
models and upstreams), so that cardinality is bounded whatever clients send.
"""

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence
from typing import Any

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from edgecache import __version__

_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
_STAGE = (0.00001, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 10, 60)
_RATE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SIMILARITY = tuple(round(0.5 + 0.025 * i, 3) for i in range(21))


class Metrics:
    """The metrics of one daemon, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self.registry.register(collector)
        self._requests()
        self._cache()
        self._engines()
        self._functions()
        self._routing()
        self._usage()
        self._process()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter("edgecache_" + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge("edgecache_" + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram("edgecache_" + name, text, labels, buckets=buckets, registry=self.registry)

    def _requests(self) -> None:
        self.requests = self._counter("requests", "Requests answered.", "endpoint", "model", "code", "cache")
        self.request_duration = self._histogram(
            "request_duration_seconds", "From the whole request head to the last byte.", _LATENCY, "endpoint", "cache"
        )
        self.ttft = self._histogram("ttft_seconds", "To the first byte of the answer.", _LATENCY, "endpoint", "cache")
        self.stage_duration = self._histogram("stage_duration_seconds", "Time by stage.", _STAGE, "stage")
        self.slow_clients = self._counter("slow_clients_reaped", "Connections closed for slowness.", "phase")
        self.connections = self._gauge("connections", "Open client connections.")
        self.connections_refused = self._counter("connections_refused", "Connections closed: too many.")
        self.inflight = self._gauge("inflight_requests", "Requests in progress.")

    def _cache(self) -> None:
        self.lookups = self._counter("cache_lookups", "Cache lookups by result and reason.", "result", "reason")
        self.similarity = self._histogram("cache_similarity", "Similarity of the nearest candidate.", _SIMILARITY)
        self.entries = self._gauge("cache_entries", "Answers stored.")
        self.bytes = self._gauge("cache_bytes", "Bytes in use by the store.")
        self.evictions = self._counter("cache_evictions", "Entries removed.", "reason")
        self.fills = self._counter("cache_fills", "Answers offered to the store, by result.", "result")
        self.tokens_saved = self._counter("tokens_saved", "Tokens that hits did not generate.", "type")
        self.comparisons = self._counter(
            "comparisons", "Stored answers compared with new ones, by what became of it.", "source", "outcome"
        )
        self.feedback = self._counter("feedback", "Verdicts on answers, by verdict.", "verdict")
        self.labels = self._counter("labels", "Pairs found right or wrong, by how.", "source", "result")
        self.wrong_hit_rate = self._gauge("wrong_hit_rate", "Estimated wrong answers per request served.", "bound")
        self.segment_wrong_hit_rate = self._gauge(
            "segment_wrong_hit_rate", "The same by tenant and model.", "tenant", "model", "bound"
        )
        self.collapsed = self._counter("collapsed_requests", "Requests that shared another's upstream answer.")

    def _engines(self) -> None:
        self.cache_side_errors = self._counter("cache_side_errors", "Failures treated as a miss.", "step")
        self.map_used = self._gauge("lmdb_map_used_ratio", "Share of the LMDB map in use.")
        self.index_vectors = self._gauge("index_vectors", "Vectors in the index.")
        self.index_drift = self._gauge("index_drift", "Vectors stored minus vectors indexed; must be 0 when idle.")
        self.embed_batch = self._histogram("embed_batch_size", "Texts per forward pass.", (1, 2, 4, 8, 16, 32, 64, 128))
        self.embed_pass = self._histogram("embed_pass_seconds", "One forward pass of the embedder.", _STAGE)
        self.embed_queue = self._gauge("embed_queue", "Texts waiting for a vector.")
        self.verify_batch = self._histogram("verify_batch_size", "Pairs per forward pass.", (1, 2, 4, 8, 16, 32, 64))
        self.verify_pass = self._histogram("verify_pass_seconds", "One forward pass of the pair verifier.", _STAGE)
        self.verify_queue = self._gauge("verify_queue", "Pairs waiting for the pair verifier.")
        self.upstream_requests = self._counter("upstream_requests", "Requests sent upstream.", "cluster", "code")
        self.upstream_inflight = self._gauge("upstream_inflight", "Upstream requests in progress.", "cluster")
        self.in_flight = Tally[str]()  # by upstream: read by its gauge, kept by all clients it had (`UpstreamClient`)

    def _functions(self) -> None:
        who = ("tenant", "function")
        self.function_calls = self._counter("function_calls", "Calls of functions.", *who, "phase", "outcome")
        self.function_duration = self._histogram(
            "function_duration_seconds", "One call, host calls included.", _STAGE, *who
        )
        self.function_host_calls = self._counter("function_host_calls", "Calls to the host.", *who, "op", "result")
        self.function_tokens = self._counter("function_tokens", "Tokens of `llm` calls.", *who, "type")
        self.function_memory = self._gauge("function_memory_bytes", "Linear memory of the latest call.", *who)
        self.function_code = self._gauge("function_code_bytes", "Machine code of the loaded versions.", *who)
        self.function_instances = self._gauge("function_instances", "Sandboxes alive.")
        self.function_deploys = self._counter(
            "function_deploys", "Uploads and changes of versions.", "action", "result"
        )

    def _routing(self) -> None:
        self.upstream_attempts = self._counter(
            "upstream_attempts", "Requests sent upstream, by how they ended.", "cluster", "tier", "outcome"
        )
        self.upstream_ttft = self._histogram(
            "upstream_ttft_seconds", "From sending a request upstream to its first token.", _LATENCY, "cluster", "tier"
        )
        self.upstream_output_rate = self._histogram(
            "upstream_output_tokens_per_second", "Generated tokens a second after the first.", _RATE, "cluster", "tier"
        )
        self.upstream_out = self._gauge("upstream_out", "1 while the upstream is left out (ejected).", "cluster")
        self.upstream_ejections = self._counter("upstream_ejections", "Times it was left out.", "cluster", "reason")
        self.upstream_rtt = self._gauge("upstream_rtt_seconds", "Round trip to the upstream.", "cluster")
        self.upstream_queued = self._gauge("upstream_queued", "Requests waiting there, as it says.", "cluster")
        self.upstream_kv = self._gauge("upstream_kv_usage_ratio", "Share of its KV cache in use.", "cluster")
        self.upstream_probes = self._counter("upstream_probes", "Looks at an upstream.", "cluster", "kind", "result")
        self.routed = self._counter("routed_requests", "Misses by tier, class and why.", "tier", "service_class", "why")
        self.route_refusals = self._counter("route_refusals", "Misses that no upstream could take.", "reason")
        self.residency_violations = self._counter(
            "residency_violations", "Prompts about to leave where they may be processed, and stopped; must be 0."
        )
        self.choice_duration = self._histogram("choice_seconds", "Choosing an upstream.", _STAGE)
        self.ttft_prediction = self._histogram(
            "ttft_prediction_ratio", "Time to first token by its prediction.", (0.1, 0.25, 0.5, 0.8, 1, 1.25, 2, 4, 10)
        )
        self.hedges = self._counter("hedges", "Second requests: won, lost, or denied by the budget.", "result")
        self.retries = self._counter("retries", "Further attempts after a failure, by what it was.", "result", "after")
        self.continuations = self._counter("continuations", "Streams that died and were to be continued.", "result")
        self.waiting = self._gauge("waiting_requests", "Requests that wait for an upstream.", "service_class")
        self.wait_duration = self._histogram("wait_seconds", "Waiting for an upstream.", _LATENCY, "service_class")
        self.shed = self._counter("shed_requests", "Requests refused by the broker.", "service_class", "reason")

    def _usage(self) -> None:
        self.tokens = self._counter("tokens", "Tokens that upstreams read and wrote.", "model", "tier", "type")
        self.cost = self._counter("cost_usd", "What upstreams cost.", "model", "tier", "purpose")
        self.cost_avoided = self._counter("cost_avoided_usd", "What hits would have cost.", "model")
        self.cost_per_million = self._gauge(
            "cost_per_million_tokens_usd", "Cost by tokens served, with this POP and as if without.", "pop"
        )
        self.ledger_records = self._counter("ledger_records", "Records of the usage ledger.", "result")
        self.limited = self._counter("limited_requests", "Requests over a limit of their key or tenant.", "kind")
        self.budget_left = self._gauge("budget_remaining_usd", "What is left of a budget.", "holder")
        self.small_answers = self._counter(
            "small_model_answers", "Answers of small models, compared with those of the model asked for.", "result"
        )
        self.mirrored = self._counter("mirrored_answers", "Answers of mirrored models, compared.", "model", "result")

    def _process(self) -> None:
        self.loop_lag = self._histogram("event_loop_lag_seconds", "How late a timer of the event loop fired.", _STAGE)
        self.reloads = self._counter("config_reloads", "Configuration reloads.", "result")
        self.config_info = self._gauge("config_info", "Digest of the configuration in force.", "hash")
        self.log_dropped = self._counter("log_lines_dropped", "Access-log lines dropped because the writer lagged.")
        self.build_info = self._gauge("build_info", "Version of this program.", "version")
        self.build_info.labels(__version__).set(1)

    def render(self) -> bytes:
        """The exposition text of all metrics."""
        return generate_latest(self.registry)


def observe_all(histogram: Any, values: Sequence[float]) -> None:
    """`observe` for each of `values`, with one locked update a bucket instead of two a value."""
    bounds = histogram._upper_bounds  # noqa: SLF001 - prometheus_client has no public call for many values
    counts: dict[int, int] = {}
    for value in values:
        bucket = bisect_left(bounds, value)
        counts[bucket] = counts.get(bucket, 0) + 1
    for bucket, count in counts.items():
        histogram._buckets[bucket].inc(count)  # noqa: SLF001
    histogram._sum.inc(sum(values))  # noqa: SLF001
