"""Which candidate is served, under which policy and by which rule, and what is said of those that are not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import features, verify
from edgecache.cache.evidence import Segment, Track
from edgecache.cache.scorer import Scorer
from edgecache.config import HitPolicy
from edgecache.types import Candidate, Judgement, Verdict

QUESTION = "How do I convert a pdf to a word file?"
REWORDED = "How can I turn a pdf into a word document?"
WIDTH = len(features.NAMES)

# Log-odds of a wrong answer: minus the verifier's logit, nothing else.
LINEAR = Scorer.decode(
    json.dumps(
        {
            "format": 1,
            "names": list(features.NAMES),
            "mean": [0.0] * WIDTH,
            "scale": [1.0] * WIDTH,
            "low": [-20.0] * WIDTH,
            "high": [20.0] * WIDTH,
            "members": [{"hidden": [[-1e-3]] + [[0.0]] * (WIDTH - 1), "bias": [0.0], "out": [1e3], "shift": 0.0}],
            "slope": 1.0,
            "offset": 0.0,
            "clear": 0.65,
            "identical": 0.001,
        }
    ).encode()
)


def candidates(*near: tuple[float, str]) -> list[Candidate]:
    return [Candidate(number, similarity, text) for number, (similarity, text) in enumerate(near)]


def judge(*near: tuple[float, str, float]) -> tuple[Judgement, ...]:
    """Candidates as (similarity, text, logit)."""
    found = candidates(*((similarity, text) for similarity, text, _ in near))
    return verify.judge(QUESTION, found, {i: logit for i, (_, _, logit) in enumerate(near)}, LINEAR)


def decide(judged: tuple[Judgement, ...], *, floor: float = 0.6, chance: float = 0.5, **policy: Any) -> Verdict:
    tracks = policy.pop("tracks", {})
    segment = policy.pop("segment", Segment())
    return verify.decide(judged, HitPolicy(**policy), segment, tracks, floor=floor, chance=chance)


# ------------------------------------------------------------------------------------------ whom the verifier sees
def test_the_verifier_sees_neither_equal_words_nor_what_is_far_away() -> None:
    near = candidates((0.99, "how do i convert a pdf to a word file"), (0.8, REWORDED), (0.64, "What is a pdf?"))
    assert verify.doubtful(QUESTION, near, LINEAR) == (near[1],)


def test_the_verifier_sees_the_three_nearest_alone() -> None:
    near = candidates(*((0.7 + i / 100, f"{REWORDED} {i}") for i in range(6)))
    assert [each.entry_id for each in verify.doubtful(QUESTION, near, LINEAR)] == [5, 4, 3]


def test_without_a_scorer_the_verifier_is_not_asked() -> None:
    assert verify.doubtful(QUESTION, candidates((0.9, REWORDED)), None) == ()


# ------------------------------------------------------------------------------------------ what is held of each
def test_candidates_come_in_order_of_risk() -> None:
    judged = judge((0.95, "What is a pdf?", -2.0), (0.8, REWORDED, 5.0))
    assert [each.candidate.entry_id for each in judged] == [1, 0]
    assert judged[0].risk == pytest.approx(0.0067, rel=0.01)
    assert (judged[0].logit, judged[0].identical) == (5.0, False)
    assert {word.guard for word in judged[0].words} >= {"numbers", "order"}


def test_a_candidate_that_was_not_scored_is_unknown_rather_than_guessed_at() -> None:
    (judged,) = verify.judge(QUESTION, candidates((0.99, REWORDED)), {}, LINEAR)
    assert (judged.risk, judged.logit) == (1.0, None)


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
def test_the_same_words_are_served_with_or_without_a_verifier(text: str) -> None:
    for scorer in (LINEAR, None):
        judged = verify.judge(QUESTION, candidates((0.9, text)), {}, scorer)
        assert judged[0].identical
        assert decide(judged).rule == "identical"


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
        ("what does it stand for", "What does IT stand for?"),
    ],
)
def test_signs_and_capitals_that_carry_meaning_keep_texts_from_being_the_same(one: str, other: str) -> None:
    assert not verify.judge(one, candidates((0.99, other)), {}, LINEAR)[0].identical


def test_shouting_is_not_another_question() -> None:
    assert verify.judge("WHAT DOES A POP DO", candidates((1.0, "what does a pop do")), {}, None)[0].identical


# ------------------------------------------------------------------------------------------ the policies
def test_without_a_candidate_there_is_nothing_to_serve() -> None:
    verdict = decide(())
    assert (verdict.accepted, verdict.rule, verdict.risk) == (None, "none-near", 1.0)


@pytest.mark.parametrize("policy", ["budget", "threshold", "similarity", "verified"])
def test_the_floor_holds_under_every_policy(policy: str) -> None:
    verdict = decide(judge((0.9, QUESTION, 9.0)), floor=0.95, policy=policy)
    assert (verdict.accepted, verdict.rule) == (None, "floor")


def test_a_budget_serves_low_risks_and_refuses_high_ones() -> None:
    served = decide(judge((0.9, REWORDED, 9.0)))
    assert (served.accepted, served.rule) == (Candidate(0, 0.9, REWORDED), "budget")
    assert served.risk <= served.limit
    refused = decide(judge((0.99, REWORDED, 0.0)))
    assert (refused.accepted, refused.rule) == (None, "risk")
    assert refused.risk > refused.limit


def test_while_a_segment_drifts_only_the_same_words_are_served() -> None:
    drifting = Segment(drifted=True)
    assert decide(judge((0.9, REWORDED, 9.0)), segment=drifting).rule == "drift"
    assert decide(judge((0.99, QUESTION, 9.0)), segment=drifting).rule == "identical"


def test_an_entry_with_a_bad_record_is_served_to_fewer_wordings() -> None:
    judged = judge((0.9, REWORDED, 3.0))
    assert decide(judged).rule == "budget"
    assert decide(judged, tracks={0: Track(wrong=3, surprise=2.9, weight=0.1)}).rule == "risk"


def test_a_threshold_is_on_the_probability_of_a_right_answer() -> None:
    judged = judge((0.8, REWORDED, 4.0))  # right with 0.982
    assert decide(judged, policy="threshold", threshold=0.98).rule == "threshold"
    assert decide(judged, policy="threshold", threshold=0.99).accepted is None


def test_a_similarity_looks_at_nothing_else() -> None:
    judged = judge((0.96, "How do I convert a word to a pdf file?", -9.0), (0.8, REWORDED, 9.0))
    verdict = decide(judged, policy="similarity", similarity=0.95)
    assert verdict.accepted is not None
    assert (verdict.accepted.entry_id, verdict.rule) == (0, "similarity")
    assert decide(judged, policy="similarity", similarity=0.97).accepted is None


def test_verified_explores_an_entry_without_a_record_and_serves_one_with() -> None:
    judged = judge((0.97, REWORDED, 9.0))
    assert decide(judged, policy="verified").rule == "explore"
    record = {0: Track(seen=[(0.9, True)] * 40 + [(0.4, False)] * 20)}
    assert decide(judged, policy="verified", delta=0.05, tracks=record, chance=0.999).rule == "verified"
    assert decide(judged, policy="verified", delta=0.05, tracks=record, chance=0.0).rule == "explore"


@given(
    st.text(max_size=30),
    st.lists(st.tuples(st.floats(-1, 1), st.text(max_size=30), st.floats(-9, 9)), max_size=4),
    st.sampled_from(["budget", "threshold", "similarity", "verified"]),
)
def test_whatever_is_accepted_is_a_candidate_above_the_floor(
    question: str, near: list[tuple[float, str, float]], policy: str
) -> None:
    found = candidates(*((similarity, text) for similarity, text, _ in near))
    judged = verify.judge(question, found, {i: each[2] for i, each in enumerate(near)}, LINEAR)
    verdict = decide(judged, policy=policy)
    assert 0.0 <= verdict.risk <= 1.0
    if verdict.accepted is not None:
        assert verdict.accepted in found
        assert verdict.accepted.similarity >= 0.6
