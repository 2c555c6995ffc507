from edgecache.router.counts import Counts
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Attempt, Purpose


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"edgecache_{name}", labels)


def test_an_attempt_is_counted_by_upstream_and_its_tokens_by_model() -> None:
    metrics = Metrics()
    counts = Counts(metrics)
    record = Attempt("a", "core", "fra", "m", 100, 20, 40, cost=0.5, outcome="ok")
    counts.ended(record, Purpose.SAMPLE)
    counts.ended(record, Purpose.SAMPLE)
    assert value(metrics, "upstream_attempts_total", cluster="a", tier="core", outcome="ok") == 2
    tokens = {kind: value(metrics, "tokens_total", model="m", tier="core", type=kind) for kind in KINDS}
    assert tokens == {"prompt": 200, "completion": 40, "cached": 80}
    assert value(metrics, "cost_usd_total", model="m", tier="core", purpose="sample") == 1.0


KINDS = ("prompt", "completion", "cached")


def test_what_cost_nothing_makes_no_series() -> None:
    metrics = Metrics()
    Counts(metrics).ended(Attempt("a", "core", "", "m", outcome="failed"), Purpose.CLIENT)
    assert all(value(metrics, "tokens_total", model="m", tier="core", type=kind) is None for kind in KINDS)


def test_models_beyond_the_first_hundreds_are_counted_together() -> None:
    metrics = Metrics()
    counts = Counts(metrics)
    for number in range(250):
        counts.ended(Attempt("a", "core", "", f"m{number}", 1, outcome="ok"), Purpose.CLIENT)
    counts.ended(Attempt("a", "core", "", "m0", 1, outcome="ok"), Purpose.CLIENT)
    assert value(metrics, "tokens_total", model="other", tier="core", type="prompt") == 50
    assert value(metrics, "tokens_total", model="m0", tier="core", type="prompt") == 2


def test_first_tokens_are_compared_with_what_was_predicted() -> None:
    metrics = Metrics()
    counts = Counts(metrics)
    for predicted in (0.1, 0.0):
        counts.first_token(Attempt("a", "edge", "", "m", ttft=0.2), predicted)
    counts.rate(Attempt("a", "edge", "", "m"), 50.0)
    counts.routed("edge", "batch", "only")
    assert value(metrics, "upstream_ttft_seconds_count", cluster="a", tier="edge") == 2
    assert value(metrics, "ttft_prediction_ratio_sum") == 2.0
    assert value(metrics, "ttft_prediction_ratio_count") == 1
    assert value(metrics, "upstream_output_tokens_per_second_sum", cluster="a", tier="edge") == 50.0
    assert value(metrics, "routed_requests_total", tier="edge", service_class="batch", why="only") == 1
