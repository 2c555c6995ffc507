from math import inf

import pytest

from edgecache.config import Price, Upstream, UpstreamModel
from edgecache.router.demand import Feature
from edgecache.router.offers import Offers, facts, features
from edgecache.types import Tier
from tests.router.market import market, upstream


def test_a_row_says_where_it_is_and_what_it_costs_a_token() -> None:
    cluster = Upstream(
        name="a", url="http://x", tier=Tier.EDGE, jurisdiction="EU", price=Price(input=2.0, output=6.0), context=8192
    )
    offers = Offers("m", [3], [facts(cluster, "m")])
    assert len(offers) == 1
    assert offers.row == {"a": 0}
    assert offers.upstream.tolist() == [3]
    assert offers.tier.tolist() == [Tier.EDGE.rank]
    assert offers.jurisdictions == ("EU",)
    assert offers.context.tolist() == [8192]
    assert (offers.price_in[0], offers.price_out[0]) == pytest.approx((2e-6, 6e-6))
    assert offers.price_cached[0] == offers.price_in[0]


def test_a_model_of_its_own_terms_has_those_and_else_the_upstreams() -> None:
    own = UpstreamModel(name="m", context=100, price=Price(input=9.0, cached=1.0))
    cluster = Upstream(name="a", url="http://x", features=("tools",), context=8192, model=(own,))
    found, other = facts(cluster, "m"), facts(cluster, "other")
    assert (found.context, found.price.input, found.features) == (100, 9.0, Feature.TOOLS)
    assert (other.context, other.price.input, other.features) == (8192, 0.0, Feature.TOOLS)
    assert Offers("m", [0], [found]).price_cached[0] == pytest.approx(1e-6)
    assert Offers("m", [0], [facts(upstream("b"), "m")]).context[0] == inf


def test_of_features_that_nobody_told_all_are_tried() -> None:
    assert features(None) == Feature.ANY
    assert features(()) == Feature.NONE
    assert features(("vision", "json_schema")) == Feature.VISION | Feature.JSON_SCHEMA


def test_a_residency_lets_only_its_own_jurisdictions_pass_and_unnamed_ones_never() -> None:
    _, offers = market(upstream("a", jurisdiction="EU"), upstream("b", jurisdiction="US"), upstream("c"))
    assert offers.within(frozenset()).tolist() == [True, True, True]
    assert offers.within(frozenset({"EU"})).tolist() == [True, False, False]
    assert offers.within(frozenset({"EU", "US"})).tolist() == [True, True, False]
    assert offers.within(frozenset({"CH"})).tolist() == [False, False, False]


def test_residencies_that_clients_think_up_do_not_fill_the_memory() -> None:
    _, offers = market(upstream("a", jurisdiction="EU"))
    for number in range(1000):
        assert not offers.within(frozenset({f"nowhere-{number}"})).any()
    assert len(offers._within) <= 256
    assert offers.within(frozenset({"EU"})).all()


def test_after_a_reload_upstreams_keep_what_they_taught() -> None:
    _, old = market(upstream("a"), upstream("b"))
    _, new = market(upstream("b"), upstream("c"))
    old.overhead[:], old.prefill[:], old.decode[:] = [1, 2], [3, 4], [5, 6]
    old.spread[:], old.seen[:], old.heard[:] = [7, 8], [9, 10], [11, 12]
    fresh = new.overhead[1]
    new.take_over(old)
    learned = (new.overhead, new.prefill, new.decode, new.spread, new.seen, new.heard)
    assert [column[0] for column in learned] == [2, 4, 6, 8, 10, 12]
    assert (new.overhead[1], new.seen[1]) == (fresh, 0)
