import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import Price
from edgecache.router.cost import cost

LIST = Price(input=2.0, output=10.0, cached=0.5, version="2026-01")


def test_prices_are_by_the_million_and_cached_tokens_have_their_own() -> None:
    assert cost(LIST, prompt=1_000_000, completion=0, cached=0) == pytest.approx(2.0)
    assert cost(LIST, prompt=1_000_000, completion=0, cached=1_000_000) == pytest.approx(0.5)
    assert cost(LIST, prompt=0, completion=1_000_000, cached=0) == pytest.approx(10.0)
    assert cost(LIST, prompt=1000, completion=100, cached=400) == pytest.approx((600 * 2 + 400 * 0.5 + 100 * 10) / 1e6)


def test_without_a_price_for_them_cached_tokens_cost_what_others_do() -> None:
    plain = Price(input=2.0, output=10.0)
    assert cost(plain, prompt=1000, completion=0, cached=1000) == cost(plain, prompt=1000, completion=0, cached=0)
    assert cost(Price(input=2.0, cached=0.0), prompt=1000, completion=0, cached=1000) == 0.0


@given(prompt=st.integers(0, 10**6), completion=st.integers(0, 10**6), share=st.floats(0, 1))
def test_it_adds_up_over_requests_and_caching_never_makes_it_dearer(prompt, completion, share) -> None:
    cached = int(prompt * share)
    once = cost(LIST, prompt, completion, cached)
    assert cost(LIST, 2 * prompt, 2 * completion, 2 * cached) == pytest.approx(2 * once)
    assert 0 <= once <= cost(LIST, prompt, completion, 0) + 1e-12
