"""The chunks of a chat or completion stream, merged into the object that the same request gets without streaming."""

from collections.abc import Iterable
from typing import Any

from edgecache.types import Endpoint

_WHOLE = frozenset({"id", "index", "role", "type"})
"""Strings of a delta that are sent complete; all others arrive in pieces."""

OBJECTS = {Endpoint.CHAT: "chat.completion", Endpoint.COMPLETIONS: "text_completion"}
"""`object` of a whole answer."""


class MalformedError(ValueError):
    """A chunk does not have the shape of a chunk."""


class _Text(list[str]):
    """A string in pieces: joined once at the end, as adding to it chunk by chunk takes quadratic time."""


class _Slots(dict[int, dict[str, Any]]):
    """A list whose items carry an `index`, and arrive in pieces."""


def assemble(endpoint: Endpoint, chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One whole answer from its decoded chunks; nothing is judged here, a missing end stays missing.

    Unknown fields are kept, at every level. Raises MalformedError for chunks that cannot be merged.
    """
    whole: dict[str, Any] = {}
    slots: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for key, value in chunk.items():
            if value is not None or key not in whole:
                whole[key] = value
        for choice in _objects(chunk.get("choices")):
            index = choice.get("index", 0)
            if type(index) is not int:
                raise MalformedError
            _add_choice(endpoint, slots.setdefault(index, {"index": index}), choice)
    if sorted(slots) != list(range(len(slots))):
        raise MalformedError
    whole.pop("obfuscation", None)  # OpenAI's padding against traffic analysis
    whole["object"] = OBJECTS[endpoint]
    whole["choices"] = [_settled_choice(endpoint, slots[index]) for index in sorted(slots)]
    return whole


def _objects(value: Any) -> list[dict[str, Any]]:
    items = [] if value is None else value
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise MalformedError
    return items


def _add_choice(endpoint: Endpoint, slot: dict[str, Any], choice: dict[str, Any]) -> None:
    for key, value in choice.items():
        if key == "delta" and endpoint is Endpoint.CHAT:
            if not isinstance(value, dict):
                raise MalformedError
            _merge(slot.setdefault("message", {}), value)
        elif key == "text" or not isinstance(value, str):
            _merge(slot, {key: value})
        elif value or key not in slot:
            slot[key] = value  # finish_reason, stop_reason


def _merge(into: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    for key, value in delta.items():
        old = into.get(key)
        if value is None:
            into.setdefault(key, None)
        elif isinstance(value, str) and key not in _WHOLE:
            if type(old) is _Text:
                old.append(value)
            else:
                into[key] = _Text([value])
        elif isinstance(value, dict):
            into[key] = _merge(old if type(old) is dict else {}, value)
        elif isinstance(value, list):
            into[key] = _merge_list(old, value)
        else:
            into[key] = value
    return into


def _merge_list(old: Any, new: list[Any]) -> Any:
    if new and all(isinstance(item, dict) and type(item.get("index")) is int for item in new):
        slots = old if type(old) is _Slots else _Slots()
        for item in new:
            _merge(slots.setdefault(item["index"], {}), item)
        return slots
    if type(old) is _Slots:
        if new:
            raise MalformedError
        return old
    if type(old) is list:
        old.extend(new)
        return old
    return list(new)


def _settled(value: Any) -> Any:
    if type(value) is _Text:
        return "".join(value)
    if type(value) is _Slots:
        return [_settled(value[index]) for index in sorted(value)]
    if type(value) is dict:
        return {key: _settled(item) for key, item in value.items()}
    return value


def _settled_choice(endpoint: Endpoint, slot: dict[str, Any]) -> dict[str, Any]:
    choice: dict[str, Any] = _settled(slot)
    if endpoint is Endpoint.CHAT:
        message = {"role": "assistant", "content": None, **choice.get("message", {})}
        message["content"] = message["content"] or None
        for call in message.get("tool_calls") or []:
            if isinstance(call, dict):
                call.pop("index", None)  # a tool call has one in streams only
        choice["message"] = message
    return choice
