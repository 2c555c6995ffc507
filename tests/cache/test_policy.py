"""The decision table, row by row, and the rules of freshness."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import key as keys
from edgecache.cache import policy
from edgecache.cache.policy import Decision, Freshness
from edgecache.config import Cache, ScopePolicy, Semantic
from edgecache.types import Call, Controls, Endpoint, Entry, Mode, Tenant
from edgecache.wire.answers import Finished

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.RESPONSES
ASKED = {"role": "user", "content": "Why is the sky blue?"}
TEMPERED = Cache(omitted_temperature="bypass")
FUNCTION = {"type": "function", "function": {"name": "f"}}
NOW = 1_700_000_000.0


def part(kind: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [ASKED | {"content": [{"type": "text", "text": "What is this?"}, {"type": kind, **fields}]}]}


def call(body: dict[str, Any], endpoint: Endpoint = CHAT, **controls: Any) -> Call:
    full = {"messages": [ASKED]} | body if endpoint is CHAT else body
    return Call("r", Tenant("t"), endpoint, "m", full, json.dumps(full).encode(), controls=Controls(**controls))


def decide(body: dict[str, Any], endpoint: Endpoint = CHAT, settings: Cache | None = None, **controls: Any) -> Decision:
    return policy.decide(call(body, endpoint, **controls), settings or Cache())


def both(decision: Decision) -> bool:
    return decision.exact and decision.semantic and decision.store and not decision.refresh


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"temperature": None},
        {"temperature": 0},
        {"temperature": 0.3},
        {"n": 1, "logprobs": False, "logit_bias": {}, "seed": None, "tools": [], "top_logprobs": 0},
        {"store": False, "background": False, "include": [], "modalities": ["text"], "audio": None},
        {"stream": True, "service_tier": "flex", "metadata": {"a": "b"}, "user": "ann"},
        {"messages": [{"role": "system", "content": "Be brief."}, ASKED]},
        {"messages": [ASKED, {"role": "assistant", "content": "Because."}] * 3 + [ASKED]},
        {"messages": [ASKED | {"content": [{"type": "text", "text": "Why?"}]}]},
        {"messages": ["odd", ASKED]},
    ],
)
def test_an_ordinary_question_belongs_to_both_tiers(body: dict[str, Any]) -> None:
    decision = decide(body)
    assert both(decision)
    assert (decision.bypass, decision.exact_only, decision.ttl, decision.floor) == (None, None, 86_400, 0.6)


def test_completions_and_stateless_responses_belong_to_both_tiers() -> None:
    assert both(decide({"prompt": "Once upon"}, COMPLETIONS))
    assert both(decide({"input": "Why is the sky blue?", "store": False}, RESPONSES))


@pytest.mark.parametrize(
    ("reason", "endpoint", "body"),
    [
        ("temperature", CHAT, {"temperature": 0.31}),
        ("temperature", CHAT, {"temperature": "0"}),
        ("stateful", CHAT, {"store": True}),
        ("stateful", CHAT, {"include": ["x"]}),
        ("stateful", RESPONSES, {"input": "x"}),
        ("stateful", RESPONSES, {"input": "x", "store": None}),
        ("stateful", RESPONSES, {"input": "x", "store": True}),
        ("stateful", RESPONSES, {"input": "x", "store": False, "background": True}),
        ("stateful", RESPONSES, {"input": "x", "store": False, "conversation": "c"}),
        ("stateful", RESPONSES, {"input": "x", "store": False, "previous_response_id": "r"}),
        ("stateful", RESPONSES, {"input": "x", "store": False, "prompt": {"id": "p"}}),
        ("stateful", RESPONSES, {"input": [{"type": "item_reference", "id": "i"}], "store": False}),
        ("stateful", CHAT, {"messages": [{"role": "assistant", "audio": {"id": "a"}}, ASKED]}),
        ("stateful", CHAT, part("file", file={"file_id": "f"})),
        ("stateful", RESPONSES, {"store": False, "input": [{"role": "user", "content": [{"file_id": "f"}]}]}),
        ("hosted-tools", CHAT, {"web_search_options": {}}),
        ("hosted-tools", RESPONSES, {"input": "x", "store": False, "tools": [{"type": "web_search"}]}),
        ("hosted-tools", CHAT, {"tools": [FUNCTION, {"type": "mcp"}]}),
        ("hosted-tools", CHAT, {"tools": ["odd"]}),
        ("hosted-tools", CHAT, {"tools": 5}),
        ("audio-output", CHAT, {"modalities": ["text", "audio"]}),
        ("audio-output", CHAT, {"audio": {"voice": "alloy"}}),
        ("moderation", CHAT, {"moderation": "auto"}),
        ("remote-image", CHAT, part("image_url", image_url={"url": "https://a/b.png"})),
        ("remote-image", CHAT, part("image_url", image_url="http://a/b.png")),
        ("remote-file", CHAT, part("video_url", video_url={"url": "https://a/b.mp4"})),
        (
            "remote-file",
            RESPONSES,
            {"store": False, "input": [ASKED, {"type": "x", "output": [{"type": "input_file", "file_url": "s3://a"}]}]},
        ),
    ],
)
def test_what_depends_on_more_than_the_request_is_never_cached(
    reason: str, endpoint: Endpoint, body: dict[str, Any]
) -> None:
    decision = decide(body, endpoint)
    assert decision.bypass == reason
    assert (decision.exact, decision.semantic, decision.store, decision.refresh) == (False, False, False, False)


@pytest.mark.parametrize(
    ("reason", "endpoint", "body"),
    [
        ("n", CHAT, {"n": 2}),
        ("n", COMPLETIONS, {"prompt": "x", "best_of": 3}),
        ("logprobs", CHAT, {"logprobs": True}),
        ("logprobs", COMPLETIONS, {"prompt": "x", "logprobs": 0}),
        ("logprobs", CHAT, {"top_logprobs": 2}),
        ("logit-bias", CHAT, {"logit_bias": {"1": 5}}),
        ("seed", CHAT, {"seed": 0}),
        ("echo", COMPLETIONS, {"prompt": "x", "echo": True}),
        ("tools", CHAT, {"tools": [FUNCTION]}),
        ("tools", CHAT, {"functions": [{"name": "f"}]}),
        ("agent-loop", CHAT, {"messages": [ASKED, {"role": "tool", "content": "42"}]}),
        ("agent-loop", CHAT, {"messages": [ASKED, {"role": "assistant", "content": "Be"}]}),
        ("agent-loop", RESPONSES, {"store": False, "input": [{"type": "function_call_output", "output": "42"}]}),
        ("turns", CHAT, {"messages": [ASKED] * 5}),
        ("media", CHAT, part("image_url", image_url={"url": "data:image/png;base64,AA"})),
        ("media", CHAT, part("image_url", image_url={"url": "DATA:image/png;base64,AA"})),
        ("media", CHAT, part("input_audio", input_audio={"data": "AA"})),
        ("media", CHAT, part("file", file={"file_data": "AA"})),
        ("media", CHAT, {"messages": [ASKED | {"content": ["odd"]}]}),
        ("no-question", CHAT, {"messages": [{"role": "system", "content": "Be brief."}]}),
        ("no-question", CHAT, {"messages": [ASKED | {"content": ""}]}),
        ("no-question", COMPLETIONS, {"prompt": ["a", "b"]}),
        ("no-question", COMPLETIONS, {"prompt": [1, 2]}),
        ("endpoint", EMBEDDINGS, {"input": "What is new today?", "temperature": 2}),
        ("length", CHAT, {"messages": [ASKED | {"content": "word " * 6600}]}),
    ],
)
def test_what_asks_for_one_particular_answer_is_exact_only(
    reason: str, endpoint: Endpoint, body: dict[str, Any]
) -> None:
    decision = decide(body, endpoint)
    assert (decision.bypass, decision.exact_only) == (None, reason)
    assert (decision.exact, decision.semantic, decision.store) == (True, False, True)
    assert decision.ttl == 86_400


def test_an_omitted_temperature_is_the_operators_to_judge() -> None:
    assert decide({}, settings=TEMPERED).bypass == "temperature"
    assert both(decide({"temperature": 0.1}, settings=TEMPERED))
    assert decide({"input": "x"}, EMBEDDINGS, settings=TEMPERED).exact


@pytest.mark.parametrize("controls", [{"mode": Mode.CACHE}, {"max_age": 60.0}])
def test_a_warm_request_may_opt_in_to_the_exact_tier(controls: dict[str, Any]) -> None:
    for settings, body in ((Cache(), {"temperature": 1.0}), (TEMPERED, {})):
        decision = decide(body, settings=settings, **controls)
        assert (decision.exact, decision.semantic, decision.exact_only) == (True, False, "temperature")


def test_a_max_age_of_nothing_is_no_opt_in() -> None:
    assert decide({"temperature": 1.0}, max_age=0.0).bypass == "temperature"


def test_settings_can_turn_the_cache_and_the_semantic_tier_off() -> None:
    assert decide({}, settings=Cache(enabled=False)).bypass == "disabled"
    assert decide({}, settings=Cache(semantic=Semantic(enabled=False))).exact_only == "semantic-off"


def test_tools_may_be_compared_by_meaning_where_the_operator_says_so_but_never_an_agent_loop() -> None:
    settings = Cache(semantic=Semantic(tools=True))
    assert both(decide({"tools": [FUNCTION, {"type": "custom", "custom": {"name": "c"}}]}, settings=settings))
    looping = {"tools": [FUNCTION], "messages": [ASKED, {"role": "tool", "content": "42"}]}
    assert decide(looping, settings=settings).exact_only == "agent-loop"


def test_a_remote_image_that_the_client_calls_immutable_is_exact_only() -> None:
    assert decide(part("image_url", image_url={"url": "https://a/b.png"}), immutable=True).exact_only == "media"
    assert decide(part("file", file={"file_id": "f"}), immutable=True).bypass == "stateful"


def test_a_prompt_of_just_the_limit_is_too_long_to_compare() -> None:
    raw = len(call({}).raw)
    assert decide({}, settings=Cache(semantic=Semantic(max_prompt_tokens=-(-raw // 4)))).exact_only == "length"
    assert both(decide({}, settings=Cache(semantic=Semantic(max_prompt_tokens=-(-raw // 4) + 1))))


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "What is the weather in Rome?"}],
        [{"role": "user", "content": [{"type": "text", "text": "What is the weather in Rome?"}]}],
        [{"role": "user", "content": "The weather in Rome?"}, {"role": "assistant", "content": "Fine."}, ASKED],
    ],
)
def test_time_sensitive_questions_live_shortly_and_hit_exactly_unless_the_operator_says_else(
    messages: list[dict[str, Any]],
) -> None:
    decision = decide({"messages": messages})
    assert (decision.exact, decision.exact_only, decision.ttl) == (True, "time-sensitive", 300)
    allowed = decide({"messages": messages}, settings=Cache(semantic=Semantic(time_sensitive=True)))
    assert (allowed.semantic, allowed.ttl) == (True, 300)


def test_time_sensitive_prompts_and_inputs_are_seen_too() -> None:
    assert decide({"prompt": "The latest news:"}, COMPLETIONS).exact_only == "time-sensitive"
    assert decide({"input": "What is new today?", "store": False}, RESPONSES).exact_only == "time-sensitive"


def test_what_an_assistant_said_is_not_the_users_wording() -> None:
    said = {"role": "assistant", "content": [{"type": "text", "text": "Here is the latest."}]}
    assert both(decide({"messages": [ASKED, said, ASKED]}))


def test_a_caller_can_only_tighten() -> None:
    assert decide({}, threshold=0.99).floor == 0.99
    assert decide({}, threshold=0.5).floor == 0.6
    assert decide({}, ttl=60.0).ttl == 60
    assert decide({}, ttl=1e9).ttl == 86_400


def test_modes_and_directives_leave_out_what_they_name() -> None:
    assert decide({}, mode=Mode.BYPASS).bypass == "mode-bypass"
    assert decide({}, mode=Mode.EXACT).exact_only == "mode-exact"
    assert both(decide({}, mode=Mode.CACHE))
    for refreshed in (decide({}, mode=Mode.REFRESH), decide({}, no_cache=True)):
        assert (refreshed.refresh, refreshed.exact, refreshed.semantic, refreshed.store) == (True, True, True, True)
    for kept_out in (decide({}, mode=Mode.READONLY), decide({}, no_store=True), decide({}, ttl=0.0)):
        assert (kept_out.refresh, kept_out.exact, kept_out.semantic, kept_out.store) == (False, True, True, False)
    assert decide({}, no_store=True, no_cache=True).bypass == "no-store"
    assert decide({}, only_if_cached=True) == decide({})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats(0, 2) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "image_url", "url", "file"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
names = st.sampled_from(["messages", "input", "prompt", "temperature", *sorted(policy.NOTABLE)])


@given(st.sampled_from(list(Endpoint)), st.dictionaries(names, json_values, max_size=5))
def test_any_body_gets_a_decision_that_agrees_with_itself(endpoint: Endpoint, body: dict[str, Any]) -> None:
    decision = policy.decide(Call("r", Tenant("t"), endpoint, "m", body, b"{}"), Cache())
    assert decision.exact == (decision.bypass is None)
    assert decision.semantic == (decision.exact and decision.exact_only is None)
    assert not decision.semantic or keys.question(Call("r", Tenant("t"), endpoint, "m", body, b"{}")) is not None


# ---------------------------------------------------------------------------------------------- freshness


def entry(**changes: Any) -> Entry:
    key = keys.build(call({}), embedder="e", end_user=False, question=None)
    made = Entry(
        tenant="t",
        namespace="",
        model="m",
        scope=key.scope,
        digest=key.digest,
        text=None,
        endpoint=CHAT,
        body=b"{}",
        created=NOW - 100,
        expires=NOW + 100,
        completion_tokens=50,
    )
    return msgspec.structs.replace(made, **changes)


def usable(stored: Entry, *, body: dict[str, Any] | None = None, now: float = NOW, **controls: Any) -> Freshness:
    asked = call(body or {}, **controls)
    key = keys.build(asked, embedder="e", end_user=False, question=None)
    return policy.usable(stored, asked, key, now=now)


def test_an_entry_is_fresh_until_it_expires() -> None:
    assert usable(entry()) == Freshness(ok=True, stale=False, reason="fresh")
    assert usable(entry(), now=NOW + 99.9).ok
    assert usable(entry(), now=NOW + 100) == Freshness(ok=False, stale=True, reason="expired")


@pytest.mark.parametrize(
    "foreign", [{"tenant": "u"}, {"namespace": "n"}, {"model": "n"}, {"scope": b"x" * 16}, {"endpoint": RESPONSES}]
)
def test_a_foreign_entry_is_never_served(foreign: dict[str, Any]) -> None:
    assert usable(entry(**foreign)) == Freshness(ok=False, stale=False, reason="scope")


@pytest.mark.parametrize(
    ("stored", "asked", "fits"),
    [
        ({"max_tokens": None}, None, True),
        ({"max_tokens": 80}, 80, True),
        ({"max_tokens": 80, "finish_reason": "length"}, 80, True),
        ({"max_tokens": 80, "finish_reason": "length"}, 90, False),
        ({"max_tokens": 80, "finish_reason": "tool_calls"}, 90, False),
        ({"max_tokens": 80}, 90, True),
        ({"max_tokens": 80}, 50, True),
        ({"max_tokens": 80}, 49, False),
        ({"max_tokens": 80}, None, True),
        ({"max_tokens": None}, 50, True),
        ({"max_tokens": None, "completion_tokens": None}, 50, False),
    ],
)
def test_another_token_limit_reuses_an_answer_that_ended_by_itself_within_it(
    stored: dict[str, Any], asked: int | None, fits: bool
) -> None:
    found = usable(entry(**stored), body={"max_tokens": asked})
    assert (found.ok, found.reason) == ((True, "fresh") if fits else (False, "max-tokens"))


def test_max_age_bounds_the_age() -> None:
    assert usable(entry(), max_age=100.0).ok
    assert usable(entry(), max_age=99.0) == Freshness(ok=False, stale=False, reason="max-age")
    assert usable(entry(expires=NOW), max_age=99.0) == Freshness(ok=False, stale=True, reason="max-age")


def test_min_fresh_asks_for_more_life() -> None:
    assert usable(entry(), min_fresh=100.0).ok
    assert usable(entry(), min_fresh=101.0) == Freshness(ok=False, stale=False, reason="min-fresh")


def test_max_stale_accepts_an_expired_answer_up_to_its_bound() -> None:
    old = entry(expires=NOW - 10)
    assert usable(old, max_stale=10.0) == Freshness(ok=True, stale=True, reason="max-stale")
    assert usable(old, max_stale=float("inf")).ok
    assert usable(old, max_stale=9.0) == Freshness(ok=False, stale=True, reason="expired")


def test_a_soft_purged_entry_is_stale_whatever_the_caller_accepts() -> None:
    purged = entry(soft_purged=True)
    assert usable(purged, max_stale=float("inf")) == Freshness(ok=False, stale=True, reason="soft-purged")


@pytest.mark.parametrize(
    ("changes", "controls", "serves"),
    [
        ({}, {}, True),
        ({"expires": NOW - 60}, {}, True),
        ({"expires": NOW - 61}, {}, False),
        ({"soft_purged": True}, {}, True),
        ({"tenant": "u"}, {}, False),
        ({"max_tokens": 80, "finish_reason": "length"}, {}, False),
        ({}, {"no_cache": True}, False),
        ({}, {"mode": Mode.REFRESH}, False),
        ({}, {"min_fresh": 1.0}, False),
        ({}, {"max_age": 99.0}, False),
        ({}, {"max_age": 100.0}, True),
    ],
)
def test_an_answer_past_its_time_serves_while_the_upstream_is_down_unless_the_caller_wants_a_new_one(
    changes: dict[str, Any], controls: dict[str, Any], serves: bool
) -> None:
    asked = call({}, **controls)
    key = keys.build(asked, embedder="e", end_user=False, question=None)
    assert policy.stale_on_error(entry(**changes), asked, key, now=NOW, grace=60) is serves


# ---------------------------------------------------------------------------------------------- admission

OPEN = decide({})
EXACT = decide({"tools": [FUNCTION]})
CALLING = Finished(b"{}", "tool_calls", tool_calls=True)


@pytest.mark.parametrize(
    ("finished", "decision", "settings", "reason"),
    [
        (Finished(b"{}", "stop"), OPEN, Cache(), None),
        (Finished(b"{}", "stop"), decide({}, no_store=True), Cache(), "no-store"),
        (Finished(b"{}", "length"), OPEN, Cache(), "length"),
        (CALLING, EXACT, Cache(), "tool-calls"),
        (CALLING, EXACT, Cache(tool_calls=True), None),
        (CALLING, OPEN, Cache(tool_calls=True), "tool-calls"),
        (Finished(b"{}", "stop", tool_calls=True), EXACT, Cache(), "tool-calls"),
        (Finished(b"{}", "function_call"), EXACT, Cache(), "tool-calls"),
        (Finished(b"x" * 100, "stop"), OPEN, Cache(max_entry_bytes=100), None),
        (Finished(b"x" * 101, "stop"), OPEN, Cache(max_entry_bytes=100), "too-large"),
    ],
)
def test_only_a_whole_answer_of_bearable_size_is_stored(
    finished: Finished, decision: Decision, settings: Cache, reason: str | None
) -> None:
    assert policy.admit(finished, decision, settings) == reason


def test_every_reason_is_explained_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "caching.md").read_text()
    source = (Path(policy.__file__)).read_text()
    reasons = {*policy.UNSEEN.values(), *(reason for reason, _ in policy.SAMPLING.values())}
    reasons |= set(re.findall(r'(?:return|reason =|reason=|exact_only =|else) "([a-z-]+)"', source))
    assert len(reasons) > 25
    assert sorted(reason for reason in reasons if f"`{reason}`" not in page) == []


PERSONAL = {"messages": [{"role": "user", "content": "Is jane@example.org on the list?"}]}


@pytest.mark.parametrize(
    ("rule", "body", "expected"),
    [
        pytest.param("cache", PERSONAL, (None, None, False), id="like any other"),
        pytest.param("exact", PERSONAL, (None, "pii", False), id="exact only"),
        pytest.param("bypass", PERSONAL, ("pii", None, False), id="never"),
        pytest.param("end_user", PERSONAL | {"user": "u"}, (None, None, True), id="apart by end user"),
        pytest.param("end_user", PERSONAL, ("pii", None, False), id="never, if no end user is named"),
        pytest.param("bypass", {"messages": [ASKED]}, (None, None, False), id="a question without personal data"),
    ],
)
def test_personal_data_is_treated_as_the_operator_says(rule: str, body: dict[str, Any], expected: tuple) -> None:
    decision = decide(body, settings=Cache(pii=rule))
    assert (decision.bypass, decision.exact_only, decision.end_user) == expected


def test_personal_data_in_an_earlier_user_turn_counts() -> None:
    turns = [
        *PERSONAL["messages"],
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Since when?"},
    ]
    assert decide({"messages": turns}).exact_only == "pii"


def test_the_scope_of_end_users_is_the_operators_to_choose() -> None:
    assert decide({}, settings=Cache(scope="end_user")).end_user
    assert not decide({}).end_user


SCOPES = Semantic(
    budget=0.01,
    scope=(
        ScopePolicy(tenant="t", model="m", budget=0.002, mode="shadow"),
        ScopePolicy(tenant="t", policy="threshold"),
        ScopePolicy(namespace="n", floor=0.8, contextual=True),
    ),
)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param(("t", "n", "m"), ("budget", 0.002, 0.6, "shadow", False), id="the first that matches holds"),
        pytest.param(("t", "", "o"), ("threshold", 0.01, 0.6, "serve", False), id="what it leaves out is inherited"),
        pytest.param(("u", "n", "m"), ("budget", 0.01, 0.8, "serve", True), id="any tenant of a namespace"),
        pytest.param(("u", "", "m"), ("budget", 0.01, 0.6, "serve", False), id="none matches"),
    ],
)
def test_the_hit_policy_is_that_of_the_first_matching_scope(place: tuple[str, str, str], expected: tuple) -> None:
    found = policy.hit_policy(SCOPES, *place)
    assert (found.policy, found.budget, found.floor, found.mode, found.contextual) == expected


def test_the_floor_of_a_scope_is_the_one_a_caller_can_raise() -> None:
    settings = Cache(semantic=Semantic(scope=(ScopePolicy(tenant="t", floor=0.8),)))
    assert decide({}, settings=settings).floor == 0.8
    assert decide({}, settings=settings, threshold=0.7).floor == 0.8
    assert decide({}, settings=settings, threshold=0.9).floor == 0.9


@pytest.mark.parametrize(
    ("semantic", "said"),
    [
        (Semantic(), "budget 0.5 % wrong per request"),
        (Semantic(policy="verified", delta=0.02, mode="shadow"), "verified, 2 % wrong per request, in shadow mode"),
        (SCOPES, "budget 1 % wrong per request, 3 scopes with other rules"),
        (Semantic(policy="similarity"), "similarity 0.95"),
        (Semantic(enabled=False), "identical requests only"),
    ],
)
def test_the_policy_can_be_told_to_an_operator(semantic: Semantic, said: str) -> None:
    assert policy.in_words(semantic) == said
