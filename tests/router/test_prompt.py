"""What a body holds, whatever else is in it."""

import base64
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.router import prompt
from edgecache.router.demand import Feature
from edgecache.router.prompt import MEDIA, MOST, OVERHEAD, Piece, Prompt
from edgecache.types import Endpoint

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdetxyp_", max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
FIELDS = (
    *("tools", "tool_choice", "functions", "function_call", "response_format", "text", "logprobs", "top_logprobs"),
    *("include", "modalities", "lora_request", "n", "max_tokens", "max_completion_tokens", "max_output_tokens"),
)
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def chat(*contents: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents], **fields}


def features(body: dict[str, Any], endpoint: Endpoint = Endpoint.CHAT) -> int:
    return prompt.read(endpoint, body).features


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, Feature.NONE),
        ({"tools": TOOLS}, Feature.TOOLS),
        ({"tools": TOOLS, "tool_choice": "auto"}, Feature.TOOLS),
        ({"tools": TOOLS, "tool_choice": "none"}, Feature.NONE),
        ({"tools": []}, Feature.NONE),
        ({"functions": [{"name": "f"}]}, Feature.TOOLS),
        ({"functions": [{"name": "f"}], "function_call": "none"}, Feature.NONE),
        ({"response_format": {"type": "text"}}, Feature.NONE),
        ({"response_format": {"type": "json_object"}}, Feature.JSON_OBJECT),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, Feature.JSON_SCHEMA),
        ({"response_format": {"type": "json", "schema": {}}}, Feature.JSON_SCHEMA),
        ({"logprobs": True}, Feature.LOGPROBS),
        ({"logprobs": False}, Feature.NONE),
        ({"logprobs": None}, Feature.NONE),
        ({"modalities": ["text", "audio"]}, Feature.AUDIO),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, Feature.TOOLS | Feature.JSON_OBJECT),
    ],
)
def test_fields_of_a_chat_say_what_a_model_must_be_able_to_do(fields: dict[str, Any], needed: Feature) -> None:
    assert features(chat("hello", **fields)) == needed


@pytest.mark.parametrize(
    ("part", "needed"),
    [
        ({"type": "text", "text": "hi"}, Feature.NONE),
        (PICTURE, Feature.VISION),
        ({"type": "input_image", "image_url": "https://example.com/a.png"}, Feature.VISION),
        ({"type": "video_url", "video_url": {"url": "x"}}, Feature.VISION),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, Feature.AUDIO),
        ({"type": "audio_url", "audio_url": {"url": "x"}}, Feature.AUDIO),
    ],
)
def test_parts_say_so_too_wherever_they_are(part: dict[str, Any], needed: Feature) -> None:
    assert features(chat("first", [{"type": "text", "text": "look"}, part], "last")) == needed
    assert features({"input": [{"role": "user", "content": [part]}]}, Endpoint.RESPONSES) == needed
    output = {"type": "function_call_output", "call_id": "c", "output": [part]}
    assert features({"input": [output]}, Endpoint.RESPONSES) == needed


def test_responses_ask_for_a_format_in_their_own_way() -> None:
    body = {"input": "hi", "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}}
    assert features(body, Endpoint.RESPONSES) == Feature.JSON_SCHEMA
    body = {"input": "hi", "include": ["message.output_text.logprobs"], "tools": [{"type": "web_search"}]}
    assert features(body, Endpoint.RESPONSES) == Feature.LOGPROBS | Feature.TOOLS


def test_a_completion_may_ask_for_the_logprobs_of_its_own_tokens_alone() -> None:
    assert features({"prompt": "a", "logprobs": 0}, Endpoint.COMPLETIONS) == Feature.LOGPROBS
    assert features({"prompt": "a"}, Endpoint.COMPLETIONS) == Feature.NONE


@pytest.mark.parametrize(
    ("endpoint", "body", "limit"),
    [
        (Endpoint.CHAT, {"max_tokens": 7}, 7),
        (Endpoint.CHAT, {"max_tokens": 7, "max_completion_tokens": 5}, 5),
        (Endpoint.CHAT, {"max_tokens": 7, "max_completion_tokens": None}, 7),
        (Endpoint.COMPLETIONS, {"max_tokens": 3}, 3),
        (Endpoint.RESPONSES, {"max_output_tokens": 4, "max_tokens": 9}, 4),
        (Endpoint.EMBEDDINGS, {"max_tokens": 3}, 0),
        (Endpoint.CHAT, {}, 0),
    ],
)
def test_the_limit_is_in_the_endpoint_s_own_field(endpoint: Endpoint, body: dict[str, Any], limit: int) -> None:
    assert prompt.limit(endpoint, body) == limit


def test_a_lora_adapter_is_named_in_trtllm_s_field() -> None:
    assert prompt.lora({"lora_request": {"lora_name": "law", "lora_int_id": 1, "lora_path": "/x"}}) == "law"
    assert prompt.lora({}) == prompt.lora({"lora_request": None}) == prompt.lora({"lora_request": {}}) == ""


def test_text_is_counted_and_pictures_are_guessed_however_large_they_are() -> None:
    text = "What is this?"
    picture = base64.b64encode(random.Random(1).randbytes(200_000)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    read = prompt.read(Endpoint.CHAT, chat([{"type": "text", "text": text}, part]))
    assert read.media
    assert read.fixed == OVERHEAD + MEDIA
    assert len(text) <= read.size <= len(text) + 10


def test_two_pictures_are_not_one_prefix() -> None:
    rng = random.Random(2)
    seen = set()
    for _ in range(3):
        data = base64.b64encode(rng.randbytes(50_000)).decode()
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        seen.add(prompt.prefixes(prompt.read(Endpoint.CHAT, chat([part])), b"", 0.25)[-1].digest)
    assert len(seen) == 3


def test_tools_and_calls_of_tools_are_part_of_the_prompt() -> None:
    plain = prompt.read(Endpoint.CHAT, chat("hi")).size
    assert prompt.read(Endpoint.CHAT, chat("hi", tools=TOOLS)).size >= plain + len(msgspec.json.encode(TOOLS))
    assert prompt.read(Endpoint.CHAT, chat("hi", tools=TOOLS, tool_choice="none")).size == plain
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"arguments": "x" * 500}}]}
    assert prompt.read(Endpoint.CHAT, {"messages": [called]}).size > 500


def test_turns_are_messages_other_than_instructions() -> None:
    system, user = {"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}
    assert prompt.read(Endpoint.CHAT, {"messages": [system, {**system, "role": "developer"}, user]}).turns == 1
    assert prompt.read(Endpoint.CHAT, {"messages": [user, {**user, "role": "assistant"}, user]}).turns == 3
    assert prompt.read(Endpoint.RESPONSES, {"instructions": "be brief", "input": "hi"}).turns == 1
    assert prompt.read(Endpoint.COMPLETIONS, {"prompt": "hi"}).turns == 1


@pytest.mark.parametrize(
    ("given", "size", "fixed", "one"),
    [
        ("héllo", 6, 0, True),
        (["ab"], 2, 0, True),
        (["ab", "cde"], 5, 0, False),
        ([1, 2, 3], 0, 3, True),
        ([[1, 2], [3]], 0, 3, False),
        (None, 0, 0, True),
    ],
)
def test_completions_are_texts_or_token_ids(given: Any, size: int, fixed: int, one: bool) -> None:
    read = prompt.read(Endpoint.COMPLETIONS, {"prompt": given})
    assert (read.size, read.fixed, read.one) == (size, fixed, one)


def test_inputs_of_embeddings_are_no_prefixes() -> None:
    assert prompt.prefixes(prompt.read(Endpoint.EMBEDDINGS, {"input": "x" * 9000}), b"", 0.25) == ()


def test_the_next_turn_begins_with_the_whole_prompt_of_this_one() -> None:
    turns = [f"turn {n} " * 20 for n in range(40)]
    for length in range(1, 36, 2):
        before = prompt.prefixes(prompt.read(Endpoint.CHAT, chat(*turns[:length])), b"t", 0.25)
        after = prompt.prefixes(prompt.read(Endpoint.CHAT, chat(*turns[: length + 2])), b"t", 0.25)
        assert before[-1] in after


def test_conversations_with_one_beginning_share_its_prefix() -> None:
    one = prompt.prefixes(prompt.read(Endpoint.CHAT, chat("rules " * 50, *map(str, range(20)))), b"t", 0.25)
    other = prompt.prefixes(prompt.read(Endpoint.CHAT, chat("rules " * 50, "quite", "different")), b"t", 0.25)
    assert one[0] == other[0]
    assert not {each.digest for each in one[1:]} & {each.digest for each in other[1:]}


def test_long_texts_share_at_least_half_of_what_they_have_in_common() -> None:
    same = "".join(random.Random(3).choices("abcdef ", k=40_000))
    for shared in (3_000, 9_000, 20_000, 35_000):
        one = prompt.prefixes(prompt.read(Endpoint.COMPLETIONS, {"prompt": same}), b"", 0.25)
        other = prompt.read(Endpoint.COMPLETIONS, {"prompt": same[:shared] + "!" * 20_000})
        common = [each.tokens for each in prompt.prefixes(other, b"", 0.25) if each in one]
        assert max(common) >= shared / 2 * 0.25


def test_another_seed_shares_nothing() -> None:
    read = prompt.read(Endpoint.CHAT, chat("a", "b", "c" * 5000))
    one, other = (prompt.prefixes(read, seed, 0.25) for seed in (b"one", b"other"))
    assert not {each.digest for each in one} & {each.digest for each in other}


@given(st.lists(st.integers(0, 9000), max_size=20), st.floats(0, 2))
def test_prefixes_grow_to_the_whole_prompt_and_are_few(sizes: list[int], ratio: float) -> None:
    read = Prompt([Piece(bytes([n]) * size, size, OVERHEAD) for n, size in enumerate(sizes)])
    found = prompt.prefixes(read, b"", ratio)
    assert len(found) <= MOST
    assert bool(found) == bool(sizes)
    assert [each.tokens for each in found] == sorted(each.tokens for each in found)
    assert len({each.digest for each in found}) == len(found) or 0 in sizes
    if found:
        assert abs(found[-1].tokens - (read.fixed + read.size * ratio)) <= 1


@given(
    st.sampled_from(list(Endpoint)),
    st.dictionaries(st.sampled_from(FIELDS), ANYTHING),
    st.lists(st.fixed_dictionaries({}, optional={"content": ANYTHING, "name": ANYTHING, "output": ANYTHING})),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_whatever_a_client_sends_is_read(
    endpoint: Endpoint, fields: dict[str, Any], messages: list[dict[str, Any]], text: str
) -> None:
    given_items = [{"role": "user", **message} for message in messages]
    body = {**fields, "messages": given_items, "prompt": text, "input": text}
    if endpoint is Endpoint.RESPONSES and len(text) % 2:
        body["input"] = given_items
    read = prompt.read(endpoint, body)
    assert read.size >= 0
    assert read.features & ~int(Feature.ANY) == 0
    assert prompt.limit(endpoint, body) >= 0
    assert prompt.choices(body) >= 1
    assert isinstance(prompt.lora(body), str)
    assert isinstance(read.text(), str) or read.media
    prompt.prefixes(read, b"", 0.3)
