"""What the scripted core tells about its load and its tokens, in the words of the server it plays. Pure.

Names: vLLM's `v1/metrics/loggers.py`, TensorRT-LLM's `metrics/collector.py` and the records of its iterations, Dynamo's
`http/service/metrics.rs`. Those of the load speak for the whole server, whatever the number of its models, and lie
where `core.fake_metrics` says so; those of tokens count what was generated, whoever got it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from edgecache.config import tree as config
from edgecache.sim.seen import Seen

PATHS: Mapping[str, str] = {"vllm": "/metrics", "dynamo": "/metrics", "trtllm": "/prometheus/metrics"}
"""Where a dialect has its Prometheus metrics. trtllm-serve's `/metrics` is the draining list of its iterations."""

BLOCKS = 1024
"""Blocks of the KV cache, in which each place of the batch has the same share."""


class Load(NamedTuple):
    """Requests in progress, in line, and at once at most; the share of the KV cache in use."""

    running: int
    waiting: int
    capacity: int
    kv_cache: float


def load(settings: config.Core, running: int, waiting: int) -> Load:
    """What the server claims of its load: the truth, unless it is to lie."""
    fake = settings.fake_metrics
    return Load(
        running=running if fake.running_requests is None else fake.running_requests,
        waiting=waiting if fake.waiting_requests is None else fake.waiting_requests,
        capacity=settings.max_num_seqs,
        kv_cache=min(1.0, running / settings.max_num_seqs) if fake.kv_cache_usage is None else fake.kv_cache_usage,
    )


def gone(settings: config.Core) -> bool:
    """Whether its workers are gone: no request finds one."""
    return settings.failure_types == ("empty_404",) and settings.failure_injection_rate == 1


class Sample(NamedTuple):
    """One metric: its name as in its `# TYPE` line, its type, and its lines: what follows the name, labels, value."""

    name: str
    kind: str
    lines: Sequence[tuple[str, Mapping[str, str], float]]


def exposition(samples: Iterator[Sample]) -> str:
    """The Prometheus text format."""
    lines = []
    for name, kind, values in samples:
        lines.append(f"# TYPE {name} {kind}")
        for suffix, labels, value in values:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{name}{suffix}{{{inside}}} {float(value)}")
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def prometheus(settings: config.Core, now: Load, seen: Seen) -> str:
    """The metrics in the names of `settings.dialect`, which must be in `PATHS`."""
    make = {"vllm": _vllm, "trtllm": _trtllm, "dynamo": _dynamo}[settings.dialect]
    return exposition(make(settings, now, seen))


def _vllm(settings: config.Core, now: Load, seen: Seen) -> Iterator[Sample]:
    server = {"engine": "0", "model_name": settings.models[0]}
    yield Sample("vllm:num_requests_running", "gauge", [("", server, now.running)])
    yield Sample("vllm:num_requests_waiting", "gauge", [("", server, now.waiting)])
    yield Sample("vllm:kv_cache_usage_perc", "gauge", [("", server, now.kv_cache)])
    for name, counts in (
        ("vllm:prompt_tokens", seen.prompt_tokens),
        ("vllm:generation_tokens", seen.generated_tokens),
        ("vllm:prefix_cache_queries", seen.prompt_tokens),
        ("vllm:prefix_cache_hits", seen.cached_tokens),
    ):
        yield _counter(name + "_total", settings, counts, {"engine": "0"}, "model_name")


def _trtllm(settings: config.Core, now: Load, seen: Seen) -> Iterator[Sample]:
    server = {"model_name": settings.models[0], "engine_type": "trtllm"}
    used = round(BLOCKS * now.kv_cache)
    for name, value in (
        ("num_requests_running", now.running),
        ("num_requests_waiting", now.waiting),
        ("max_num_active_requests", now.capacity),
        ("kv_cache_utilization", now.kv_cache),
        ("kv_cache_hit_rate", _hit_rate(seen)),
        ("kv_cache_max_blocks", BLOCKS),
        ("kv_cache_used_blocks", used),
        ("kv_cache_free_blocks", BLOCKS - used),
    ):
        yield Sample("trtllm_" + name, "gauge", [("", server, value)])
    for name, counts in (
        ("trtllm_prompt_tokens", seen.prompt_tokens),
        ("trtllm_generation_tokens", seen.generated_tokens),
        ("trtllm_prompt_cached_tokens", seen.cached_tokens),
    ):
        yield _counter(name + "_total", settings, counts, {"engine_type": "trtllm"}, "model_name")


def _dynamo(settings: config.Core, now: Load, seen: Seen) -> Iterator[Sample]:
    model = {"model": settings.models[0]}
    for name, value in (
        ("inflight_requests", now.running + now.waiting),
        ("queued_requests", now.waiting),
        ("active_requests", now.running),
        ("disconnected_clients", seen.disconnected),
        ("model_ready", not gone(settings)),
    ):
        yield Sample("dynamo_frontend_" + name, "gauge", [("", model, value)])
    for name, counts in (
        ("dynamo_frontend_input_sequence_tokens", seen.prompt_tokens),
        ("dynamo_frontend_output_sequence_tokens", seen.generated_tokens),
    ):
        yield _histogram(name, settings, counts, seen)
    yield _counter("dynamo_frontend_output_tokens_total", settings, seen.generated_tokens, {}, "model")


def _counter(name: str, settings: config.Core, counts: Counter[str], labels: Mapping[str, str], label: str) -> Sample:
    return Sample(name, "counter", [("", {**labels, label: model}, counts[model]) for model in _models(settings)])


def _histogram(name: str, settings: config.Core, counts: Counter[str], seen: Seen) -> Sample:
    """With a single bucket: what people want is the sum."""
    lines: list[tuple[str, Mapping[str, str], float]] = []
    for model in _models(settings):
        lines += [
            ("_bucket", {"model": model, "le": "+Inf"}, seen.prompts[model]),
            ("_sum", {"model": model}, counts[model]),
            ("_count", {"model": model}, seen.prompts[model]),
        ]
    return Sample(name, "histogram", lines)


def _models(settings: config.Core) -> tuple[str, ...]:
    return (*settings.models, *settings.loras)


def _hit_rate(seen: Seen) -> float:
    return seen.cached_tokens.total() / max(1, seen.prompt_tokens.total())


def iteration(number: int, now: Load, seen: Seen) -> dict[str, Any]:
    """One record of trtllm-serve's `/metrics`, as far as somebody outside can use it."""
    used = round(BLOCKS * now.kv_cache)
    return {
        "iter": number,
        "numActiveRequests": now.running,
        "numQueuedRequests": now.waiting,
        "numCompletedRequests": seen.finished,
        "maxNumActiveRequests": now.capacity,
        "kvCacheStats": {
            "maxNumBlocks": BLOCKS,
            "freeNumBlocks": BLOCKS - used,
            "usedNumBlocks": used,
            "cacheHitRate": _hit_rate(seen),
        },
        "inflightBatchingStats": {"numScheduledRequests": now.running, "numGenRequests": now.running},
    }
