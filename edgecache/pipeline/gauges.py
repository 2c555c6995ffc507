"""The estimated wrong-hit rate as metrics. Label values come from the configuration, so their number is bounded."""

from collections import defaultdict
from collections.abc import Mapping

from prometheus_client import Gauge

from edgecache.cache import budget
from edgecache.cache.evidence import Estimate, Segment
from edgecache.config import Config
from edgecache.store.rows import SegmentName
from edgecache.telemetry.metrics import Metrics

_OTHER = "other"
_DEFAULT_TENANT = "default"


class Gauges:
    """The gauges of one daemon: in total, and by tenant and model (namespaces together)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def show(self, segments: Mapping[SegmentName, Segment], config: Config) -> None:
        """Show the estimates of now."""
        total = self._metrics.wrong_hit_rate
        _set(total, (), budget.pooled(segments.values()))
        tenants = {_DEFAULT_TENANT, *(tenant.id for tenant in config.auth.tenant)}
        models = {*config.core.models, *(model for upstream in config.upstream for model in upstream.models)}
        groups: defaultdict[tuple[str, str], list[Segment]] = defaultdict(list)
        for (tenant, _, model), segment in segments.items():
            name = tenant if tenant in tenants else _OTHER, model if model in models else _OTHER
            groups[name].append(segment)
        by_segment = self._metrics.segment_wrong_hit_rate
        by_segment.clear()
        for name, group in groups.items():
            _set(by_segment, name, budget.pooled(group))


def _set(gauge: Gauge, labels: tuple[str, ...], estimate: Estimate) -> None:
    for bound, value in (("estimate", estimate.rate), ("low", estimate.low), ("high", estimate.high)):
        gauge.labels(*labels, bound).set(value)
