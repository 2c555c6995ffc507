"""Rules that both ways to choose have in common."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edgecache.router.choice import home, lacks, two
from edgecache.router.demand import Demand, Prefix
from tests.router.market import upstream


@given(st.integers(1, 50), st.integers())
def test_two_are_drawn_that_differ_where_they_can(count: int, seed: int) -> None:
    first, second = two(count, random.Random(seed).random)
    assert 0 <= first < count
    assert 0 <= second < count
    assert count == 1 or first != second


def test_each_of_the_two_is_any_of_them_as_often_as_the_others() -> None:
    draw = random.Random(1).random
    pairs = Counter(two(4, draw) for _ in range(12_000))
    assert len(pairs) == 12
    assert 800 < min(pairs.values()) <= max(pairs.values()) < 1200


def test_the_home_of_a_prompt_is_always_the_same_of_those_that_know_most_of_it() -> None:
    homes = Counter()
    for number in range(300):
        demand = Demand("m", prefixes=(Prefix(b"%d" % number, 256),))
        found = home([0.0, 9.0, 9.0, 4.0, 9.0], demand)
        assert found == home([0.0, 9.0, 9.0, 4.0, 9.0], demand)
        homes[found] += 1
    assert set(homes) == {1, 2, 4}
    assert min(homes.values()) > 60


def test_what_a_request_needs_and_an_upstream_does_not_tell_of_is_lacking() -> None:
    plain, able = upstream("plain"), upstream("able", gpu="H100", gpu_memory=80.0, loras=("ours",))
    assert not lacks(plain, Demand("m"))
    for demand in (Demand("m", gpu="H100"), Demand("m", gpu_memory=80.0), Demand("m", lora="ours")):
        assert lacks(plain, demand)
        assert not lacks(able, demand)
    assert lacks(able, Demand("m", gpu="B200"))
    assert lacks(able, Demand("m", gpu_memory=141.0))
