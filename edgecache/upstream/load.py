"""What servers tell about their load, in one form: from Prometheus metrics, or trtllm-serve's own JSON. Pure.

Names: model-server protocol of the Gateway API Inference Extension, TensorRT-LLM `metrics/collector.py`, Triton's
TensorRT-LLM backend, Dynamo 1.6.1 as measured. It is a correction at best: gauges of trtllm-serve change when requests
complete, and every server's are as old as the last look.
"""

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import Any, Literal, NamedTuple

import orjson
from prometheus_client.parser import text_string_to_metric_families

from edgecache.config import Upstream
from edgecache.errors import UpstreamError

Kind = Literal["prometheus", "trtllm_json"]


class Load(NamedTuple):
    """Requests waiting and in progress at a server, those it can run at once, share of its KV cache in use.

    NaN = it does not tell.
    """

    queued: float = nan
    running: float = nan
    capacity: float = nan
    kv: float = nan


Samples = Mapping[str, Sequence[float]]
"""Values by metric name, with `/` and a label's value where that makes the difference (`_BY_LABEL`)."""


def address(upstream: Upstream) -> str:
    """Where the load of `upstream` is read: a URL, or a path on the upstream."""
    if upstream.load_url is not None:
        return upstream.load_url
    return "/prometheus/metrics" if upstream.dialect == "trtllm" and upstream.load == "prometheus" else "/metrics"


def parse(dialect: str, kind: Kind, body: bytes) -> Load:
    """The load that `body` tells of. Raises `UpstreamError` where it is not what `kind` says.

    Metrics are known by their names, those that belong to `dialect` first: a Dynamo worker has its engine's as well.
    """
    if kind == "trtllm_json":
        return _iterations(body)
    samples = _samples(body)
    for server in sorted(_SERVERS, key=lambda each: each.dialect != dialect):
        if any(name in samples for name in server.names):
            return _read(server, samples)
    return Load()


def _iterations(body: bytes) -> Load:
    """The last of trtllm-serve's iteration records. No record: idle, or somebody else has taken them. Not known."""
    try:
        records: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamError("the load is not JSON") from error
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records[-1:]):
        raise UpstreamError("the load is not a list of iteration records")
    if not records:
        return Load()
    last = records[-1]
    cache = last.get("kvCacheStats")
    blocks = cache if isinstance(cache, dict) else {}
    return Load(
        queued=_number(last.get("numQueuedRequests")),
        running=_number(last.get("numActiveRequests")),
        capacity=_number(last.get("maxNumActiveRequests")),
        kv=_share(_number(blocks.get("usedNumBlocks")), _number(blocks.get("maxNumBlocks"))),
    )


def _samples(body: bytes) -> Samples:
    """The samples that some server's load is read from.

    All other lines are left out unread: the parser takes 15 ms for the 100 kB of a Dynamo frontend, histograms mostly.
    """
    lines = [line for line in body.split(b"\n") if line.startswith(_BEGINNINGS)]
    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families(b"\n".join(lines).decode()):
            for sample in family.samples:
                label = _BY_LABEL.get(sample.name)
                name = sample.name if label is None else f"{sample.name}/{sample.labels.get(label, '')}"
                if not isnan(value := _number(sample.value)):
                    found.setdefault(name, []).append(value)
    except (ValueError, OverflowError) as error:  # what the parser raises on lines that are cut or wrong
        raise UpstreamError("the load is not in the Prometheus text format") from error
    return found


class _Server(NamedTuple):
    """A kind of server: the dialect it speaks, and the metrics that say what `Load` has; of `kv`, either."""

    dialect: str
    queued: str
    running: str
    capacity: str = ""
    kv: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of its metrics."""
        return tuple(name for name in (self.queued, self.running, self.capacity, *self.kv) if name)


_SERVERS = (
    _Server(
        "dynamo",
        "dynamo_frontend_queued_requests",
        "dynamo_frontend_inflight_requests",
        "dynamo_frontend_model_max_num_seqs",
        ("dynamo_frontend_worker_active_decode_blocks/decode",),
    ),
    _Server(
        "trtllm",
        "trtllm_num_requests_waiting",
        "trtllm_num_requests_running",
        "trtllm_max_num_active_requests",
        ("trtllm_kv_cache_utilization",),
    ),
    _Server(
        "trtllm",
        "nv_trt_llm_request_metrics/waiting",
        "nv_trt_llm_request_metrics/scheduled",
        "nv_trt_llm_request_metrics/max",
        ("nv_trt_llm_kv_cache_block_metrics/fraction",),
    ),
    _Server(
        "vllm",
        "vllm:num_requests_waiting",
        "vllm:num_requests_running",
        kv=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # new name, old name
    ),
    _Server("sglang", "sglang:num_queue_reqs", "sglang:num_running_reqs", kv=("sglang:token_usage",)),
    _Server("edgecache", "edgecache_waiting_requests", "edgecache_upstream_inflight"),
)
_BLOCKS = "dynamo_frontend_model_total_kv_blocks"
_BY_LABEL = {
    "nv_trt_llm_request_metrics": "request_type",
    "nv_trt_llm_kv_cache_block_metrics": "kv_cache_block_type",
    "dynamo_frontend_worker_active_decode_blocks": "worker_type",
}
_BEGINNINGS = tuple({name.partition("/")[0].encode() for server in _SERVERS for name in (*server.names, _BLOCKS)})


def _read(server: _Server, samples: Samples) -> Load:
    """Sums over models and engines; of the shares of several engines, the mean."""
    kv = next((samples[name] for name in server.kv if name in samples), ())
    load = Load(
        queued=_sum(samples, server.queued),
        running=_sum(samples, server.running),
        capacity=_sum(samples, server.capacity),
        kv=_share(sum(kv), len(kv)),
    )
    return _frontend(load, samples, len(kv)) if server.dialect == "dynamo" else load


def _frontend(load: Load, samples: Samples, workers: int) -> Load:
    """Dynamo counts those without a first token among those in progress, and tells blocks and sequences of one worker.

    Its workers are not told apart by model: with several models, capacity and KV cache are not known.
    """
    running = load.running if isnan(load.queued) else max(0.0, load.running - load.queued)
    if not workers or len(samples.get(_BLOCKS, ())) != 1:
        return Load(load.queued, running)
    used = sum(samples["dynamo_frontend_worker_active_decode_blocks/decode"])
    return Load(load.queued, running, load.capacity * workers, _share(used, samples[_BLOCKS][0] * workers))


def _sum(samples: Samples, name: str) -> float:
    return sum(samples[name]) if name in samples else nan


def _number(value: Any) -> float:
    """A count or a share as it was told; NaN for what can be neither."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return nan
    return float(value) if 0 <= value < 1e12 else nan


def _share(part: float, whole: float) -> float:
    """`part` of `whole`, at most 1; NaN where one is not known."""
    return min(1.0, part / whole) if whole > 0 and part >= 0 else nan
