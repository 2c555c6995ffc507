import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.functions.wildcard import Wildcard


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("**", "a", True),
        ("ab*ba", "aba", False),
        ("ab*ba", "abba", True),
        ("a*b*c", "a-b-c\n", False),
        ("a*b*c", "a\nb-b-c", True),
        ("[a-z]?", "[a-z]?", True),
        ("[a-z]?", "ab", False),
    ],
)
def test_a_star_is_any_text_and_all_else_is_itself(pattern: str, text: str, matches: bool) -> None:
    assert Wildcard(pattern).matches(text) is matches


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_it_matches_what_a_shell_pattern_matches(pattern: str, text: str) -> None:
    assert Wildcard(pattern).matches(text) is fnmatchcase(text, pattern)


@pytest.mark.parametrize("text", ["a" * 100_000, "ab" * 50_000 + "a", "a" * 59 + "c" * 100_000 + "b"])
def test_no_text_takes_long(text: str) -> None:
    begun = time.perf_counter()
    assert not Wildcard("*a" * 60 + "*b").matches(text)
    assert time.perf_counter() - begun < 0.2
