import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.sim.words import answer, count, name_of, naming, plain, question, vector


def test_an_answer_repeats_its_question_and_is_always_the_same() -> None:
    first = answer("m", "Why is the sky blue?", 0, None)
    assert "Why is the sky blue?" in first.text
    assert first.finish_reason == "stop"
    assert first == answer("m", "Why is the sky blue?", 0, None)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_different_questions_have_different_answers(one: str, other: str) -> None:
    same = answer("m", one, 0, None).text == answer("m", other, 0, None).text
    assert not same or one.split() == other.split()


def test_another_seed_or_model_may_say_something_else() -> None:
    texts = {answer(model, "q", seed, None).text for model in ("a", "b") for seed in range(10)}
    assert len(texts) > 3


@given(st.integers(0, 80))
def test_a_limit_is_kept_and_named(limit: int) -> None:
    whole = answer("m", "how long is this", 0, None)
    cut = answer("m", "how long is this", 0, limit)
    assert cut.tokens == whole.tokens[:limit]
    assert cut.finish_reason == ("length" if limit < len(whole.tokens) else "stop")


@given(st.integers(0, 300))
def test_ignore_eos_fills_up_to_the_limit(limit: int) -> None:
    full = answer("m", "how long is this", 0, limit, fill=True)
    assert (len(full.tokens), full.finish_reason) == (limit, "length")


def test_a_stop_text_ends_the_answer_before_it() -> None:
    cut = answer("m", "alpha beta gamma", 0, None, ("gamma", "beta"))
    assert cut.text.endswith('"alpha ')
    assert cut.finish_reason == "stop"
    assert answer("m", "alpha beta", 0, 200, ("beta",), fill=True).finish_reason == "stop"


@pytest.mark.parametrize(
    ("body", "text", "tokens"),
    [
        ({"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]}, "a b", 3),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}, "a ", 1),
        ({"messages": [{"role": "system", "content": "x y z"}, {"role": "user", "content": "q"}]}, "q", 4),
        ({"prompt": "a b c"}, "a b c", 3),
        ({"prompt": ["a b", "c"]}, "a b c", 3),
        ({"prompt": [1, 2, 3]}, "1 2 3", 3),
        ({"input": "hello there", "instructions": "be kind"}, "hello there", 4),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}, "hi", 1),
        ({}, "", 1),
    ],
)
def test_the_question_and_its_length_are_read_from_every_kind_of_request(body, text, tokens) -> None:
    assert question(body) == text
    assert count(body) == tokens


def test_the_text_of_odd_content_is_empty() -> None:
    assert plain(None) == plain({}) == plain(7) == ""


def test_a_vector_is_a_direction_that_only_the_text_decides() -> None:
    one, other = vector("a", 64), vector("b", 64)
    assert one.dtype == np.float32
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(one, vector("a", 64))
    assert abs(float(one @ other)) < 0.9


def test_questions_that_name_one_answer_get_it_whatever_they_ask() -> None:
    name = name_of(naming("tower"))
    one, other = (answer("m", asked, 0, None, name=name) for asked in ("How high?", "What is the height?"))
    assert one == other
    assert "How high" not in one.text
    assert one.finish_reason == "stop"


@given(st.text(max_size=30), st.text(max_size=30))
def test_answers_of_different_names_differ_and_any_name_fits_a_header(one: str, other: str) -> None:
    first, second = naming(one), naming(other)
    assert re.fullmatch(r"answer=[0-9a-f]{24}", first)
    same = answer("m", "q", 0, None, name=name_of(first)) == answer("m", "q", 0, None, name=name_of(second))
    assert same == (one == other)


@pytest.mark.parametrize(
    ("given", "name"), [(None, ""), ("", ""), ("vendor=1", ""), ("vendor=1, answer=ab", "ab"), ("answer=", "")]
)
def test_the_name_is_one_of_the_members_of_tracestate(given: str | None, name: str) -> None:
    assert name_of(given) == name
