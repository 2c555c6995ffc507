"""What a function sees, and what its answers mean."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from edgecache.errors import Fault, Forbidden, FunctionFault
from edgecache.functions import phases
from edgecache.functions.manifest import Phase
from edgecache.functions.phases import Act, Action, Rules
from edgecache.types import CacheInfo, CacheStatus, Call, Endpoint, Tenant
from edgecache.wasm.base import Headers, Response
from tests.conftest import MODEL, call

ANSWER = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    }
).encode()
EVENT = b'{"choices":[{"index":0,"delta":{"content":"x"}}]}'
ASKED = call("Hello?")


def admit(_tenant: Tenant, model: str) -> None:
    if model == "forbidden":
        raise Forbidden("no such model for you")


RULES = Rules(admit, max_depth=8, max_messages=4)


def read(
    phase: Phase, status: int, body: bytes = b"", *headers: tuple[str, str], asked: Call = ASKED, **more: Any
) -> Action:
    return phases.read(phase, Response(status, headers, body), asked, RULES, **more)


def fault(phase: Phase, status: int, body: bytes = b"", *headers: tuple[str, str], **more: Any) -> str:
    with pytest.raises(FunctionFault) as caught:
        read(phase, status, body, *headers, **more)
    assert caught.value.fault is Fault.ANSWER
    return caught.value.message


def does(word: str) -> tuple[str, str]:
    return "x-edgecache-action", word


# ---------------------------------------------------------------------------------------------- what it sees


def test_a_function_sees_what_the_client_sent_but_no_credential_and_nothing_that_claims_to_be_ours() -> None:
    client = CIMultiDict({
        "Authorization": "Bearer k", "Cookie": "a=b", "X-Api-Key": "k", "Proxy-Authorization": "x", "Host": "h",
        "Content-Length": "3", "Transfer-Encoding": "chunked", "X-EdgeCache-Tenant": "other", "X-User": "Ada",
        "Accept-Language": "de", "content-type": "text/plain",
    })  # fmt: skip
    seen = phases.heading(client, tenant="acme", model="m", request_id="r1")
    assert seen == (
        ("content-type", "application/json"),
        ("x-user", "Ada"),
        ("accept-language", "de"),
        ("x-edgecache-tenant", "acme"),
        ("x-edgecache-model", "m"),
        ("x-edgecache-request-id", "r1"),
    )


def test_the_name_of_a_model_cannot_add_a_header() -> None:
    seen = dict(phases.heading({}, tenant="acme", model="m\nx-edgecache-phase: key\r\n\r\n", request_id="r"))
    assert seen["x-edgecache-model"] == "m?x-edgecache-phase: key????"


def test_a_hit_comes_with_how_it_was_found() -> None:
    info = CacheInfo(CacheStatus.SEMANTIC_HIT, entry_id=7, similarity=0.97123, age=12)
    made = phases.request(Phase.HIT, "/v1/x", (("a", "b"),), b"{}", now=5, seed=bytes(32), info=info, chunk=3)
    assert (made.method, made.target, made.body, made.now) == ("POST", "/v1/x", b"{}", 5)
    assert made.headers == (
        ("a", "b"),
        ("x-edgecache-phase", "hit"),
        ("x-edgecache-status", "SEMANTIC_HIT"),
        ("x-edgecache-similarity", "0.9712"),
        ("x-edgecache-entry", "7"),
        ("x-edgecache-age", "12"),
        ("x-edgecache-chunk", "3"),
    )


def test_on_a_route_a_function_sees_plain_http() -> None:
    client = CIMultiDict(
        {"Authorization": "k", "Cookie": "a=b", "Content-Type": "x/y", "TE": "x", "X-EdgeCache-Phase": "hit"}
    )
    client.add("Accept", "a")
    client.add("Accept", "b")
    assert phases.of_route(client, tenant="t", request_id="r") == (
        ("cookie", "a=b"),
        ("content-type", "x/y"),
        ("accept", "a"),
        ("accept", "b"),
        ("x-edgecache-phase", "route"),
        ("x-edgecache-tenant", "t"),
        ("x-edgecache-request-id", "r"),
    )


def test_what_a_route_answers_keeps_its_headers_but_for_ours_and_the_connections() -> None:
    headers = (
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("connection", "close"),
        ("x-edgecache-status", "HIT"),
        ("etag", "1"),
    )
    assert phases.from_route(headers) == (("set-cookie", "a"), ("set-cookie", "b"), ("etag", "1"))


# ---------------------------------------------------------------------------------------------- what it means


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ROUTE])
def test_204_leaves_everything_as_it_is(phase: Phase) -> None:
    assert read(phase, 204) == Action()
    assert read(phase, 204, b"", ("content-type", "text/plain"), ("date", "x")) == Action()


@pytest.mark.parametrize("phase", [Phase.HIT, Phase.RESPONSE])
def test_200_puts_another_answer_in_place(phase: Phase) -> None:
    assert read(phase, 200, ANSWER) == Action(body=ANSWER)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not_json"),
        (b"hello", "not_json"),
        (b"null", "null"),
        (b"[]", "malformed"),
        (b'{"error":{"message":"no"}}', "error"),
        (b'{"choices":[]}', "no_choices"),
        (b'{"choices":[{"finish_reason":"stop"}]}', "empty"),
        (b'{"choices":[{"finish_reason":"stop","message":{"content":7}}]}', "malformed"),
        (b"\xff", "not_json"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "malformed"),
    ],
)
def test_what_is_no_answer_is_a_fault_that_says_so(body: bytes, why: str) -> None:
    assert why in fault(Phase.HIT, 200, body)


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls", "other"])
def test_an_answer_need_not_be_one_that_would_be_stored(reason: str) -> None:
    body = json.dumps({"choices": [{"finish_reason": reason, "message": {"content": ""}}]}).encode()
    assert read(Phase.RESPONSE, 200, body).body == body


def test_an_answer_of_another_endpoint_is_none() -> None:
    plain = call({"prompt": "x"}, endpoint=Endpoint.COMPLETIONS)
    assert "/v1/completions" in fault(Phase.HIT, 200, ANSWER, asked=plain)


def test_one_event_is_judged_as_one_event() -> None:
    assert read(Phase.HIT, 200, EVENT, chunk=True).body == EVENT
    assert "choices" in fault(Phase.RESPONSE, 200, b'{"type":"response.created"}', chunk=True)
    assert "not JSON" in fault(Phase.RESPONSE, 200, b"data: {}", chunk=True)
    asked = call({"input": "x"}, endpoint=Endpoint.RESPONSES)
    assert read(Phase.HIT, 200, b'{"type":"response.created"}', chunk=True, asked=asked).body is not None


@pytest.mark.parametrize("phase", [Phase.REQUEST, Phase.MISS])
def test_200_puts_another_request_in_place(phase: Phase) -> None:
    body = json.dumps({"model": "other", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    made = read(phase, 200, body).call
    assert made is not None
    assert (made.model, made.raw, made.body["messages"][0]["content"]) == ("other", body, "Hi")
    assert made.request_id == ASKED.request_id


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"messages": []}, "messages"),
        ({"model": MODEL, "messages": "x"}, "messages"),
        ({"model": MODEL, "messages": [{"role": "user"}] * 5}, "at most 4"),
        ({"model": MODEL, "messages": [{"role": "user"}], "a": [[[[[[[[[1]]]]]]]]]}, "nested"),
        ({"model": "forbidden", "messages": [{"role": "user"}]}, "no such model"),
    ],
)
def test_a_request_that_no_client_could_send_is_a_fault(body: dict[str, Any], why: str) -> None:
    assert why in fault(Phase.REQUEST, 200, json.dumps(body).encode())


@pytest.mark.parametrize("stream", [True, False])
def test_whether_the_answer_is_streamed_stays_the_clients_choice(stream: bool) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    asked = call({"messages": [{"role": "user", "content": "x"}], **options})
    other = {"model": MODEL, "messages": [{"role": "user", "content": "y"}], "stream": not stream}
    made = read(Phase.REQUEST, 200, json.dumps(other).encode(), asked=asked).call
    assert made is not None
    assert (made.stream, made.include_usage) == (stream, stream)
    assert json.loads(made.raw) == made.body
    assert made.body.get("stream") == options.get("stream")
    assert made.body.get("stream_options") == options.get("stream_options")


def test_of_the_key_phase_only_headers_count() -> None:
    assert read(Phase.KEY, 200, b"whatever", ("x-edgecache-key", "de")) == Action(key="de")


@pytest.mark.parametrize(
    ("phase", "word"),
    [(Phase.REQUEST, "bypass"), (Phase.KEY, "bypass"), (Phase.HIT, "miss")],
)
def test_actions_go_with_either_status(phase: Phase, word: str) -> None:
    assert read(phase, 204, b"", does(word)).act is Act(word)
    body = ANSWER if phase is Phase.HIT else json.dumps({"model": "m", "messages": [{"role": "user"}]}).encode()
    assert read(phase, 200, body, does(word.upper())).act is Act(word)


@pytest.mark.parametrize("phase", [Phase.REQUEST, Phase.KEY, Phase.MISS])
def test_a_function_may_answer_itself(phase: Phase) -> None:
    found = read(phase, 200, ANSWER, does("answer"))
    assert (found.act, found.body) == (Act.ANSWER, ANSWER)
    assert "no answer" in fault(phase, 200, b"{}", does("answer"))
    assert "204" in fault(phase, 204, b"", does("answer"))


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ROUTE])
@pytest.mark.parametrize(("status", "told"), [(200, 403), (204, 403), (302, 403), (429, 429), (503, 503)])
def test_a_refusal_has_a_status_and_a_reason(phase: Phase, status: int, told: int) -> None:
    found = read(phase, status, b" not you " + b"x" * 5000, does("refuse"))
    assert (found.act, found.status, found.body) == (Act.REFUSE, told, None)
    assert found.message.startswith("not you")
    assert len(found.message) <= 1024


@pytest.mark.parametrize(
    ("phase", "header", "said"),
    [
        (Phase.HIT, does("bypass"), "miss, refuse"),
        (Phase.RESPONSE, does("answer"), "refuse"),
        (Phase.MISS, does("miss"), "answer, refuse"),
        (Phase.REQUEST, does("nonsense"), "answer, bypass, refuse"),
        (Phase.HIT, ("x-edgecache-key", "x"), "only request and key"),
        (Phase.KEY, ("x-edgecache-route", "x"), "only request and miss"),
        (Phase.KEY, ("x-edgecache-key", "x" * 257), "257 characters"),
        (Phase.HIT, ("x-much", "x" * 8192), "8198 bytes"),
    ],
)
def test_what_means_nothing_in_a_phase_is_a_fault_that_says_what_does(
    phase: Phase, header: tuple[str, str], said: str
) -> None:
    assert said in fault(phase, 204, b"", header)


@pytest.mark.parametrize("status", [201, 205, 302, 400, 404, 500])
def test_another_status_is_a_fault(status: int) -> None:
    assert str(status) in fault(Phase.HIT, status, ANSWER)


def test_headers_of_its_own_reach_the_client_and_ours_do_not() -> None:
    found = read(
        Phase.HIT, 204, b"", ("x-banner", "1"), ("x-edgecache-entry", "9"), ("x-edge-overhead-ms", "0"), ("etag", "2")
    )
    assert found.headers == (("x-banner", "1"),)


def test_on_error_says_what_becomes_of_the_request() -> None:
    trap = FunctionFault(Fault.TRAP, "unreachable")
    assert phases.failed(Phase.HIT, "pass_through", trap) == Action()
    assert phases.failed(Phase.HIT, "miss", trap) == Action(Act.MISS)
    assert phases.failed(Phase.RESPONSE, "miss", trap) == Action()
    with pytest.raises(FunctionFault):
        phases.failed(Phase.HIT, "fail", trap)


names = st.sampled_from(["x-a", "x-edgecache-action", "x-edgecache-key", "x-edgecache-route", "x-edgecache-x", "etag"])
values = st.sampled_from(["", "miss", "answer", "refuse", "bypass", "core", "é", "\udcff"])


@given(
    phase=st.sampled_from(list(Phase)),
    status=st.integers(200, 599),
    headers=st.lists(st.tuples(names, values), max_size=4),
    body=st.sampled_from([b"", ANSWER, b"{}", b"\xff\x00", b"[" * 3000]) | st.binary(max_size=64),
    chunk=st.booleans(),
)
def test_whatever_a_function_answers_is_an_action_or_a_fault(
    phase: Phase, status: int, headers: Headers, body: bytes, chunk: bool
) -> None:
    try:
        found = phases.read(phase, Response(status, tuple(headers), body), ASKED, RULES, chunk=chunk)
    except FunctionFault:
        return
    assert found.act is not Act.MISS or phase is Phase.HIT
    assert not any(name.startswith("x-edge") for name, _ in found.headers)
