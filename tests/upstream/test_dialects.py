import dataclasses

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from edgecache.types import Call, Controls, Endpoint, Mode, Purpose, ServiceClass, Tenant, Terms
from edgecache.upstream.dialects import (
    BOOKKEEPING,
    DIALECTS,
    FORBIDDEN,
    continues,
    forward_headers,
    forwardable,
    prepare,
    reply_headers,
)
from edgecache.upstream.sending import Sending
from edgecache.wire import directives

STREAMED = (Endpoint.CHAT, Endpoint.COMPLETIONS)


def sent(dialect: str, call: Call) -> dict:
    return orjson.loads(prepare(dialect, call).body)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("endpoint", Endpoint)
def test_an_ordinary_request_keeps_its_very_bytes(dialect, endpoint, make_call) -> None:
    call = make_call(endpoint, temperature=0.5, some_new_field={"a": 1})
    prepared = prepare(dialect, call)
    assert prepared.body is call.raw
    assert prepared.dropped == ()
    assert not prepared.strip_usage


@pytest.mark.parametrize(
    ("dialect", "endpoint", "kept"),
    [
        ("openai", Endpoint.CHAT, BOOKKEEPING - {"cache"}),
        ("openai", Endpoint.COMPLETIONS, {"user"}),
        ("vllm", Endpoint.COMPLETIONS, BOOKKEEPING - {"cache"}),
        ("trtllm", Endpoint.CHAT, {"user"}),
        ("trtllm", Endpoint.EMBEDDINGS, {"user"}),
        ("trtllm", Endpoint.RESPONSES, {"user", "store", "metadata", "service_tier"}),
        ("dynamo", Endpoint.CHAT, {"user", "store", "metadata", "service_tier", "prompt_cache_key"}),
        ("dynamo", Endpoint.COMPLETIONS, {"user", "metadata"}),
        ("dynamo", Endpoint.RESPONSES, BOOKKEEPING - {"cache"}),
    ],
)
def test_bookkeeping_goes_where_the_server_refuses_it(dialect, endpoint, kept, make_call) -> None:
    call = make_call(endpoint, **dict.fromkeys(BOOKKEEPING, None))
    prepared = prepare(dialect, call)
    assert orjson.loads(prepared.body).keys() & BOOKKEEPING == kept
    assert set(prepared.dropped) == BOOKKEEPING - kept


def test_a_client_that_wants_its_answer_stored_gets_the_servers_own_word(make_call) -> None:
    assert sent("trtllm", make_call(store=True))["store"] is True
    assert "store" not in sent("trtllm", make_call(store=False))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("field", sorted(FORBIDDEN))
def test_fields_that_steer_a_cluster_never_leave(dialect, field, make_call) -> None:
    prepared = prepare(dialect, make_call(**{field: {"remote_host": "10.0.0.1"}}))
    assert field not in orjson.loads(prepared.body)
    assert prepared.dropped == (field,)


def test_dynamos_worker_pinning_and_annotations_are_cut_out_of_nvext(make_call) -> None:
    call = make_call(nvext={"backend_instance_id": 1, "annotations": ["token_ids"], "greed_sampling": True})
    prepared = prepare("dynamo", call)
    assert orjson.loads(prepared.body)["nvext"] == {"greed_sampling": True}
    assert prepared.dropped == ("nvext.annotations", "nvext.backend_instance_id")
    assert call.body["nvext"]["backend_instance_id"] == 1  # the client's request, and so its cache key, is unchanged


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("endpoint", STREAMED)
def test_usage_is_asked_for_on_streams_and_marked_for_removal(dialect, endpoint, make_call) -> None:
    prepared = prepare(dialect, make_call(endpoint, stream=True))
    assert orjson.loads(prepared.body)["stream_options"] == {"include_usage": True}
    assert prepared.strip_usage


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, None])
def test_usage_is_asked_for_also_where_the_client_declined_it(options, make_call) -> None:
    call = make_call(stream=True, stream_options=None if options is None else {**options, "include_obfuscation": False})
    asked = sent("openai", call)["stream_options"]
    assert asked["include_usage"] is True
    assert ("include_obfuscation" in asked) == (options is not None)


def test_a_client_that_asked_for_usage_keeps_its_bytes_and_its_chunk(make_call) -> None:
    call = make_call(stream=True, stream_options={"include_usage": True})
    prepared = prepare("trtllm", call)
    assert prepared.body is call.raw
    assert not prepared.strip_usage


@pytest.mark.parametrize("dialect", DIALECTS)
def test_stream_options_without_a_stream_are_dropped(dialect, make_call) -> None:
    prepared = prepare(dialect, make_call(stream=False, stream_options={"include_usage": True}))
    assert "stream_options" not in orjson.loads(prepared.body)
    assert prepared.dropped == ("stream_options",)


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.RESPONSES])
def test_endpoints_without_a_usage_chunk_get_no_stream_options(endpoint, make_call) -> None:
    call = make_call(endpoint, stream=True)
    prepared = prepare("vllm", call)
    assert prepared.body is call.raw
    assert not prepared.strip_usage


@pytest.mark.parametrize(
    ("dialect", "endpoint", "salted"),
    [
        ("trtllm", Endpoint.CHAT, True),
        ("trtllm", Endpoint.COMPLETIONS, False),  # a 400 there
        ("dynamo", Endpoint.COMPLETIONS, True),
        ("vllm", Endpoint.RESPONSES, True),
        ("openai", Endpoint.CHAT, False),
    ],
)
def test_tenants_get_a_salt_of_their_own_where_the_server_takes_one(dialect, endpoint, salted, make_call) -> None:
    one = sent(dialect, make_call(endpoint, tenant=Tenant("a"))).get("cache_salt")
    other = sent(dialect, make_call(endpoint, tenant=Tenant("b"))).get("cache_salt")
    assert (one is not None) == salted
    assert (one != other) == salted
    assert "cache_salt" not in sent(dialect, make_call(endpoint))  # one tenant has nobody to be kept from


@given(own=st.text(max_size=20), tenant=st.text(min_size=1, max_size=8), other=st.text(min_size=1, max_size=8))
def test_no_salt_of_a_clients_own_reaches_another_tenants(own: str, tenant: str, other: str) -> None:
    def salt(name: str, value: object) -> str:
        body = {"model": "m", "messages": [], "cache_salt": value}
        return sent("trtllm", Call("r", Tenant(name + "!"), Endpoint.CHAT, "m", body, b""))["cache_salt"]

    assert (salt(tenant, own) == salt(other, own)) == (tenant == other)
    assert salt(tenant, own) != own
    assert salt(tenant, salt(other, None)) != salt(other, None)


def test_only_known_headers_travel(make_call) -> None:
    headers = {
        "traceparent": "00-1-2-01",
        "x-session-id": "s",
        "x-worker-instance-id": "7",
        "x-trtllm-msgpack": "1",
        "cookie": "c",
    }
    for dialect in ("trtllm", "dynamo", "vllm"):
        assert prepare(dialect, make_call(headers=headers)).headers == {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "x-request-id": "req-1",
            "traceparent": "00-1-2-01",
            "x-session-id": "s",
        }
    assert "x-session-id" not in prepare("openai", make_call(headers=headers)).headers
    assert prepare("openai", make_call(stream=True)).headers["Accept"].startswith("text/event-stream")


def test_pass_through_requests_keep_only_what_the_server_needs() -> None:
    got = forward_headers({"accept": "application/json", "authorization": "Bearer x", "host": "h", "x-request-id": "1"})
    assert got == {"accept": "application/json", "x-request-id": "1"}


@pytest.mark.parametrize(
    ("method", "path", "may"),
    [
        ("GET", "/v1/responses/resp_1", True),
        ("GET", "/v1/responses/resp_1?stream=true&include=a%5B%5D", True),
        ("DELETE", "/v1/responses/resp_1", True),
        ("POST", "/v1/responses/resp_1/cancel", True),
        ("GET", "/v1/responses/resp_1/input_items?limit=2", True),
        ("POST", "/v1/responses/resp_1", False),
        ("DELETE", "/v1/responses/resp_1/cancel", False),
        ("GET", "/v1/responses/..", False),
        ("GET", "/v1/responses/../../release_memory", False),
        ("GET", "/v1/responses/%2e%2e/metrics", False),
        ("GET", "/v1/responses/a b", False),
        ("GET", "/v1/responses/a\r\nX: y", False),
        ("POST", "/release_memory", False),
        ("GET", "/metrics", False),
    ],
)
def test_only_stored_responses_are_passed_through(method: str, path: str, may: bool) -> None:
    assert forwardable(method, path) == may


def test_only_retry_advice_and_rate_limits_travel_back() -> None:
    headers = {"Retry-After": "3", "X-RateLimit-Limit-Requests": "9", "Set-Cookie": "a=b", "Server": "uvicorn"}
    assert reply_headers(headers) == {"retry-after": "3", "x-ratelimit-limit-requests": "9"}


# ------------------------------------------------------------------------------------------ as the router has it


def test_another_model_takes_the_place_of_the_one_asked_for(make_call) -> None:
    body = orjson.loads(prepare("openai", make_call(), Sending(model="llama")).body)
    assert body["model"] == "llama"
    assert body["messages"] == make_call().body["messages"]


@pytest.mark.parametrize(
    ("dialect", "realtime", "batch"),
    [("trtllm", 1.0, 0.0), ("vllm", -2, 1)],
)
def test_priority_is_told_in_the_servers_own_way_and_only_where_it_is_used(make_call, dialect, realtime, batch) -> None:
    def priority(service: ServiceClass, *, used: bool) -> object:
        prepared = prepare(dialect, make_call(), Sending(service=service), priority=used)
        return orjson.loads(prepared.body).get("priority")

    assert priority(ServiceClass.REALTIME, used=True) == realtime
    assert priority(ServiceClass.BATCH, used=True) == batch
    assert priority(ServiceClass.REALTIME, used=False) is None


def test_dynamo_is_told_priority_beside_the_clients_other_hints(make_call) -> None:
    call = make_call(nvext={"agent_hints": {"osl": 12}, "annotations": ["x"]})
    body = orjson.loads(prepare("dynamo", call, Sending(service=ServiceClass.REALTIME), priority=True).body)
    assert body["nvext"] == {"agent_hints": {"osl": 12, "priority": 3}}
    assert "priority" not in body


def test_a_chat_goes_on_with_its_last_message_left_open(make_call) -> None:
    call = make_call(max_tokens=100, stream=True)
    assert continues("vllm", call)
    body = orjson.loads(prepare("vllm", call, Sending(written="The sky is", written_tokens=3)).body)
    assert body["messages"][-1] == {"role": "assistant", "content": "The sky is"}
    assert (body["continue_final_message"], body["add_generation_prompt"], body["max_tokens"]) == (True, False, 97)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_completion_goes_on_after_its_prompt(make_call, dialect) -> None:
    call = make_call(Endpoint.COMPLETIONS, max_tokens=2)
    assert continues(dialect, call)
    body = orjson.loads(prepare(dialect, call, Sending(written=" it is", written_tokens=5)).body)
    assert (body["prompt"], body["max_tokens"]) == ("why is the sky blue it is", 1)


@pytest.mark.parametrize("field", [{"n": 2}, {"logprobs": True}, {"tools": [{}]}, {"response_format": {"type": "x"}}])
def test_what_cannot_be_taken_up_is_not_continued(make_call, field) -> None:
    assert not continues("vllm", make_call(**field))


@pytest.mark.parametrize("dialect", ["openai", "trtllm", "dynamo", "edgecache"])
def test_chats_are_only_continued_where_the_server_can_leave_a_message_open(make_call, dialect) -> None:
    assert not continues(dialect, make_call())


def test_a_neighbour_is_told_whose_request_it_is_and_on_which_terms(make_call) -> None:
    tenant = Tenant("acme", terms=Terms(residency=frozenset({"EU", "CH"})))
    sending = Sending(service=ServiceClass.BATCH, due=2.5, hops=1)
    headers = prepare("edgecache", make_call(tenant=tenant), sending).headers
    told = {name: value for name, value in headers.items() if name.startswith("EdgeCache-")}
    assert told == {
        "EdgeCache-Hop": "1",
        "EdgeCache-Tenant": "acme",
        "EdgeCache-Class": "batch",
        "EdgeCache-Deadline": "2.500",
        "EdgeCache-Residency": "CH, EU",
    }


@pytest.mark.parametrize("dialect", sorted(DIALECTS.keys() - {"edgecache"}))
def test_nobody_else_is_told(make_call, dialect) -> None:
    sending = Sending(service=ServiceClass.BATCH, due=2.5, hops=1)
    headers = prepare(dialect, make_call(tenant=Tenant("acme")), sending).headers
    assert not [name for name in headers if name.lower().startswith("edgecache")]


def test_a_neighbours_cache_may_do_no_more_for_a_request_than_this_one(make_call) -> None:
    controls = Controls(
        mode=Mode.READONLY, no_store=True, max_age=60, ttl=90.5, threshold=0.97, namespace="team/a", tags=("x",)
    )
    call = msgspec.structs.replace(make_call(), controls=controls)
    said = directives.controls(CIMultiDict(prepare("edgecache", call, Sending(hops=1)).headers))
    assert said == dataclasses.replace(controls, tags=())


@pytest.mark.parametrize(
    ("purpose", "mode"),
    [
        (Purpose.CLIENT, Mode.EXACT),
        (Purpose.FUNCTION, Mode.EXACT),
        (Purpose.RENEW, Mode.REFRESH),
        (Purpose.SAMPLE, Mode.BYPASS),
        (Purpose.JUDGE, Mode.BYPASS),
        (Purpose.MIRROR, Mode.BYPASS),
    ],
)
def test_a_new_answer_is_not_one_that_a_neighbour_has_stored(make_call, purpose, mode) -> None:
    call = msgspec.structs.replace(make_call(), controls=Controls(mode=Mode.EXACT), purpose=purpose)
    assert prepare("edgecache", call, Sending(hops=1)).headers["EdgeCache-Mode"] == mode.value


@pytest.mark.parametrize("dialect", sorted(DIALECTS.keys() - {"edgecache"}))
def test_no_server_hears_of_cache_directives(make_call, dialect) -> None:
    controls = Controls(no_store=True, namespace="a", mode=Mode.EXACT)
    headers = prepare(dialect, msgspec.structs.replace(make_call(), controls=controls), Sending()).headers
    assert not [name for name in headers if "cache" in name.lower()]
