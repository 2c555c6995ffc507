import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.router.lengths import ANSWER, RATIO, Lengths, Ratios


def test_an_unknown_scope_is_expected_to_have_the_prior_or_its_limit() -> None:
    lengths = Lengths()
    assert lengths.expect("new") == ANSWER
    assert lengths.expect("new", 16) == 16
    assert lengths.expect("new", 100_000) == ANSWER


def test_the_first_answer_replaces_the_prior() -> None:
    lengths = Lengths()
    lengths.learn("a", 37)
    assert lengths.expect("a") == 37
    assert lengths.expect("b") == ANSWER


def test_the_mean_follows_a_change_in_traffic() -> None:
    lengths = Lengths()
    rng = random.Random(1)
    for _ in range(500):
        lengths.learn("a", rng.gauss(50, 10))
    assert lengths.expect("a") == pytest.approx(50, abs=5)
    for _ in range(200):
        lengths.learn("a", rng.gauss(900, 100))
    assert lengths.expect("a") == pytest.approx(900, abs=60)


def test_an_answer_that_was_cut_short_never_lowers_the_mean() -> None:
    lengths = Lengths()
    for _ in range(40):
        lengths.learn("a", 500)
    for _ in range(40):
        lengths.learn("a", 10, limit=10)
    assert lengths.expect("a") == 500
    lengths.learn("a", 10, limit=11)
    assert lengths.expect("a") < 500


def test_a_cut_answer_longer_than_the_mean_raises_it() -> None:
    lengths = Lengths()
    lengths.learn("a", 10)
    lengths.learn("a", 100, limit=100)
    assert lengths.expect("a") == 55


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10_000), st.integers(0, 500))))
def test_memory_and_expectations_are_bounded(answers: list[tuple[int, int, int]]) -> None:
    lengths = Lengths(most=8)
    for scope, tokens, limit in answers:
        lengths.learn(scope, tokens, limit)
        assert 0 <= lengths.expect(scope, limit) <= (limit or 10_000)
    assert len(lengths) <= 8


def test_the_scope_that_was_not_used_for_longest_is_forgotten() -> None:
    lengths = Lengths(most=2)
    lengths.learn("old", 1)
    lengths.learn("new", 2)
    lengths.expect("old")
    lengths.learn("third", 3)
    assert [lengths.expect(scope) for scope in ("old", "new", "third")] == [1, ANSWER, 3]


def test_a_ratio_begins_at_four_bytes_a_token_and_finds_that_of_the_model() -> None:
    ratios = Ratios()
    assert ratios.ratio("m") == RATIO == 0.25
    rng = random.Random(2)
    for _ in range(100):
        size = rng.randint(50, 5000)
        ratios.learn("m", size * 0.4, size)
    assert ratios.ratio("m") == pytest.approx(0.4, rel=0.01)
    assert ratios.ratio("other") == RATIO


def test_one_prompt_however_long_does_not_decide() -> None:
    ratios = Ratios()
    for _ in range(200):
        ratios.learn("m", 1000, 4000)
    ratios.learn("m", 10_000_000, 10_000_000)
    assert ratios.ratio("m") < 0.4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 10**12), st.integers(-5, 10**9))))
def test_no_count_makes_a_ratio_that_no_vocabulary_can_have(counts: list[tuple[str, int, int]]) -> None:
    ratios = Ratios(most=2)
    for model, tokens, size in counts:
        ratios.learn(model, tokens, size)
        assert 0.019 < ratios.ratio(model) < 2.01
    assert len(ratios) <= 2
