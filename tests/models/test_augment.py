"""Edits of questions: each changes what it says it changes, and nothing where it does not apply."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.verifier import augment


def edit(kind: str, text: str, seed: int = 0) -> str | None:
    return augment.different(["Zanzibar"])[kind](text, random.Random(seed))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("opposite", "How do I gain weight?"),
        ("number", "What is 5 times 7?"),
        ("name", "Why is Donald so loud?"),
        ("negate", "Should I eat eggs?"),
        ("modifier", "How do I sell a house?"),
        ("tense", "Why is the sky blue?"),
        ("asked", "How do cats purr?"),
        ("roles", "How many euros from dollars?"),
        ("narrower", "How do I learn to cook?"),
    ],
)
def test_each_kind_changes_its_own_example(kind: str, text: str) -> None:
    made = [edit(kind, text, seed) for seed in range(20)]
    assert any(new not in (None, text) for new in made)


@pytest.mark.parametrize("kind", ["opposite", "number", "name", "roles"])
def test_where_an_edit_does_not_apply_there_is_none(kind: str) -> None:
    assert edit(kind, "hm?") is None


def test_a_number_becomes_another_number() -> None:
    for seed in range(50):
        new = edit("number", "Is 2016 over?", seed)
        assert new is None or (new != "Is 2016 over?" and new.startswith("Is ") and new.endswith(" over?"))


def test_the_passive_and_the_turned_passive_have_the_same_words() -> None:
    turned = augment.reversed_active("Why did Brazil attack Peru?")
    assert turned == ("Why was Peru attacked by Brazil?", "Why was Brazil attacked by Peru?")


def test_two_modifiers_are_never_the_same() -> None:
    for seed in range(30):
        one, other = augment.another_modifier("How do I sell a house?", random.Random(seed)) or ("", "x")
        assert one != other


@given(st.text(max_size=80), st.integers(0, 5))
def test_no_text_breaks_an_edit(text: str, seed: int) -> None:
    for change in (*augment.different(["Zanzibar"]).values(), *augment.SAME.values()):
        assert isinstance(change(text, random.Random(seed)), str | None)
    augment.reversed_active(text)
    augment.another_modifier(text, random.Random(seed))


def test_names_are_learned_from_where_they_stand() -> None:
    texts = ["Who is Yoda?", "Is Yoda old?", "Why does Yoda talk so?", "Is Once enough?"]
    assert augment.proper_names(texts) == ["Yoda"]
