"""Conversations made of questions: which follow-ups there are, and which of them have the same answer."""

from collections import Counter
from itertools import combinations

import pytest

from edgecache.quality import dialogues
from edgecache.quality.datasets import Pair
from edgecache.quality.dialogues import KINDS, Conversation, derive, follow_ups

TOWNS = ["Ulm", "Bern", "Graz", "Lyon", "Pisa"]
FRAMES = [
    ("Where can cheap bread be bought in {}?", "Which bakery sells cheap bread in {}?"),
    ("How loud are the church bells in {}?", "Do the church bells make much noise in {}?"),
    ("When do the public gardens open in {}?", "What are the opening hours of public gardens in {}?"),
]


def pairs() -> list[Pair]:
    """Two wordings for each question about each town; the questions differ by town and by subject."""
    made = [Pair("qqp", one.format(town), other.format(town), same=True) for one, other in FRAMES for town in TOWNS]
    for town in TOWNS:
        for (one, _), (other, _) in combinations(FRAMES, 2):
            made.append(Pair("qqp", one.format(town), other.format(town), same=False))
    return [*made, Pair("mrpc", "A sentence about Ulm.", "Another sentence about Ulm.", same=True)]


def target(conversation: Conversation) -> tuple[str, str]:
    """What a follow-up asks for: the subject of the first turn, and the town of the last."""
    first, last = conversation.turns
    (subject,) = [one for one, other in FRAMES if first in [each.format(t) for t in TOWNS for each in (one, other)]]
    return subject, last.strip("?").split()[-1]


def test_questions_that_differ_in_a_last_name_are_follow_ups_of_each_other() -> None:
    found = follow_ups(["How loud are bells in Ulm?", "How loud are bells in Bern?", "Who made bells in Ulm?"])
    assert [(each.first, each.follow_up, each.target, each.turned) for each in found] == [
        ("How loud are bells in Ulm?", "And in Bern?", "How loud are bells in Bern?", "And in Ulm?"),
        ("How loud are bells in Bern?", "And in Ulm?", "How loud are bells in Ulm?", "And in Bern?"),
    ]


@pytest.mark.parametrize(
    "questions",
    [
        ["Is it in Ulm?", "is it in ULM"],
        ["How loud are bells today?", "How loud are bells often?"],
        ["Why Ulm?", "Why Bern?"],
        ["Does a | b hold in Ulm?", "Does a | b hold in Bern?"],
        ["", "?"],
    ],
)
def test_what_differs_in_nothing_or_in_no_name_is_no_follow_up(questions: list[str]) -> None:
    assert follow_ups(questions) == []


def test_a_name_without_a_link_and_a_number_are_asked_for_as_they_are() -> None:
    found = follow_ups(["When did people discover Ulm?", "When did people discover Bern?"])
    assert found[0].follow_up == "And Bern?"
    assert follow_ups(["Who won the cup in 2014?", "Who won the cup in 2018?"])[0].follow_up == "And in 2018?"


def test_conversations_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert derive(pairs(), seed=1, limit=100) == derive(pairs(), seed=1, limit=100)
    assert derive(pairs(), seed=1, limit=100) != derive(pairs(), seed=2, limit=100)


def test_every_kind_is_made_and_about_as_many_as_asked_for() -> None:
    found = derive(pairs(), seed=1, limit=100)
    kinds = Counter(each.kind for each in found)
    assert kinds.keys() == KINDS.keys()
    assert 80 <= len(found) <= 110


def test_follow_ups_have_the_same_answer_where_subject_and_town_are_the_same_and_no_other_has() -> None:
    found = [each for each in derive(pairs(), seed=3, limit=200) if each.turns[1].startswith("And in")]
    kinds = {each.kind for each in found}
    assert {"follow-up", "paraphrase", "swapped", "other context", "hard context"} <= kinds
    known = [each for each in found if each.kind in {"follow-up", "paraphrase", "swapped"}]
    for one, other in combinations(known, 2):
        assert (one.answer == other.answer) == (target(one) == target(other))
    for each in found:
        if each.kind.endswith("context"):
            others = [other for other in known if target(other) != target(each)]
            assert all(other.answer != each.answer for other in others)


def test_a_follow_up_is_answered_as_the_question_that_it_stands_for() -> None:
    found = derive(pairs(), seed=3, limit=200)
    alone = {each.turns[1]: each.answer for each in found if each.kind.startswith("alone")}
    for each in found:
        if each.kind in {"follow-up", "swapped"}:
            subject, town = target(each)
            asked = alone.get(subject.format(town))
            assert asked is None or asked == each.answer


def test_a_hard_context_is_another_question_about_the_same_name_with_the_same_follow_up() -> None:
    found = [each for each in derive(pairs(), seed=3, limit=200) if each.kind == "hard context"]
    followed = {(each.turns[0].strip("?").split()[-1], each.turns[1]) for each in found}
    for town, follow_up in followed:
        alike = [each for each in found if each.turns[0].endswith(f"{town}?") and each.turns[1] == follow_up]
        assert len({each.answer for each in alike}) == len({target(each) for each in alike}) > 1
        assert town not in follow_up


def test_bare_follow_ups_have_an_answer_for_each_context() -> None:
    found = [each for each in derive(pairs(), seed=3, limit=400) if each.kind == "bare"]
    assert found
    for one, other in combinations(found, 2):
        alike = (one.answers[0], one.turns[1]) == (other.answers[0], other.turns[1])
        assert (one.answer == other.answer) == alike


def test_other_sets_than_real_questions_take_no_part() -> None:
    assert not any("sentence" in turn for each in derive(pairs(), seed=1, limit=300) for turn in each.turns)
    assert derive([], seed=1) == []
    assert dialogues.derive([Pair("mrpc", "a", "b", same=True)], seed=1) == []
