"""Which questions age within days."""

import pytest

from edgecache.cache.wording import WORDS, is_time_sensitive


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_found_in_any_case_and_beside_punctuation(word: str) -> None:
    assert is_time_sensitive(f"Tell me: {word.capitalize()}?")
    assert is_time_sensitive(word)


@pytest.mark.parametrize(
    "text",
    [
        "What's today's date?",
        "Is it raining NOW",
        "who won the election last night",
        "gold price per ounce",
        "What are the latest phones from Acme?",
    ],
)
def test_questions_about_the_present_are_time_sensitive(text: str) -> None:
    assert is_time_sensitive(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Why is the sky blue?",
        "How do I know that I live in a priceless house?",
        "Where do snowflakes come from?",
        "Which newsletter is best for nowhere people?",
    ],
)
def test_words_that_only_contain_one_are_not(text: str) -> None:
    assert not is_time_sensitive(text)


def test_a_long_text_is_looked_at_from_both_ends() -> None:
    filling = "lorem ipsum " * 5000
    assert is_time_sensitive(f"Today: {filling}")
    assert is_time_sensitive(f"{filling} as of today")
    assert not is_time_sensitive(f"{filling} today {filling}")
