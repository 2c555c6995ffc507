from typing import Any

import pytest

from edgecache.types import Endpoint
from edgecache.wire.deltas import MalformedError, assemble


def chat(*choices: dict[str, Any], **top: Any) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "choices": list(choices), **top}


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    whole = assemble(Endpoint.CHAT, [chat({"index": 0, "delta": delta}) for delta in deltas])
    merged: dict[str, Any] = whole["choices"][0]["message"]
    return merged


def test_strings_grow_and_the_role_does_not() -> None:
    assert message(
        {"role": "assistant", "content": "", "refusal": None},
        {"role": "assistant", "content": "Hel", "reasoning_content": "a"},
        {"role": "assistant", "content": "lo", "reasoning_content": "b"},
    ) == {"role": "assistant", "content": "Hello", "refusal": None, "reasoning_content": "ab"}


def test_a_delta_without_a_role_is_the_assistants() -> None:
    assert message({"content": "x"}) == {"role": "assistant", "content": "x"}


def test_unknown_fields_are_kept_at_every_level() -> None:
    whole = assemble(
        Endpoint.CHAT,
        [
            chat({"index": 0, "delta": {"content": "x", "audio": {"data": "a", "n": 1}}, "token_ids": [1]}, nvext=None),
            chat({"index": 0, "delta": {"audio": {"data": "b", "n": 2}}, "stop_reason": None, "token_ids": [2]}),
            chat({"index": 0, "delta": {}, "stop_reason": "END", "finish_reason": "stop"}, nvext={"ttft_ms": 3}),
        ],
    )
    assert whole["nvext"] == {"ttft_ms": 3}
    assert whole["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "x", "audio": {"data": "ab", "n": 2}},
            "token_ids": [1, 2],
            "stop_reason": "END",
            "finish_reason": "stop",
        }
    ]


def test_tool_calls_are_merged_by_their_index_which_goes_away() -> None:
    merged = message(
        {"tool_calls": []},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}, {"index": 1, "function": {"arguments": "[]"}}]},
        {"tool_calls": []},
    )
    assert merged["content"] is None
    assert merged["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[]"}},
    ]


def test_content_that_stays_empty_is_null_as_without_streaming() -> None:
    assert message({"role": "assistant", "content": ""}, {"tool_calls": [{"index": 0, "id": "a"}]})["content"] is None


def test_tool_calls_without_an_index_are_taken_as_they_come() -> None:
    assert message({"tool_calls": [{"id": "a"}]}, {"tool_calls": [{"id": "b"}, 5]})["tool_calls"] == [
        {"id": "a"},
        {"id": "b"},
        5,
    ]


def test_logprobs_of_all_chunks_are_kept_in_order() -> None:
    whole = assemble(
        Endpoint.CHAT,
        [
            chat({"index": 0, "delta": {"content": "a"}, "logprobs": None}),
            chat({"index": 0, "delta": {"content": "b"}, "logprobs": {"content": [{"token": "b"}], "refusal": None}}),
            chat({"index": 0, "delta": {"content": "c"}, "logprobs": {"content": [{"token": "c"}], "refusal": None}}),
        ],
    )
    assert whole["choices"][0]["logprobs"] == {"content": [{"token": "b"}, {"token": "c"}], "refusal": None}


def test_choices_are_kept_apart_and_put_in_order() -> None:
    whole = assemble(
        Endpoint.COMPLETIONS,
        [
            {"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]},
            {"choices": [{"index": 0, "text": "A", "finish_reason": "stop"}]},
            {"choices": [{"index": 1, "text": "B", "finish_reason": ""}], "usage": {"prompt_tokens": 1}},
            {"choices": None, "usage": None},
        ],
    )
    assert whole == {
        "object": "text_completion",
        "choices": [
            {"index": 0, "text": "aA", "finish_reason": "stop"},
            {"index": 1, "text": "bB", "finish_reason": ""},
        ],
        "usage": {"prompt_tokens": 1},
    }


def test_an_empty_finish_reason_does_not_undo_one() -> None:
    ends = [{"index": 0, "text": "a", "finish_reason": "stop"}, {"index": 0, "text": "", "finish_reason": ""}]
    whole = assemble(Endpoint.COMPLETIONS, [{"choices": [end]} for end in ends])
    assert whole["choices"][0]["finish_reason"] == "stop"


def test_the_last_usage_counts_and_padding_is_dropped() -> None:
    whole = assemble(
        Endpoint.CHAT, [chat(usage={"n": 1}, obfuscation="xy"), chat(usage={"n": 2}, obfuscation="z"), chat(usage=None)]
    )
    assert whole == {"id": "c", "object": "chat.completion", "choices": [], "usage": {"n": 2}}


def test_a_choice_without_deltas_has_an_empty_message() -> None:
    whole = assemble(Endpoint.CHAT, [chat({"finish_reason": "stop"})])
    assert whole["choices"] == [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None}}
    ]


@pytest.mark.parametrize(
    "chunks",
    [
        [{"choices": {}}],
        [{"choices": ["x"]}],
        [{"choices": [{"index": "0"}]}],
        [{"choices": [{"index": True}]}],
        [{"choices": [{"index": 1, "delta": {}}]}],
        [{"choices": [{"index": 0, "delta": "x"}]}],
        [chat({"delta": {"tool_calls": [{"index": 0}]}}), chat({"delta": {"tool_calls": [{"id": "x"}]}})],
    ],
)
def test_chunks_that_are_no_chunks_are_refused(chunks: list[dict[str, Any]]) -> None:
    with pytest.raises(MalformedError):
        assemble(Endpoint.CHAT, chunks)


def test_a_long_answer_in_short_deltas_is_put_together() -> None:
    content = "".join(chr(97 + number % 26) for number in range(5_000))
    assert message(*({"content": character} for character in content))["content"] == content
