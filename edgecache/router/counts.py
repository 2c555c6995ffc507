"""What attempts add to the metrics. Children of labelled metrics are kept: to look one up takes longer than to add."""

from functools import lru_cache

from prometheus_client import Counter, Histogram

from edgecache.telemetry.metrics import Metrics
from edgecache.types import Attempt, Purpose

_MODELS = 200
"""Names of models that are told apart; an upstream that takes any name could make more of them."""


class Counts:
    """The metrics of attempts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._models: set[str] = set()
        self._counter = lru_cache(maxsize=8192)(_counter)
        self._histogram = lru_cache(maxsize=8192)(_histogram)

    def first_token(self, record: Attempt, predicted: float) -> None:
        """The first token of a stream has come, after `record.ttft` s; it was `predicted` to, 0 = not."""
        self._histogram(self._metrics.upstream_ttft, record.upstream, record.tier).observe(record.ttft)
        if predicted > 0:
            self._metrics.ttft_prediction.observe(record.ttft / predicted)

    def rate(self, record: Attempt, tokens: float) -> None:
        """It wrote so many `tokens` a second after the first."""
        self._histogram(self._metrics.upstream_output_rate, record.upstream, record.tier).observe(tokens)

    def ended(self, record: Attempt, purpose: Purpose) -> None:
        """An attempt is over."""
        metrics = self._metrics
        self._counter(metrics.upstream_attempts, record.upstream, record.tier, record.outcome).inc()
        model = self._model(record.model)
        for kind, tokens in (
            ("prompt", record.prompt_tokens),
            ("completion", record.completion_tokens),
            ("cached", record.cached_tokens),
        ):
            if tokens:
                self._counter(metrics.tokens, model, record.tier, kind).inc(tokens)
        if record.cost:
            self._counter(metrics.cost, model, record.tier, purpose.value).inc(record.cost)

    def routed(self, tier: str, service: str, why: str) -> None:
        """An answer is handed on."""
        self._counter(self._metrics.routed, tier, service, why).inc()

    def _model(self, name: str) -> str:
        if name not in self._models:
            if len(self._models) >= _MODELS:
                return "other"
            self._models.add(name)
        return name


def _counter(metric: Counter, *labels: str) -> Counter:
    return metric.labels(*labels)


def _histogram(metric: Histogram, *labels: str) -> Histogram:
    return metric.labels(*labels)
