"""vCache's policy: it explores until an entry has a record, then serves where the record allows, and keeps delta."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache.verified import chance_to_explore

Seen = list[tuple[float, bool]]

SEEN = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), max_size=30)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_entry_without_four_observations_is_always_explored(count: int) -> None:
    assert chance_to_explore([(0.95, True)] * count, 0.99, 0.05) == 1.0


@given(SEEN, st.floats(0.0, 1.0), st.floats(0.001, 0.2))
def test_the_chance_is_a_probability_whatever_was_seen(seen: Seen, similarity: float, delta: float) -> None:
    assert 0.0 <= chance_to_explore(seen, similarity, delta) <= 1.0


def test_right_answers_make_near_questions_hits() -> None:
    seen = [(0.9, True)] * 30 + [(0.5, False)] * 10
    assert chance_to_explore(seen, 0.97, 0.05) < 0.5
    assert chance_to_explore(seen, 0.3, 0.05) > 0.9


def test_wrong_answers_near_by_make_it_explore() -> None:
    good, bad = [(0.9, True)] * 20, [(0.9, True)] * 10 + [(0.92, False)] * 10
    assert chance_to_explore(bad, 0.92, 0.05) > chance_to_explore(good, 0.92, 0.05)


@given(st.floats(0.002, 0.05))
def test_a_larger_delta_never_explores_more(delta: float) -> None:
    seen = [(0.9, True)] * 12 + [(0.6, False)] * 4
    assert chance_to_explore(seen, 0.9, 2 * delta) <= chance_to_explore(seen, 0.9, delta)


@pytest.mark.parametrize("delta", [0.01, 0.05])
def test_delta_bounds_the_wrong_answers_of_an_entry(delta: float) -> None:
    """Similarities whose chance of being right follows a curve, as the paper assumes."""
    chance, wrong, asked = random.Random(4), 0, 0
    for _ in range(12):
        seen: Seen = []
        for _ in range(150):
            similarity = chance.uniform(0.6, 1.0)
            right = chance.random() < 1 / (1 + pow(2.718, -30 * (similarity - 0.85)))
            asked += 1
            if chance.random() > chance_to_explore(seen[-64:], similarity, delta):
                wrong += not right
            else:
                seen.append((similarity, right))
    assert wrong / asked <= delta + 2 * (delta / asked) ** 0.5  # two standard deviations of so many requests
