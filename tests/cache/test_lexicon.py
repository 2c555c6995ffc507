"""How texts are cut into words, and what the tables promise."""

import pytest

from edgecache.cache import lexicon


def words(text: str) -> list[str]:
    return [match.group() for match in lexicon.WORD.finditer(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't use C++ or C#!", ["Don't", "use", "C++", "or", "C#"]),
        ("-5 and +1.5, 3-2", ["-5", "and", "+1.5", "3-2"]),
        ("1,000 at 10:30 on 2024-01-05.", ["1,000", "at", "10:30", "on", "2024-01-05"]),
        ("5kg for $3 = 10%", ["5", "kg", "for", "$", "3", "=", "10", "%"]),
        ("naïve Привет 東京", ["naïve", "Привет", "東京"]),
        ("snake_case v3.11.2", ["snake", "case", "v", "3.11.2"]),
    ],
)
def test_a_text_is_cut_into_words_numbers_and_signs(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("buying", "buy"), ("boxes", "boxed"), ("increase", "increasing"), ("movies", "movie"), ("converts", "converted")],
)
def test_forms_of_a_word_share_a_stem(one: str, other: str) -> None:
    assert lexicon.stem(one) == lexicon.stem(other)


@pytest.mark.parametrize("word", ["is", "bus", "glass", "red", "sing", "python"])
def test_short_words_keep_their_ends(word: str) -> None:
    assert lexicon.stem(word) == word


def test_spellings_of_a_name_squeeze_to_one() -> None:
    assert {lexicon.squeeze(name) for name in ("Node.js", "node-js?", '"nodeJS"', "Node.js's")} == {"nodejs"}
    assert lexicon.squeeze("C++") != lexicon.squeeze("C#") != lexicon.squeeze("C")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("twelve", ["12"]),
        ("1,000", ["1000"]),
        ("1,00", ["1,00"]),
        ("+5", ["5"]),
        ("-5", ["-5"]),
        ("3.10", ["3.10"]),
        ("20-25", ["20", "25"]),
        ("2024-01-05", ["2024-01-05"]),
        ("jan", ["january"]),
        ("table", []),
    ],
)
def test_words_stand_for_numbers(word: str, expected: list[str]) -> None:
    assert lexicon.values(word) == expected


def test_the_tables_are_in_the_form_they_are_looked_up_in() -> None:
    for table in (
        lexicon.NUMBERS,
        lexicon.UNITS,
        lexicon.CURRENCIES,
        lexicon.NEGATORS,
        lexicon.FILLERS,
        lexicon.NAMELESS,
    ):
        assert all(word == word.casefold().strip() for word in table)
    for word, opposites in lexicon.OPPOSITE.items():
        assert word not in opposites
        assert all(word in lexicon.OPPOSITE[opposite] for opposite in opposites)
