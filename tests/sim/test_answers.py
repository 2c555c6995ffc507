import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import tree as config
from edgecache.sim import answers, ask, words
from edgecache.types import Endpoint
from edgecache.wire.jsontext import encode

SETTINGS = config.Core(dialect="vllm")
QUESTION = "In which year was the tower built, and by whom? The short form will do"


def said(body: dict, endpoint: Endpoint = Endpoint.CHAT, *, answer: str = "") -> words.Generated:
    asked = ask.read(endpoint, encode({"model": "edge-test"} | body), SETTINGS, answer=answer)
    (made,) = answers.choices(asked, "vllm", 0)
    return made


def going_on(written: str, question: str = QUESTION) -> dict:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": written}]
    return {"messages": turns, "continue_final_message": True, "add_generation_prompt": False}


def fresh(question: str = QUESTION) -> dict:
    return {"messages": [{"role": "user", "content": question}]}


@given(st.integers(0, 400))
def test_a_chat_goes_on_exactly_where_it_stopped(cut: int) -> None:
    whole = said(fresh())
    rest = said(going_on(whole.text[:cut]))
    assert whole.text[:cut] + rest.text == whole.text
    assert rest.finish_reason == "stop"


@given(st.integers(1, 60), st.text(st.sampled_from("ab .TIn"), min_size=1, max_size=30))
def test_a_completion_goes_on_exactly_where_it_stopped(cut: int, question: str) -> None:
    whole = said({"prompt": question}, Endpoint.COMPLETIONS)
    written = "".join(whole.tokens[:cut])
    rest = said({"prompt": question + written}, Endpoint.COMPLETIONS)
    assert written + rest.text == whole.text


@pytest.mark.parametrize("words_written", [1, 5, 12])
def test_a_completion_with_a_name_goes_on_too(words_written: int) -> None:
    whole = said({"prompt": QUESTION}, Endpoint.COMPLETIONS, answer="tower")
    written = "".join(whole.tokens[:words_written])
    rest = said({"prompt": QUESTION + written}, Endpoint.COMPLETIONS, answer="tower")
    assert written + rest.text == whole.text


def test_a_long_completion_goes_on_within_its_limit() -> None:
    asked = {"prompt": QUESTION, "ignore_eos": True}
    whole = said(asked | {"max_tokens": 300}, Endpoint.COMPLETIONS)
    written = "".join(whole.tokens[:200])
    rest = said({**asked, "prompt": QUESTION + written, "max_tokens": 100}, Endpoint.COMPLETIONS)
    assert (written + rest.text, rest.finish_reason) == (whole.text, "length")


@pytest.mark.parametrize(("written", "left"), [(4, 3), (4, 100)])
def test_the_limit_is_for_what_comes_after(written: int, left: int) -> None:
    whole = said(fresh())
    rest = said(going_on("".join(whole.tokens[:written])) | {"max_tokens": left})
    assert rest.tokens == whole.tokens[written : written + left]
    assert rest.finish_reason == ("length" if left == 3 else "stop")


def test_a_whole_answer_leaves_nothing_to_say() -> None:
    assert said(going_on(said(fresh()).text)) == words.Generated((), "stop")


def test_the_beginning_of_somebody_else_is_followed_by_the_whole_answer() -> None:
    assert said(going_on("It so happens that")).text == " " + said(fresh()).text


@pytest.mark.parametrize("missing", ["continue_final_message", "role"])
def test_an_assistant_turn_is_history_unless_told_otherwise(missing: str) -> None:
    body = going_on("".join(said(fresh()).tokens[:5]))
    if missing == "role":
        body["messages"].append({"role": "user", "content": QUESTION})
    else:
        del body[missing]
    assert said(body) == said(fresh())


def test_a_prompt_that_ends_like_an_answer_but_not_like_its_own_is_only_a_prompt() -> None:
    others = {said({"prompt": question}, Endpoint.COMPLETIONS).tokens[0] for question in ("a", "b", "c", "d", "e")}
    assert len(others) > 1
    for question in ("a", "b", "c", "d", "e"):
        for first in others - {said({"prompt": question}, Endpoint.COMPLETIONS).tokens[0]}:
            assert question + first in said({"prompt": question + first}, Endpoint.COMPLETIONS).text
