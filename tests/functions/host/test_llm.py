import pytest

from edgecache.functions.answers import Options
from edgecache.functions.manifest import Allow
from edgecache.wasm.hostcalls import Code

MODELS = Allow(llm=("parrot", "embed-*"))


def test_a_prompt_is_answered_for_the_tenant(bench, ask) -> None:
    assert ask(bench.host(MODELS), "llm.infer", "parrot", "h\u00e9llo") == ["acme: h\u00e9llo".encode(), b"5", b"2"]
    assert bench.answers.options == [Options()]


def test_tokens_are_counted_and_those_of_a_prompt_are_in_its_audit(bench, ask, refusal) -> None:
    host = bench.host(MODELS)
    ask(host, "llm.infer", "parrot", "hello")
    assert (bench.tokens("prompt"), bench.tokens("completion")) == (5, 2)
    ask(host, "llm.embed", "embed-small", "ab", "c")
    refusal(host, "llm.infer", "embed-small", "hello")
    assert (bench.tokens("prompt"), bench.tokens("completion")) == (8, 2)
    answered, refused = bench.journal.records("acme", "f")
    assert answered.data == {"op": "llm.infer", "result": "ok", "prompt_tokens": 5, "completion_tokens": 2}
    assert refused.data == {"op": "llm.infer", "result": "not-found"}


def test_options_are_passed_on(bench, ask) -> None:
    ask(bench.host(MODELS), "llm.infer", "parrot", "x", "100", "1.1", "64", "0.8", "40", "0.9")
    ask(bench.host(MODELS), "llm.infer", "parrot", "x", "", "", "", "0", "", "")
    assert bench.answers.options == [Options(100, 1.1, 64, 0.8, 40, 0.9), Options(temperature=0.0)]


@pytest.mark.parametrize("said", ["x", "nan", "inf", "1.5", "0x10"])
def test_options_are_numbers(bench, refusal, said: str) -> None:
    code, message = refusal(bench.host(MODELS), "llm.infer", "parrot", "x", said)
    assert code is Code.INVALID
    assert "max_tokens" in message


def test_texts_become_vectors(bench, ask, refusal) -> None:
    host = bench.host(MODELS)
    assert ask(host, "llm.embed", "embed-small", "ab", "c") == [b"3", bytes(8), bytes(8)]
    assert ask(host, "llm.embed", "embed-small") == [b"0"]
    assert refusal(host, "llm.embed", "embed-small", *["x"] * 257) == (
        Code.INVALID,
        "llm.embed takes 256 texts at most, not 257",
    )


def test_answers_are_looked_up(bench, ask) -> None:
    host = bench.host(Allow(cache=True))
    assert ask(host, "cache.lookup", "m", "known") == [b'{"stored":true}', b"0.970000", b"7"]
    assert ask(host, "cache.lookup", "m", "unknown") == []


def test_only_what_is_granted(bench, refusal) -> None:
    host = bench.host(Allow(llm=("gone",)))
    assert refusal(host, "llm.infer", "gone", "x") == (Code.NOT_FOUND, "there is no model gone")
    assert refusal(host, "llm.infer", "parrot", "x")[0] is Code.DENIED
    assert refusal(host, "llm.embed", "parrot", "x")[0] is Code.DENIED
    assert refusal(host, "cache.lookup", "gone", "known")[0] is Code.DENIED
    assert refusal(host, "llm.infer", "gone", b"\xff")[0] is Code.INVALID


def test_an_answer_that_takes_too_long(bench, refusal) -> None:
    code, message = refusal(bench.host(MODELS, seconds=0.05), "llm.infer", "parrot", "wait")
    assert code is Code.TIMEOUT
    assert "that were left" in message
    assert refusal(bench.host(MODELS, seconds=-1), "llm.infer", "parrot", "x") == (Code.TIMEOUT, "no time was left")
