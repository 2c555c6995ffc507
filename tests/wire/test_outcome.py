import dataclasses

import msgspec
import pytest

from edgecache.wire.outcome import Finished, Unfinished, Usage


def test_an_outcome_is_a_value() -> None:
    assert Finished(b"{}", "stop") == Finished(b"{}", "stop", None, None, tool_calls=False)
    assert Unfinished("empty") == Unfinished("empty")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Unfinished("empty").reason = "stop"  # type: ignore[misc]


def test_usage_reads_the_names_of_every_endpoint_and_ignores_details() -> None:
    chat = {
        "prompt_tokens": 3,
        "completion_tokens": 0,
        "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert msgspec.convert(chat, Usage) == Usage(prompt_tokens=3, completion_tokens=0)
    assert msgspec.convert({"input_tokens": 3, "output_tokens": 4}, Usage) == Usage(input_tokens=3, output_tokens=4)
