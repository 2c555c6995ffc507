import itertools

import msgspec
import pytest

from edgecache.config.routing import Price, Router, ServiceLevels, Upstream
from edgecache.types import ServiceClass, Tier


def test_better_classes_are_promised_more() -> None:
    levels = [getattr(ServiceLevels(), service.value) for service in ServiceClass]
    for better, worse in itertools.pairwise(levels):
        assert better.ttft < worse.ttft
        assert better.deadline < worse.deadline
        assert better.first_token_timeout < worse.first_token_timeout
        assert better.share > worse.share


def test_a_target_can_be_met_before_the_next_upstream_is_tried() -> None:
    for service in ServiceClass:
        level = getattr(ServiceLevels(), service.value)
        assert level.ttft < level.first_token_timeout <= level.deadline


def test_an_upstream_is_a_cluster_in_the_core_unless_it_is_said() -> None:
    upstream = msgspec.convert({"name": "a", "url": "http://a"}, Upstream)
    assert (upstream.tier, upstream.jurisdiction, upstream.features) == (Tier.CORE, "", None)


def test_a_price_without_cached_tokens_is_that_of_the_prompt() -> None:
    assert Price(input=2.0).cached is None


@pytest.mark.parametrize("raw", [{"near": 1.5}, {"hedging": {"ratio": -1}}, {"classes": {"gold": {}}}])
def test_what_makes_no_sense_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw, Router)
