"""What Dynamo's frontend really sends: the wire habits that dialect, fill rules and scripted core rely on."""

import json
import os
import signal
from types import SimpleNamespace

import httpx
import pytest

pytestmark = pytest.mark.dynamo

QUESTION = {"messages": [{"role": "user", "content": "Why is rain cold?"}], "max_tokens": 200}


def ask(dynamo: SimpleNamespace, **more: object) -> httpx.Response:
    body = {"model": dynamo.model} | QUESTION | more
    return httpx.post(dynamo.url + "/v1/chat/completions", json=body, timeout=30)


def events(text: str) -> list[str]:
    return [each.removeprefix("data: ") for each in text.split("\n\n") if each]


def chunks(text: str) -> list[dict[str, object]]:
    return [json.loads(each) for each in events(text) if each != "[DONE]"]


def test_models_lists_the_model_with_nvidia_as_its_owner(dynamo: SimpleNamespace) -> None:
    found = httpx.get(dynamo.url + "/v1/models").json()["data"]
    assert [(each["id"], each["owned_by"]) for each in found] == [(dynamo.model, "nvidia")]


def test_a_json_answer_ends_by_itself_and_carries_usage(dynamo: SimpleNamespace) -> None:
    answers = [ask(dynamo).json() for _ in range(5)]
    assert {each["choices"][0]["finish_reason"] for each in answers} == {"stop"}
    assert len({each["id"] for each in answers}) == 5
    assert all(each["usage"]["completion_tokens"] > 0 for each in answers)


def test_a_stream_begins_with_the_role_and_ends_with_usage_and_done(dynamo: SimpleNamespace) -> None:
    response = ask(dynamo, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"] == "text/event-stream"
    assert events(response.text)[-1] == "[DONE]"
    first, *_, finish, usage = chunks(response.text)
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert first["choices"][0]["finish_reason"] is None
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0


def test_fields_it_does_not_know_are_refused_with_a_flat_error(dynamo: SimpleNamespace) -> None:
    response = ask(dynamo, edge_tier="fast")
    assert response.status_code == 400
    assert response.json()["type"] == "Bad Request"
    assert "edge_tier" in response.json()["message"]


def test_a_request_it_refuses_late_is_a_stream_of_an_error_and_done_with_status_200(dynamo: SimpleNamespace) -> None:
    body = {"model": dynamo.model, "messages": QUESTION["messages"], "stream": True}  # the mocker wants max_tokens
    response = httpx.post(dynamo.url + "/v1/chat/completions", json=body)
    assert response.status_code == 200
    error, done = events(response.text)
    assert json.loads(error)["error"]["code"] == 400
    assert done == "[DONE]"


def test_several_choices_are_asked_for_and_one_comes(dynamo: SimpleNamespace) -> None:
    assert len(ask(dynamo, n=2).json()["choices"]) == 1


def test_a_worker_that_dies_in_a_stream_shows_as_an_error_event_then_done(mortal_dynamo: SimpleNamespace) -> None:
    body = {"model": mortal_dynamo.model} | QUESTION | {"stream": True, "max_tokens": 4000, "ignore_eos": True}
    with httpx.stream("POST", mortal_dynamo.url + "/v1/chat/completions", json=body, timeout=30) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"]
        os.kill(mortal_dynamo.mocker_pid, signal.SIGKILL)
        *_, error, done = [line for line in lines if line]
    assert response.status_code == 200
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == 503
    assert done == "data: [DONE]"
