"""The numbers that tell two questions apart, and that each looks where it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import features
from edgecache.types import Candidate

QUESTION = "How do I convert a pdf to a word file?"


def row(stored: str, question: str = QUESTION, similarity: float = 0.9) -> dict[str, float]:
    rows, _ = features.compare(question, [Candidate(1, similarity, stored)], {1: 2.0})
    return dict(zip(features.NAMES, rows[0].tolist(), strict=True))


def test_equal_questions_differ_in_nothing() -> None:
    same = row(QUESTION)
    for name in ("numbers", "negation", "entities", "symbols", "order", "question_word", "time_words"):
        assert same[name] == 0.0


@pytest.mark.parametrize(
    ("name", "question", "stored"),
    [
        ("numbers", "is 5 mg enough", "is 50 mg enough"),
        ("negation", "should I not tell him", "should I tell him"),
        ("entities", "what is there to see in Berlin", "what is there to see in Rome"),
        ("symbols", "when is a < b", "when is a > b"),
        ("order", QUESTION, "How do I convert a word to a pdf file?"),
        ("question_word", "why do cats purr", "how do cats purr"),
        ("time_words", "who is the president now", "who is the president"),
    ],
)
def test_each_sees_its_own_difference(name: str, question: str, stored: str) -> None:
    assert row(stored, question)[name] > 0.0


def test_what_the_models_say_comes_first() -> None:
    rows, _ = features.compare("a b c d", [Candidate(1, 0.9, "a b c"), Candidate(2, 1.0, "x")], {1: 3.0})
    assert rows[0, :3] == pytest.approx([3.0, 0.9, 2.302585])
    assert rows[1, 0] < -5.0
    assert np.isfinite(rows[1, 2])


def test_each_candidate_comes_with_the_words_of_the_guards() -> None:
    _, words = features.compare("is 5 mg enough", [Candidate(1, 0.9, "is 50 mg enough")], {})
    assert next((word.guard, word.passed) for word in words[0]) == ("numbers", False)


@given(st.text(max_size=60), st.lists(st.tuples(st.floats(-1, 1), st.text(max_size=60)), max_size=5))
def test_every_text_gives_finite_numbers(question: str, stored: list[tuple[float, str]]) -> None:
    near = [Candidate(i, similarity, text) for i, (similarity, text) in enumerate(stored)]
    rows, words = features.compare(question, near, {})
    assert rows.shape == (len(near), len(features.NAMES))
    assert len(words) == len(near)
    assert np.isfinite(rows).all()
