import orjson
import pytest
from openai.types.responses import Response

from edgecache.sim import responses
from edgecache.sim.words import answer
from edgecache.wire.sse import EventSplitter, data, event_name


def build(limit: int | None = None, **body) -> dict:
    made = answer("m", "q", 0, limit)
    return responses.build(body, number=5, model="m", made=made, prompt_tokens=2, created=1_700_000_000)


def test_a_response_is_what_the_openai_sdk_expects() -> None:
    made = Response.model_validate(build(input="q", instructions="be brief"), strict=False)
    assert made.output_text == answer("m", "q", 0, None).text
    assert made.status == "completed"
    assert made.instructions == "be brief"
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens


def test_a_cut_response_is_incomplete() -> None:
    made = build(limit=2)
    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.parametrize("limit", [None, 2])
def test_a_stream_ends_with_the_response_itself(limit) -> None:
    whole, made = build(limit=limit), answer("m", "q", 0, limit)
    events = EventSplitter().feed(b"".join(responses.stream(whole, made)))
    payloads = [orjson.loads(data(event)) for event in events]
    assert [payload["sequence_number"] for payload in payloads] == list(range(len(events)))
    assert [event_name(event) for event in events] == [payload["type"] for payload in payloads]
    assert payloads[0]["type"] == "response.created"
    assert "".join(payload.get("delta", "") for payload in payloads) == made.text
    assert payloads[-1]["type"] == f"response.{whole['status']}"
    assert payloads[-1]["response"] == whole


def test_the_shelf_keeps_what_may_be_kept_and_forgets_the_oldest() -> None:
    shelf = responses.Shelf()
    shelf.keep(build(store=False), {})
    assert not shelf.stored
    for number in range(responses._KEPT + 1):
        shelf.keep({**build(), "id": f"resp_{number}"}, {"input": "q"})
    assert len(shelf.stored) == responses._KEPT
    assert "resp_0" not in shelf.stored


def test_input_items_are_listed_in_order() -> None:
    shelf = responses.Shelf()
    shelf.keep(build(), {"input": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
    (stored,) = shelf.stored.values()
    listed = responses.input_items(stored)
    assert [item["content"][0]["text"] for item in listed["data"]] == ["a", "b"]
    assert listed["first_id"] == listed["data"][0]["id"]
    assert listed["last_id"] == listed["data"][-1]["id"]
    shelf.keep({**build(), "id": "resp_empty"}, {"input": []})
    assert responses.input_items(shelf.stored["resp_empty"])["data"] == []
