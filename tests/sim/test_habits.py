from dataclasses import replace

import orjson
import pytest

from edgecache.sim import habits
from edgecache.sim.words import answer
from edgecache.types import Endpoint
from edgecache.upstream.dialects import BOOKKEEPING, DIALECTS
from edgecache.wire.sse import DONE, EventSplitter, data

SIMULATED = [dialect for dialect in DIALECTS if dialect != "edgecache"]  # a neighbour POP is simulated by a POP
GENERATED = (Endpoint.CHAT, Endpoint.COMPLETIONS)


def reply(dialect: str, endpoint: Endpoint = Endpoint.CHAT, *, choices: int = 1, limit: int | None = 3) -> habits.Reply:
    made = [answer("m", "q", index, limit) for index in range(choices)]
    name = habits.answer_id(dialect, endpoint, 7, 2**127)
    return habits.Reply(dialect, endpoint, name, 1_700_000_000, "m", made, 5)


def events(made: habits.Reply, *, usage: bool = False) -> list[bytes]:
    return EventSplitter().feed(b"".join(habits.stream(made, include_usage=usage)))


def chunks(made: habits.Reply, *, usage: bool = False) -> list[dict]:
    return [orjson.loads(data(event)) for event in events(made, usage=usage)[:-1]]


@pytest.mark.parametrize("dialect", SIMULATED)
@pytest.mark.parametrize("endpoint", GENERATED)
def test_a_stream_says_the_same_as_the_whole_answer(dialect, endpoint) -> None:
    made = reply(dialect, endpoint, choices=2)
    whole = orjson.loads(habits.whole(made))
    texts, reasons = ["", ""], ["", ""]
    for chunk in chunks(made):
        assert chunk["id"] == whole["id"]
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or "" if "delta" in choice else choice["text"]
            reasons[choice["index"]] = choice.get("finish_reason") or reasons[choice["index"]]
    said = [choice["message"]["content"] if "message" in choice else choice["text"] for choice in whole["choices"]]
    assert texts == said
    assert reasons == ["length", "length"]
    assert events(made)[-1] == DONE


@pytest.mark.parametrize("dialect", SIMULATED)
def test_usage_comes_last_with_no_choices_and_only_when_asked_for(dialect) -> None:
    last = chunks(reply(dialect), usage=True)[-1]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 5 + 3
    assert all(chunk["choices"] for chunk in chunks(reply(dialect)))


def test_cached_tokens_are_told_except_by_vllm() -> None:
    made = replace(reply("openai"), cached_tokens=3)
    told = {dialect: replace(made, dialect=dialect).usage.get("prompt_tokens_details") for dialect in SIMULATED}
    assert told.pop("vllm") is None
    assert set(map(str, told.values())) == {"{'cached_tokens': 3}"}


def test_one_write_carries_one_token() -> None:
    assert len(habits.stream(reply("vllm", limit=9), include_usage=True)) == 9
    assert len(habits.stream(reply("vllm", limit=0), include_usage=True)) == 1


def test_trtllm_opens_with_a_space_too_many_and_leaves_finish_reason_out() -> None:
    first, *others = events(reply("trtllm"))
    assert first.endswith(b"} \n\n")
    assert not any(event.endswith(b"} \n\n") for event in others)
    choices = [chunk["choices"][0] for chunk in chunks(reply("trtllm"))]
    assert ["finish_reason" in choice for choice in choices] == [False] * (len(choices) - 1) + [True]


@pytest.mark.parametrize("dialect", ["dynamo", "vllm", "openai"])
def test_the_others_say_null_until_the_end(dialect) -> None:
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks(reply(dialect))]
    assert reasons == [None] * (len(reasons) - 1) + ["length"]


def test_dynamo_opens_with_no_chunk_of_its_own_and_ends_with_an_empty_one() -> None:
    first, *others, last = [chunk["choices"][0]["delta"] for chunk in chunks(reply("dynamo"))]
    assert (first["role"], bool(first["content"])) == ("assistant", True)
    assert not any("role" in delta for delta in others)
    assert last == {}


def test_dynamo_leaves_nulls_out_of_completions_but_says_that_there_is_no_usage() -> None:
    made = chunks(reply("dynamo", Endpoint.COMPLETIONS))
    assert all(chunk["usage"] is None for chunk in made)
    assert ["finish_reason" in chunk["choices"][0] for chunk in made] == [False] * (len(made) - 1) + [True]


def test_trtllms_ids_count_and_the_others_are_unique() -> None:
    assert habits.answer_id("trtllm", Endpoint.CHAT, 7, 1) == "chatcmpl-7"
    assert habits.answer_id("trtllm", Endpoint.COMPLETIONS, 7, 1) == "cmpl-7"
    assert habits.answer_id("dynamo", Endpoint.CHAT, 7, 1).count("-") == 5


@pytest.mark.parametrize(
    ("dialect", "code", "expected"),
    [
        ("trtllm", "bad_body", {"error": "no"}),
        ("trtllm", None, {"object": "error", "message": "no", "type": "BadRequestError", "param": None, "code": 400}),
        ("dynamo", "bad_body", {"message": "no", "type": "Bad Request", "code": 400}),
        ("vllm", None, {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": 400}}),
        ("openai", "x", {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "x"}}),
    ],
)
def test_errors_look_as_the_server_writes_them(dialect, code, expected) -> None:
    assert orjson.loads(habits.error(dialect, 400, "no", code)) == expected


def test_dynamo_says_done_after_an_error() -> None:
    assert habits.error_events("dynamo")[1] == DONE
    assert len(habits.error_events("vllm")) == 1


@pytest.mark.parametrize(("dialect", "endpoint"), habits.KNOWN)
def test_what_a_dialect_may_send_is_known_to_the_server(dialect: str, endpoint: Endpoint) -> None:
    known, rules = habits.KNOWN[dialect, endpoint], DIALECTS[dialect]
    assert known & BOOKKEEPING == rules.accepts[endpoint]
    assert ("cache_salt" in known) == (endpoint in rules.salted)
    assert {"stream", "stream_options"} <= known or endpoint is Endpoint.EMBEDDINGS
