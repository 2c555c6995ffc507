import orjson
import pytest

from edgecache.config import tree as config
from edgecache.sim import ask
from edgecache.types import Endpoint

CHAT = {"model": "edge-test", "messages": [{"role": "user", "content": "why is it so"}]}


def read(body: object, dialect: str = "vllm", endpoint: Endpoint = Endpoint.CHAT, **settings) -> ask.Ask:
    return ask.read(endpoint, orjson.dumps(body), config.Core(dialect=dialect, **settings), answer="tower")


def refused(body: object, dialect: str = "vllm", **settings) -> int:
    with pytest.raises(ask.Refused) as caught:
        read(body, dialect, **settings)
    return caught.value.status


def test_what_matters_later_is_read() -> None:
    asked = read({**CHAT, "stream": True, "stream_options": {"include_usage": True}, "cache_salt": "s"})
    assert (asked.stream, asked.include_usage, asked.salt, asked.answer) == (True, True, "s", "tower")
    assert asked.prompt_tokens == 4
    assert read(CHAT) == ask.Ask(Endpoint.CHAT, CHAT, "edge-test", False, False, 4, "tower")


@pytest.mark.parametrize(("dialect", "usage"), [("trtllm", True), ("vllm", False)])
def test_empty_stream_options_mean_usage_to_trtllm_only(dialect: str, usage: bool) -> None:
    assert read({**CHAT, "stream": True, "stream_options": {}}, dialect).include_usage is usage


@pytest.mark.parametrize(
    ("dialect", "fields", "priority"),
    [
        ("trtllm", {"priority": 0.75}, 0.75),
        ("vllm", {"priority": -2}, -2.0),
        ("dynamo", {"nvext": {"agent_hints": {"priority": 3}}}, 3.0),
        ("dynamo", {"nvext": {"agent_hints": {}}}, None),
        ("dynamo", {"nvext": {}}, None),
        ("openai", {}, None),
    ],
)
def test_each_dialect_has_its_own_priority(dialect: str, fields: dict, priority: float | None) -> None:
    assert read(CHAT | fields, dialect).priority == priority


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("trtllm", {"priority": 2}),
        ("trtllm", {"priority": "high"}),
        ("vllm", {"priority": 0.5}),
        ("vllm", {"priority": True}),
        ("dynamo", {"priority": 1}),
        ("dynamo", {"nvext": {"agent_hints": {"priority": "high"}}}),
        ("openai", {"priority": 1}),
    ],
)
def test_the_priority_of_another_dialect_is_refused(dialect: str, fields: dict) -> None:
    assert refused(CHAT | fields, dialect) == 400


def test_an_adapter_is_a_model_except_for_trtllm_which_has_a_field_for_it() -> None:
    by_name = CHAT | {"model": "legal"}
    assert read(by_name, "vllm", loras=("legal",)).model == "legal"
    assert refused(by_name, "vllm") == 404
    by_field = CHAT | {"lora_request": {"lora_name": "legal", "lora_int_id": 1}}
    assert read(by_field, "trtllm", loras=("legal",)).model == "legal"
    assert refused(by_field, "trtllm") == 400
    assert refused(CHAT | {"lora_request": "legal"}, "trtllm", loras=("legal",)) == 400


def test_trtllm_answers_any_name_with_its_one_model() -> None:
    assert read(CHAT | {"model": "other"}, "trtllm").model == "edge-test"


@pytest.mark.parametrize(("generation_prompt", "ok"), [(False, True), (True, False), (None, False)])
def test_a_message_is_either_continued_or_answered(generation_prompt: bool | None, ok: bool) -> None:
    body = CHAT | {"continue_final_message": True}
    if generation_prompt is not None:
        body["add_generation_prompt"] = generation_prompt
    if ok:
        assert read(body).body == body
    else:
        assert refused(body) == 400


@pytest.mark.parametrize("dialect", ["trtllm", "dynamo"])
def test_only_vllm_and_its_like_can_continue_a_message(dialect: str) -> None:
    body = CHAT | {"continue_final_message": True, "add_generation_prompt": False}
    assert refused(body, dialect) == 400
    assert read(body, "openai").body == body


@pytest.mark.parametrize("body", [[], {"messages": []}, {"model": 3}])
def test_a_body_without_a_model_is_refused(body: object) -> None:
    assert refused(body) == 400


def test_a_prompt_beyond_the_context_is_refused() -> None:
    assert refused(CHAT, max_model_len=3) == 400
