from edgecache.cache import budget
from edgecache.cache.evidence import Label, Segment, Track
from edgecache.config import Auth, AuthTenant, Config
from edgecache.pipeline.gauges import Gauges
from edgecache.telemetry.metrics import Metrics


def segment(requests: int, wrong: int) -> Segment:
    made = Segment()
    for number in range(requests):
        budget.requested(made, 0.01)
        budget.served(made, 0.01)
        budget.learn(made, Track(), Label(0.9, 0.01, right=number >= wrong, hit=True))
    return made


def test_the_rate_is_shown_with_its_interval_and_unknown_names_are_one() -> None:
    metrics = Metrics()
    config = Config(auth=Auth(mode="keys", tenant=(AuthTenant(id="acme"),)))
    (model,) = config.core.models
    parts = {
        ("acme", "", model): segment(100, 5),
        ("acme", "other namespace", model): segment(100, 5),
        ("stranger", "", "a"): segment(50, 0),
        ("nobody", "", "b"): segment(50, 1),
    }
    Gauges(metrics).show(parts, config)

    def shown(bound: str, **labels: str) -> float | None:
        name = "edgecache_segment_wrong_hit_rate" if labels else "edgecache_wrong_hit_rate"
        return metrics.registry.get_sample_value(name, {"bound": bound} | labels)

    total = budget.pooled(parts.values())
    assert [shown(bound) for bound in ("low", "estimate", "high")] == [total.low, total.rate, total.high]
    acme = budget.pooled(list(parts.values())[:2])
    assert shown("estimate", tenant="acme", model=model) == acme.rate > total.rate
    assert shown("high", tenant="other", model="other") == budget.pooled(list(parts.values())[2:]).high
    assert shown("low", tenant="stranger", model="a") is None
    Gauges(metrics).show({}, config)
    assert shown("estimate", tenant="acme", model=model) is None
    assert shown("estimate") == 0.0
