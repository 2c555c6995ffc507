"""Which candidate is accepted, by which rule, and what is said of those that are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import verify
from edgecache.types import Candidate, Verdict

QUESTION = "How do I convert a pdf to a word file?"
REWORDED = "How can I convert a pdf to a word file?"
TURNED = "How do I convert a word to a pdf file?"


def decide(*candidates: tuple[float, str], question: str = QUESTION, tolerance: float = 0.0) -> Verdict:
    found = [Candidate(number, similarity, text) for number, (similarity, text) in enumerate(candidates)]
    return verify.decide(question, found, threshold=0.9, tolerance=tolerance)


def test_without_a_candidate_there_is_nothing_to_accept() -> None:
    assert decide() == Verdict(None, "none-near", "no candidate in this scope")


@pytest.mark.parametrize(
    "text",
    [
        QUESTION,
        "how do i convert a pdf to a word file",
        "  How do I  convert a pdf\nto a word file?!",
        "“How do I convert a pdf to a word file?”",
        "How do I convert a pdf, to a word file…",
    ],
)
def test_the_same_words_at_the_threshold_pass_at_once(text: str) -> None:
    verdict = decide((0.9, text))
    assert verdict.accepted is not None
    assert (verdict.rule, [word.guard for word in verdict.words[0][1]]) == ("identical", ["identical"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what is 5!", "what is 5"),
        ("is C++ fast", "is C fast"),
        ("a < b", "a > b"),
        ("what is !x", "what is x"),
        ("2*(3+4)", "2*3+4"),
        ("-5", "5"),
        ("what is ¿", "what is ☂"),
    ],
)
def test_signs_that_carry_meaning_keep_texts_from_being_the_same(one: str, other: str) -> None:
    assert decide((0.9, other), question=one).rule != "identical"


def test_a_similar_question_that_no_guard_objects_to_is_accepted() -> None:
    verdict = decide((0.93, REWORDED))
    assert verdict.accepted == Candidate(0, 0.93, REWORDED)
    assert verdict.rule == "similar"
    assert verdict.reason == "0.9300 >= 0.9000, and no guard objects"
    assert [word.guard for word in verdict.words[0][1]] == [
        "similarity",
        "numbers",
        "negation",
        "entities",
        "symbols",
        "order",
    ]


def test_the_threshold_is_reached_only_beyond_the_error_of_the_embedder() -> None:
    assert decide((0.9, REWORDED)).accepted is not None
    refused = decide((0.905, REWORDED), tolerance=0.006)
    assert (refused.accepted, refused.rule, refused.reason) == (None, "similarity", "0.9050 < 0.9060")
    assert [word.guard for word in refused.words[0][1]] == ["similarity"]


def test_one_objection_is_enough_and_is_the_rule() -> None:
    verdict = decide((0.99, TURNED))
    assert (verdict.accepted, verdict.rule) == (None, "order")
    assert verdict.reason == "word to pdf is turned round"


def test_candidates_are_tried_best_first_until_one_passes() -> None:
    verdict = decide((0.91, REWORDED), (0.99, TURNED), (0.95, REWORDED), (0.85, QUESTION + " Now."))
    assert verdict.accepted == Candidate(2, 0.95, REWORDED)
    assert [candidate.entry_id for candidate, _ in verdict.words] == [1, 2]


def test_every_refused_candidate_is_listed_with_what_was_said() -> None:
    verdict = decide((0.99, TURNED), (0.5, REWORDED))
    assert (verdict.accepted, verdict.rule) == (None, "order")
    assert [[word.guard for word in words if not word.passed] for _, words in verdict.words] == [
        ["order"],
        ["similarity"],
    ]


@given(st.text(max_size=30), st.lists(st.tuples(st.floats(-1, 1), st.text(max_size=30)), max_size=4))
def test_nothing_below_the_threshold_is_accepted_unless_it_is_the_same(
    question: str, candidates: list[tuple[float, str]]
) -> None:
    verdict = decide(*candidates, question=question)
    assert (verdict.accepted is None) == (verdict.rule not in ("identical", "similar"))
    if verdict.accepted is not None and verdict.rule == "similar":
        assert verdict.accepted.similarity >= 0.9


def test_the_same_words_below_a_raised_threshold_are_refused() -> None:
    candidate = Candidate(1, 0.97, "What is a POP?")
    assert verify.decide("what is a pop", [candidate], threshold=0.95, tolerance=0.0).accepted is candidate
    assert verify.decide("what is a pop", [candidate], threshold=0.99, tolerance=0.0).accepted is None


def test_capitals_that_mean_something_are_not_the_same_words() -> None:
    candidate, shouted = Candidate(1, 1.0, "What does IT stand for?"), Candidate(2, 1.0, "what does a pop do")
    assert verify.decide("what does it stand for", [candidate], threshold=0.9, tolerance=0.0).rule != "identical"
    assert verify.decide("WHAT DOES A POP DO", [shouted], threshold=0.9, tolerance=0.0).rule == "identical"
