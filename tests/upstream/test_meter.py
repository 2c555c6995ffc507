import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.types import Endpoint
from edgecache.upstream.meter import Meter, Usage, finishes
from edgecache.wire.openai import is_usage_chunk
from edgecache.wire.sse import DONE, data, frame


def chunk(**choice: object) -> bytes:
    return frame(orjson.dumps({"choices": [{"index": 0, **choice}]}))


OPENING = chunk(delta={"role": "assistant", "content": ""}, finish_reason=None)
HI = chunk(delta={"content": "hi"}, finish_reason=None)
END = chunk(delta={}, finish_reason="stop")


def told(**usage: object) -> bytes:
    return frame(orjson.dumps({"choices": [], "usage": usage}))


def test_the_upstreams_own_word_counts_zero_included() -> None:
    meter = Meter(Endpoint.CHAT)
    said = told(prompt_tokens=9, completion_tokens=0, prompt_tokens_details={"cached_tokens": 0})
    meter.events([OPENING, HI, END, said, DONE])
    assert meter.usage(77) == Usage(9, 0, 0, estimated=False)


def test_cached_tokens_are_part_of_the_prompt_and_never_more() -> None:
    meter = Meter(Endpoint.CHAT)
    meter.events([told(prompt_tokens=9, completion_tokens=1, prompt_tokens_details={"cached_tokens": 50})])
    assert meter.usage(0).cached == 9


def test_without_usage_one_token_a_piece_that_came_is_counted_and_marked() -> None:
    meter = Meter(Endpoint.CHAT)
    meter.events([OPENING, HI])
    meter.events([HI, HI])
    assert meter.usage(12) == Usage(12, 3, 0, estimated=True)
    assert meter.text() == "hihihi"


def test_an_answer_begins_with_what_was_generated_not_with_its_role() -> None:
    meter = Meter(Endpoint.CHAT)
    meter.events([b": ping\n\n", OPENING])
    assert not meter.begun
    meter.events([HI])
    assert (meter.begun, meter.finished) == (True, False)
    meter.events([END])
    assert meter.finished


@pytest.mark.parametrize(
    "delta",
    [{"reasoning_content": "hm"}, {"tool_calls": [{"index": 0}]}, {"refusal": "no"}, {"function_call": {"name": "f"}}],
)
def test_reasoning_and_calls_are_generated_too_but_are_not_words(delta: dict[str, object]) -> None:
    meter = Meter(Endpoint.CHAT)
    meter.events([chunk(delta=delta)])
    assert meter.begun
    assert meter.usage(0).completion == 1
    assert meter.text() == ""


def test_completions_have_text() -> None:
    meter = Meter(Endpoint.COMPLETIONS)
    meter.events([chunk(text="on"), chunk(text="ce", finish_reason="length"), DONE])
    assert (meter.text(), meter.finished) == ("once", True)


def test_responses_name_their_tokens_otherwise() -> None:
    meter = Meter(Endpoint.RESPONSES)
    meter.events([frame(b'{"delta":"hi"}', "response.output_text.delta")])
    assert (meter.begun, meter.text()) == (True, "hi")
    usage = {"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}
    meter.events([frame(orjson.dumps({"response": {"usage": usage}}), "response.completed")])
    assert meter.usage(0) == Usage(5, 2, 4, estimated=False)


def test_a_whole_answer_is_read_from_its_body() -> None:
    meter = Meter(Endpoint.CHAT)
    meter.body(b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}')
    assert meter.usage(0) == Usage(3, 4, 0, estimated=False)


def test_a_whole_answer_without_usage_is_estimated_by_its_text() -> None:
    message = {"role": "assistant", "content": "x" * 40}
    meter = Meter(Endpoint.CHAT)
    meter.body(orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    assert meter.usage(6) == Usage(6, 10, 0, estimated=True)


def test_embeddings_generate_nothing() -> None:
    meter = Meter(Endpoint.EMBEDDINGS)
    meter.body(b'{"object":"list","data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}')
    assert meter.usage(0) == Usage(3, 0, 0, estimated=False)


@pytest.mark.parametrize("body", [b"null", b"", b"[]", b"  null "])
def test_an_answer_that_is_no_object_is_empty(body: bytes) -> None:
    meter = Meter(Endpoint.CHAT)
    meter.body(body)
    assert (meter.empty, meter.begun) == (True, False)


@pytest.mark.parametrize("usage", [{"prompt_tokens": -1, "completion_tokens": 1}, {"prompt_tokens": "many"}, 7, None])
def test_what_are_no_numbers_of_tokens_is_not_believed(usage: object) -> None:
    meter = Meter(Endpoint.CHAT)
    meter.body(orjson.dumps({"usage": usage}))
    assert meter.usage(8) == Usage(8, 0, 0, estimated=True)


@given(st.lists(st.binary(max_size=60)))
def test_whatever_comes_is_no_error(parts: list[bytes]) -> None:
    for endpoint in Endpoint:
        meter = Meter(endpoint)
        meter.events([b"data: " + part + b"\n\n" for part in parts])
        usage = meter.usage(1)
        assert usage.completion >= 0
        assert isinstance(meter.text(), str)


def test_what_is_too_long_to_keep_is_still_counted() -> None:
    meter = Meter(Endpoint.CHAT)
    long = chunk(delta={"content": "x" * 1_000_000})
    meter.events([long] * 6)
    assert meter.usage(0).completion == 6
    assert len(meter.text()) == 4_000_000


PIECES = [b'"finish_reason"', b":", b": ", b" : ", b"null", b'"stop"', b",", b'"usage"', b'{"prompt_tokens":2}', b"{}"]
REASONS = st.lists(st.sampled_from([*PIECES, b"\n", b"x"]), max_size=12).map(b"".join)


def last_reason_is_a_string(event: bytes) -> bool:
    _, key, value = event.rpartition(b'"finish_reason"')
    return bool(key) and value.lstrip(b" :").startswith(b'"')


@given(REASONS)
def test_the_last_finish_reason_of_an_event_counts(event: bytes) -> None:
    assert finishes(event) is last_reason_is_a_string(event)


USAGES = st.sampled_from([None, {}, {"prompt_tokens": 1, "completion_tokens": 2}, {"prompt_tokens": 3}, "many", 7, []])
SAID = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.sampled_from([{"finish_reason": None}, {"finish_reason": "stop"}, {"text": "a"}]), max_size=3
        )
    },
    optional={"usage": USAGES, "response": st.fixed_dictionaries({"usage": USAGES})},
)
LINES = st.builds(
    lambda value, compact: json.dumps(value, separators=(",", ":") if compact else None).encode(), SAID, st.booleans()
)


@given(st.lists(st.lists(st.one_of(LINES.map(frame), REASONS.map(frame), st.just(DONE)), max_size=4), max_size=4))
def test_events_are_read_alike_together_and_each_by_itself(chunks: list[list[bytes]]) -> None:
    together, single = Meter(Endpoint.CHAT), Meter(Endpoint.CHAT)
    for events in chunks:
        told = together.events(events)
        assert [event for event in events if is_usage_chunk(event)] == [
            event for event in told if is_usage_chunk(event)
        ]
        for event in events:
            single.events([event])
    assert together.finished is any(last_reason_is_a_string(event) for events in chunks for event in events)
    assert (together.begun, together.finished) == (single.begun, single.finished)
    assert together.usage(9) == single.usage(9)
    said = Meter(Endpoint.CHAT)
    for events in chunks:
        for event in events:
            if b'"usage"' in event and (payload := data(event)):  # decoded each, whatever is in it
                said._read(payload)
    assert together._said == said._said


@pytest.mark.parametrize("told", [b'"usage":null', b'"usage": null', b'"usage" :\tnull'])
def test_an_event_without_its_usage_is_not_looked_into(told: bytes) -> None:
    meter = Meter(Endpoint.CHAT)
    assert meter.events([frame(b'{"choices":[],' + told + b"}")]) == []


def test_a_finish_reason_is_a_string() -> None:
    assert finishes(b'"finish_reason" : "stop"')
    assert not finishes(b'"finish_reason":null')
    assert not finishes(b"nothing")
