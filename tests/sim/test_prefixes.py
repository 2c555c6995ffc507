import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.sim import words
from edgecache.sim.prefixes import BLOCK, Prefixes, tokens

WORDS = st.lists(st.sampled_from("abc"), max_size=80)


@given(WORDS, WORDS)
def test_what_two_prompts_share_is_found_again_in_whole_blocks(one: list[str], other: list[str]) -> None:
    shared = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    prefixes = Prefixes()
    prefixes.note("", one)
    assert prefixes.known("", other) == max(0, min(shared // BLOCK * BLOCK, len(other) - 1))


def test_the_last_token_is_always_computed() -> None:
    prefixes = Prefixes()
    prompt = ["a"] * (2 * BLOCK)
    prefixes.note("", prompt)
    assert prefixes.known("", prompt) == 2 * BLOCK - 1
    assert prefixes.known("", [*prompt, "b"]) == 2 * BLOCK


def test_scopes_share_nothing() -> None:
    prefixes = Prefixes()
    prefixes.note("one", ["a"] * 40)
    assert prefixes.known("two", ["a"] * 40) == 0
    assert prefixes.known("one", ["a"] * 40) == 32


def test_a_block_counts_only_after_those_before_it() -> None:
    prefixes = Prefixes()
    prefixes.note("", ["a"] * BLOCK + ["b"] * BLOCK)
    assert prefixes.known("", ["c"] * BLOCK + ["b"] * BLOCK) == 0


def test_what_was_not_used_for_longest_is_forgotten() -> None:
    prefixes = Prefixes()
    old, used = (["old"] * 17, ["used"] * 17)
    prefixes.note("", old)
    prefixes.note("", used)
    for number in range(4):
        assert prefixes.known("", used) == BLOCK
        prefixes.note("", [f"{number}"] * 16 * 20_000)
    assert prefixes.known("", old) == 0
    assert prefixes.known("", used) == BLOCK


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello there"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a b"}, {"type": "text", "text": "c"}]}]},
        {"prompt": "one two three"},
        {"prompt": [1, 2, 3]},
        {"input": "hello", "instructions": "in two words"},
    ],
)
def test_a_prompt_has_as_many_words_as_are_counted(body: dict) -> None:
    assert len(tokens(body)) == words.count(body)
