"""The scripted core's Responses API: the response object, its named events, and the responses kept in memory."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from edgecache.sim.habits import enclose
from edgecache.sim.words import Generated
from edgecache.wire.sse import frame

_KEPT = 4096
"""Stored responses; the oldest are forgotten."""

_DEFAULTS: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "background": False,
    "store": True,
}
"""Request fields that a response repeats, with what they are when left out."""


@dataclass(slots=True)
class Stored:
    """One response kept by the server, and the input it answered."""

    response: dict[str, Any]
    items: list[dict[str, Any]]


@dataclass(slots=True)
class Shelf:
    """The responses of one server, in its memory only: another worker does not know them."""

    stored: OrderedDict[str, Stored] = field(default_factory=OrderedDict)

    def keep(self, response: dict[str, Any], body: Mapping[str, Any]) -> None:
        """Store `response` unless the request said `store: false`."""
        if response["store"] is False:
            return
        self.stored[response["id"]] = Stored(response, _items(response["id"], body))
        if len(self.stored) > _KEPT:
            self.stored.popitem(last=False)


def build(
    body: Mapping[str, Any], *, number: int, model: str, made: Generated, prompt_tokens: int, created: int
) -> dict[str, Any]:
    """The finished response object."""
    cut = made.finish_reason == "length"
    repeated = {name: default if body.get(name) is None else body[name] for name, default in _DEFAULTS.items()}
    return {
        "id": f"resp_{number:024x}",
        "object": "response",
        "created_at": created,
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "model": model,
        "output": [_message(number, made)],
        "usage": {
            "input_tokens": prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": len(made.tokens),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt_tokens + len(made.tokens),
        },
        **repeated,
    }


def _message(number: int, made: Generated) -> dict[str, Any]:
    return {
        "type": "message",
        "id": f"msg_{number:024x}",
        "status": "incomplete" if made.finish_reason == "length" else "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": made.text, "annotations": []}],
    }


def _items(owner: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    asked = body.get("input")
    turns = asked if isinstance(asked, list) else [{"role": "user", "content": asked or ""}]
    items = []
    for index, turn in enumerate(turns):
        item = {"type": "message", "id": f"item_{index}_{owner[-8:]}", "status": "completed", **turn}
        if isinstance(item.get("content"), str):
            item["content"] = [{"type": "input_text", "text": item["content"]}]
        items.append(item)
    return items


def input_items(stored: Stored) -> dict[str, Any]:
    """The list that `GET /v1/responses/{id}/input_items` answers with."""
    items = stored.items
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
    return {"object": "list", "data": items, "has_more": False, **ends}


def stream(response: Mapping[str, Any], made: Generated) -> list[bytes]:
    """The response as named events, one bytes object per token; the Responses API has no `[DONE]`."""
    message = response["output"][0]
    part = message["content"][0]
    where = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    begun = {**response, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    opened = {**message, "status": "in_progress", "content": []}
    opening: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": opened}),
        ("response.content_part.added", {**where, "part": {**part, "text": ""}}),
    ]
    tokens = [("response.output_text.delta", {**where, "delta": token, "logprobs": []}) for token in made.tokens]
    closing: list[tuple[str, dict[str, Any]]] = [
        ("response.output_text.done", {**where, "text": made.text, "logprobs": []}),
        ("response.content_part.done", {**where, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": message}),
        (f"response.{response['status']}", {"response": response}),
    ]
    events = [
        frame(orjson.dumps({"type": name, **fields, "sequence_number": number}), name)
        for number, (name, fields) in enumerate(opening + tokens + closing)
    ]
    last = len(opening) + len(tokens)
    return enclose(events[: len(opening)], events[len(opening) : last], events[last:])
