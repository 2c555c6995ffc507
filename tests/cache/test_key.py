"""What makes two requests the same, and whose answers may be told apart by nothing but their place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import key
from edgecache.types import CacheKey, Call, Controls, Endpoint, Tenant

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.RESPONSES
QUESTION = "Why is the sky blue?"
ASKED = {"role": "user", "content": QUESTION}
SYSTEM = {"role": "system", "content": "Answer in one sentence."}
BODY: dict[str, Any] = {"model": "m", "messages": [SYSTEM, ASKED]}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


def call(body: dict[str, Any], endpoint: Endpoint = CHAT, *, tenant: str = "t", model: str = "m", ns: str = "") -> Call:
    return Call("r", Tenant(tenant), endpoint, model, body, b"", controls=Controls(namespace=ns))


def made(made_call: Call, *, embedder: str = "e", end_user: bool = False) -> CacheKey:
    question = key.question(made_call)
    return key.build(made_call, embedder=embedder, end_user=end_user, question=question)


def of(body: dict[str, Any], endpoint: Endpoint = CHAT) -> CacheKey:
    return made(call(body, endpoint))


def same(one: CacheKey, other: CacheKey) -> bool:
    return (one.scope, one.digest) == (other.scope, other.digest)


def test_a_key_says_whose_it_is_and_carries_hashes_and_question() -> None:
    found = made(call(BODY, tenant="acme", ns="blue"))
    assert (found.tenant, found.namespace, found.model, found.text) == ("acme", "blue", "m", QUESTION)
    assert (len(found.scope), len(found.digest), found.max_tokens) == (16, 32, None)


def test_another_last_turn_keeps_the_scope_and_changes_the_digest() -> None:
    one, other = of(BODY), of(BODY | {"messages": [SYSTEM, ASKED | {"content": "Why is grass green?"}]})
    assert one.scope == other.scope
    assert one.digest != other.digest


@pytest.mark.parametrize(
    "other",
    [
        call(BODY, tenant="u"),
        call(BODY, ns="n"),
        call(BODY, model="n"),
        call(BODY, RESPONSES),
        call(BODY | {"messages": [ASKED]}),
        call(BODY | {"messages": [SYSTEM | {"content": "Answer at length."}, ASKED]}),
        call(BODY | {"messages": [SYSTEM, ASKED | {"name": "bob"}]}),
        call(BODY | {"never_heard_of": None}),
        call(BODY | {"temperature": 0}),
        call(BODY | {"seed": "1"}),
        call(BODY | {"max_tokens": 1.5}),
    ],
)
def test_all_else_that_may_change_an_answer_changes_the_scope(other: Call) -> None:
    assert made(other).scope != made(call(BODY)).scope


def test_another_embedder_never_matches_old_entries() -> None:
    assert made(call(BODY), embedder="f").scope != made(call(BODY)).scope


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_tenant_and_namespace_cannot_be_confused(tenant: str, ns: str, other: str, other_ns: str) -> None:
    one, two = made(call(BODY, tenant=tenant, ns=ns)), made(call(BODY, tenant=other, ns=other_ns))
    assert same(one, two) == ((tenant, ns) == (other, other_ns))


@given(texts.filter(lambda name: name not in key.NO_INFLUENCE), values)
def test_a_field_nobody_has_heard_of_separates_answers(name: str, value: Any) -> None:
    assert of(BODY | {f"x_{name}": value}).scope != of(BODY).scope


@given(st.sampled_from(["top_k", "tools", "stop", "response_format", "x"]), values, values)
def test_two_values_of_a_field_share_a_scope_only_if_they_are_the_same_json(name: str, one: Any, other: Any) -> None:
    if of(BODY | {name: one}).scope == of(BODY | {name: other}).scope:
        idle: tuple[Any, ...] = (None, [], {"type": "text"})
        assert one == other or (one in idle and other in idle)


@given(
    st.sampled_from(
        [
            "stream",
            "stream_options",
            "service_tier",
            "metadata",
            "cache",
            "prompt_cache_key",
            "prompt_cache_new",
            "user",
        ]
    ),
    values,
)
def test_a_field_without_influence_changes_nothing(name: str, value: Any) -> None:
    assert same(of(BODY | {name: value}), of(BODY))


@given(st.permutations(["model", "messages", "temperature", "tools", "x"]), st.booleans())
def test_the_order_of_json_keys_is_irrelevant(names: list[str], turned: bool) -> None:
    inner = {"type": "function", "function": {"name": "f", "parameters": {"a": 1, "b": 2}}}
    full = BODY | {"temperature": 0.5, "tools": [inner], "x": {"p": 1, "q": {"r": 2, "s": 3}}}
    body = {name: full[name] for name in names}
    if turned:
        body["x"] = dict(reversed(full["x"].items()))
        body["tools"] = [dict(reversed(inner.items()))]
    assert same(of(body), of(full))


@pytest.mark.parametrize(
    "noise",
    [
        {"n": 1},
        {"tools": []},
        {"stop": []},
        {"logprobs": False},
        {"presence_penalty": 0.0},
        {"response_format": {"type": "text"}},
        {"temperature": None, "top_p": None, "seed": None, "tools": None},
        {"store": False},
    ],
)
def test_what_says_nothing_is_as_good_as_left_out(noise: dict[str, Any]) -> None:
    assert same(of(BODY | noise), of(BODY))


def test_numbers_are_compared_by_value_at_the_top_level_and_types_are_not_mixed() -> None:
    assert of(BODY | {"temperature": 0.0}).scope == of(BODY | {"temperature": 0}).scope
    spellings = [of(BODY | {"x": value}).scope for value in (1, True, "1", [1], None)]
    assert len(set(spellings)) == len(spellings)


def test_end_users_are_apart_only_where_the_configuration_says_so() -> None:
    for name in ("user", "safety_identifier"):
        ann, bob = call(BODY | {name: "ann"}), call(BODY | {name: "bob"})
        assert same(made(ann), made(bob))
        assert made(ann, end_user=True).scope != made(bob, end_user=True).scope


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_token_limit_stands_beside_the_hashes(name: str) -> None:
    limited = of(BODY | {name: 100})
    assert same(limited, of(BODY))
    assert limited.max_tokens == 100
    assert of(BODY | {name: None}).max_tokens is None


def test_of_two_token_limits_the_lower_counts() -> None:
    assert of(BODY | {"max_tokens": 50, "max_completion_tokens": 40}).max_tokens == 40


def test_a_single_text_part_is_the_same_as_a_string_in_any_turn() -> None:
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in (SYSTEM, ASKED)]
    assert same(of(BODY | {"messages": parts}), of(BODY))


def test_nulls_in_messages_are_as_good_as_left_out() -> None:
    echoed = {"role": "assistant", "content": "Hi", "refusal": None, "tool_calls": None}
    plain = {"role": "assistant", "content": "Hi"}
    assert same(of({"messages": [ASKED, echoed, ASKED]}), of({"messages": [ASKED, plain, ASKED]}))


def test_white_space_around_a_turn_and_unicode_composition_do_not_matter_but_case_and_words_do() -> None:
    def digest(content: str) -> bytes:
        return of({"messages": [ASKED | {"content": content}]}).digest

    assert digest("  caf\u00e9?\n") == digest("cafe\u0301?")
    assert len({digest("Caf\u00e9?"), digest("caf\u00e9?"), digest("caf\u00e9"), digest("caf\u00e9  ?")}) == 4


def test_the_prompt_of_a_completion_is_taken_byte_for_byte() -> None:
    one, other = of({"prompt": "def f():\n    "}, COMPLETIONS), of({"prompt": "def f():"}, COMPLETIONS)
    assert one.scope == other.scope
    assert one.digest != other.digest
    assert same(of({"prompt": ["def f():"]}, COMPLETIONS), other)


def test_several_text_parts_are_one_question_but_not_the_same_request_as_their_sum() -> None:
    parts = [{"type": "text", "text": "Why is"}, {"type": "text", "text": "the sky blue?"}]
    split, joined = of({"messages": [ASKED | {"content": parts}]}), of({"messages": [ASKED | {"content": "x"}]})
    assert split.text == "Why is\nthe sky blue?"
    assert split.scope == joined.scope
    whole = of({"messages": [ASKED | {"content": "Why is\nthe sky blue?"}]})
    assert split.digest != whole.digest


def test_a_request_that_may_not_hit_by_meaning_has_the_same_digest_and_no_text() -> None:
    open_, closed = made(call(BODY)), key.build(call(BODY), embedder="e", end_user=False, question=None)
    assert same(open_, closed)
    assert closed.text is None


def test_the_bytes_of_an_image_are_in_the_digest() -> None:
    def shown(data: str) -> CacheKey:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        return of({"messages": [ASKED | {"content": [{"type": "text", "text": "What is this?"}, image]}]})

    assert shown("AAAA").text is None
    assert shown("AAAA").digest != shown("AAAB").digest


def test_an_empty_turn_and_a_missing_one_are_not_the_same_request() -> None:
    empty, missing = of({"messages": [{"role": "user", "content": ""}]}), of({"messages": [{"role": "user"}]})
    assert not same(empty, missing)


def test_the_forms_of_a_responses_input_are_the_same() -> None:
    forms: list[Any] = [
        QUESTION,
        [ASKED],
        [ASKED | {"type": "message"}],
        [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}],
    ]
    keys = [of({"input": form, "store": False}, RESPONSES) for form in forms]
    assert all(same(keys[0], other) and other.text == QUESTION for other in keys)


def test_earlier_items_and_instructions_of_a_responses_input_are_in_the_scope() -> None:
    bare = of({"input": [ASKED]}, RESPONSES)
    assert of({"input": [SYSTEM, ASKED]}, RESPONSES).scope != bare.scope
    assert of({"input": [ASKED], "instructions": "Be brief."}, RESPONSES).scope != bare.scope
    assert (
        of({"input": [SYSTEM | {"type": "message"}, ASKED]}, RESPONSES).scope
        == of({"input": [SYSTEM, ASKED]}, RESPONSES).scope
    )


@pytest.mark.parametrize(
    ("endpoint", "body", "expected"),
    [
        (CHAT, {"messages": [ASKED]}, QUESTION),
        (CHAT, {"messages": [ASKED, {"role": "assistant", "content": "Because."}]}, None),
        (CHAT, {"messages": [ASKED, {"role": "tool", "content": "42", "tool_call_id": "1"}]}, None),
        (CHAT, {"messages": [SYSTEM]}, None),
        (CHAT, {"messages": [{"role": "user", "content": " \n"}]}, None),
        (CHAT, {"messages": [{"role": "user", "content": None}]}, None),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, None),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "more": 1}]}]}, None),
        (CHAT, {"messages": [{"role": "user", "content": ["x"]}]}, None),
        (CHAT, {"messages": ["x"]}, None),
        (CHAT, {"messages": []}, None),
        (CHAT, {}, None),
        (COMPLETIONS, {"prompt": "Once upon"}, "Once upon"),
        (COMPLETIONS, {"prompt": ["Once upon"]}, "Once upon"),
        (COMPLETIONS, {"prompt": ["Once", "upon"]}, None),
        (COMPLETIONS, {"prompt": [1, 2]}, None),
        (COMPLETIONS, {"prompt": "  "}, None),
        (EMBEDDINGS, {"input": QUESTION}, None),
        (RESPONSES, {"input": QUESTION}, QUESTION),
        (RESPONSES, {"input": [SYSTEM, ASKED]}, QUESTION),
        (RESPONSES, {"input": [ASKED, {"type": "function_call_output", "output": "42"}]}, None),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}, None),
    ],
)
def test_only_a_last_user_turn_of_text_is_a_question(
    endpoint: Endpoint, body: dict[str, Any], expected: str | None
) -> None:
    assert key.question(call(body, endpoint)) == expected


def test_the_fields_of_the_scope_can_be_shown_tenant_first_and_without_the_question() -> None:
    shown = key.fields(call(BODY | {"temperature": 0.2}, tenant="acme"), embedder="e", end_user=False)
    assert list(shown) == [
        "tenant",
        "namespace",
        "endpoint",
        "model",
        "embedder",
        "canonicaliser",
        "turn_apart",
        "history",
        "body",
    ]
    assert shown["body"] == {"messages": [SYSTEM, {"role": "user"}], "temperature": 0.2}
    assert QUESTION not in json.dumps(shown)


@given(st.sampled_from(list(Endpoint)), st.dictionaries(st.sampled_from(["messages", "input", "prompt", "x"]), values))
def test_any_body_has_a_key(endpoint: Endpoint, body: dict[str, Any]) -> None:
    assert same(of(body, endpoint), of(json.loads(json.dumps(body)), endpoint))


@pytest.mark.parametrize(
    ("body", "named"), [({}, False), ({"user": ""}, False), ({"user": "u"}, True), ({"safety_identifier": "s"}, True)]
)
def test_a_request_names_its_end_user_or_not(body: dict[str, Any], named: bool) -> None:
    assert key.has_end_user(call({"messages": []} | body)) is named


# ------------------------------------------------------------------------------------------------ contextual matching

PARIS = {"role": "user", "content": "What is the best restaurant in Paris?"}
HORSE = {"role": "user", "content": "How long does a horse live?"}
ANSWER = {"role": "assistant", "content": "Chez Nous."}
BERLIN = {"role": "user", "content": "And in Berlin?"}
FRANCE = {"role": "user", "content": "What is the capital of France?"}


def contextual(*messages: Any, endpoint: Endpoint = CHAT, **fields: Any) -> CacheKey:
    name = "input" if endpoint is RESPONSES else "messages"
    asked = call({name: list(messages)} | fields, endpoint)
    return key.build(asked, embedder="e", end_user=False, question=key.question(asked), contextual=True)


def history(*messages: Any, **fields: Any) -> Any:
    asked = call({"messages": list(messages)} | fields)
    return key.fields(asked, embedder="e", end_user=False, contextual=True)["history"]


def test_a_turn_that_stands_alone_has_one_scope_after_any_history_and_none_and_another_digest_each() -> None:
    found = [contextual(FRANCE), contextual(HORSE, ANSWER, FRANCE)]
    found.append(contextual(HORSE, {"role": "assistant", "content": "25 years."}, FRANCE))
    assert {each.text for each in found} == {FRANCE["content"]}
    assert len({each.scope for each in found}) == 1
    assert len({each.digest for each in found}) == 3
    assert history(HORSE, ANSWER, FRANCE) == ["alone"]


def test_a_follow_up_carries_its_context_in_the_text_and_leaves_it_out_of_the_scope() -> None:
    london = {"role": "user", "content": "Which restaurant is the best in London?"}
    one, other = contextual(PARIS, ANSWER, BERLIN), contextual(london, ANSWER | {"content": "The Ivy."}, BERLIN)
    assert one.text == f"{PARIS['content']} | And in Berlin?"
    assert one.scope == other.scope
    assert one.text != other.text
    assert one.digest != other.digest
    assert history(PARIS, ANSWER, BERLIN) == ["follow-up", "in", "berlin"]


def test_follow_ups_for_something_else_and_turns_that_stand_alone_are_never_candidates_of_each_other() -> None:
    rome = {"role": "user", "content": "And in Rome?"}
    found = [
        contextual(PARIS, ANSWER, BERLIN),
        contextual(PARIS, ANSWER, rome),
        contextual(BERLIN),
        contextual(PARIS, ANSWER, {"role": "user", "content": "Why?"}),
        contextual(FRANCE, ANSWER, {"role": "user", "content": "Why?"}),
    ]
    assert len({each.scope for each in found}) == len(found)
    assert found[3].text == "Why?"


def test_contextual_and_exact_scopes_never_mix() -> None:
    conversations: list[list[Any]] = [
        [FRANCE],
        [HORSE, ANSWER, FRANCE],
        [PARIS, ANSWER, BERLIN],
        [SYSTEM, FRANCE],
    ]
    exact = [of({"messages": messages}) for messages in conversations]
    loose = [contextual(*messages) for messages in conversations]
    assert {each.scope for each in exact}.isdisjoint(each.scope for each in loose)
    assert {each.digest for each in exact}.isdisjoint(each.digest for each in loose)


def test_what_keeps_its_history_has_the_key_it_has_without_contextual_matching() -> None:
    messages = [PARIS, ANSWER, {"role": "user", "content": "Translate that."}]
    assert contextual(*messages) == of({"messages": messages})


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"x": 1}, {"stop": ["."]}],
)
def test_system_prompt_and_all_parameters_stay_in_the_scope(fields: dict[str, Any]) -> None:
    for messages in ([HORSE, ANSWER, FRANCE], [PARIS, ANSWER, BERLIN]):
        scopes = {
            contextual(*messages).scope,
            contextual(*messages, **fields).scope,
            contextual(SYSTEM, *messages).scope,
            contextual(SYSTEM, SYSTEM, *messages).scope,
            contextual(SYSTEM | {"role": "developer"}, *messages).scope,
            contextual(SYSTEM | {"content": "Answer at length."}, *messages).scope,
            contextual(*messages[:-1], messages[-1] | {"name": "bob"}).scope,
        }
        assert len(scopes) == 7


@pytest.mark.parametrize(
    "earlier",
    [
        [HORSE],
        [HORSE, HORSE],
        [ANSWER],
        [ANSWER, HORSE],
        [HORSE, ANSWER, ANSWER],
        [HORSE, SYSTEM, ANSWER],
        [HORSE, ANSWER, SYSTEM],
        [HORSE | {"name": "bob"}, ANSWER],
        [HORSE, ANSWER | {"tool_calls": [{"id": "1"}]}],
        [HORSE, ANSWER | {"content": None}],
        [HORSE, ANSWER | {"content": ""}],
        [HORSE | {"content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}, ANSWER],
        [HORSE, {"role": "tool", "content": "42", "tool_call_id": "1"}],
        [HORSE, {"content": "x"}],
        [HORSE, "x"],
        ["x", ANSWER],
    ],
)
def test_a_history_that_is_more_than_turns_of_text_stays_in_the_scope(earlier: list[Any]) -> None:
    assert contextual(*earlier, FRANCE) == of({"messages": [*earlier, FRANCE]})
    assert history(*earlier, FRANCE) == ["exact"]


def test_the_forms_of_a_request_have_one_contextual_key_too() -> None:
    parts = [{"type": "text", "text": FRANCE["content"]}]
    echoed = ANSWER | {"refusal": None}
    assert same(contextual(HORSE, echoed, FRANCE | {"content": parts}), contextual(HORSE, ANSWER, FRANCE))
    asked = call({"input": FRANCE["content"]}, RESPONSES)
    text = key.build(asked, embedder="e", end_user=False, question=key.question(asked), contextual=True)
    assert same(text, contextual(FRANCE, endpoint=RESPONSES))
    assert contextual(HORSE, ANSWER, FRANCE, endpoint=RESPONSES).scope == text.scope


def test_a_request_that_may_not_hit_by_meaning_has_the_same_contextual_key_and_no_text() -> None:
    asked = call({"messages": [PARIS, ANSWER, BERLIN]})
    closed = key.build(asked, embedder="e", end_user=False, question=None, contextual=True)
    assert same(closed, contextual(PARIS, ANSWER, BERLIN))
    assert closed.text is None


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (COMPLETIONS, {"prompt": "What is the capital of France?"}),
        (COMPLETIONS, {"prompt": "x", "messages": []}),
        (COMPLETIONS, {"prompt": "x", "messages": [SYSTEM]}),
        (EMBEDDINGS, {"input": "What is the capital of France?"}),
        (CHAT, {"messages": [SYSTEM]}),
        (CHAT, {"messages": [FRANCE | {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}),
    ],
)
def test_what_is_no_conversation_is_keyed_as_ever(endpoint: Endpoint, body: dict[str, Any]) -> None:
    asked = call(body, endpoint)
    found = key.build(asked, embedder="e", end_user=False, question=key.question(asked), contextual=True)
    assert found == of(body, endpoint)


turns = st.sampled_from(
    ["Why?", "And in Berlin?", "How old is he?", "Hi", "a | b", "What is ibuprofen?", "What are the side effects?"]
    + [str(message["content"]) for message in (PARIS, HORSE, FRANCE)]
)


@given(st.lists(turns, min_size=2, max_size=4), st.lists(turns, min_size=2, max_size=4))
def test_one_text_in_one_scope_means_one_context(one: list[str], other: list[str]) -> None:
    def keyed(said: list[str]) -> CacheKey:
        messages: list[Any] = []
        for turn in said:
            messages += [{"role": "user", "content": turn}, ANSWER]
        return contextual(*messages[:-1])

    here, there = keyed(one), keyed(other)
    if (here.scope, here.text) == (there.scope, there.text):
        assert one[-1] == other[-1]
        if one[-1] != FRANCE["content"]:  # the only one here that stands alone
            assert one[-2] == other[-2]


@given(st.sampled_from(list(Endpoint)), st.dictionaries(st.sampled_from(["messages", "input", "prompt", "x"]), values))
def test_any_body_has_a_contextual_key(endpoint: Endpoint, body: dict[str, Any]) -> None:
    asked = call(body, endpoint)
    key.build(asked, embedder="e", end_user=False, question=key.question(asked), contextual=True)


words = st.lists(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3
)


@given(one=words, other=words)
def test_a_divided_key_meets_only_those_divided_by_the_same_words(one: list[str], other: list[str]) -> None:
    plain = of(BODY)
    divided = key.divided(plain, one)
    assert divided.scope != plain.scope
    assert divided.digest != plain.digest
    assert (divided.tenant, divided.model, divided.text) == (plain.tenant, plain.model, plain.text)
    assert same(divided, key.divided(plain, other)) is (one == other)
    assert not same(divided, key.divided(of({**BODY, "messages": [ASKED]}), one))


def test_a_key_can_be_divided_by_what_is_no_text() -> None:
    plain = of(BODY)
    assert not same(key.divided(plain, ["\udcff"]), key.divided(plain, ["\udcfe"]))
