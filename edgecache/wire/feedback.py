"""The body of a verdict on an answer, read and checked. No I/O; `pipeline.feedback` acts on it."""

import re
from typing import Any

import msgspec

from edgecache.errors import BadRequest
from edgecache.wire.jsontext import JsonError, decode

MAX_NOTE = 1024
_FIELDS = frozenset({"request_id", "entry", "verdict", "note"})
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_ENTRY = re.compile(r"[0-9]{1,19}")


class Opinion(msgspec.Struct, frozen=True):
    """A verdict on the answer that request `request_id` got, or on stored entry `entry`: one of the two is None.

    `tenant` is whose request it was, where the one who speaks is not the tenant itself.
    """

    good: bool
    note: str = ""
    request_id: str | None = None
    entry: int | None = None
    tenant: str | None = None


def parse(raw: bytes, *, operator: bool = False) -> Opinion:
    """The opinion in a body; an `operator` may name a `tenant`. Raises BadRequest naming the field."""
    try:
        body = decode(raw)
    except JsonError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body is one JSON object.")
    known = _FIELDS | {"tenant"} if operator else _FIELDS
    if unknown := sorted(set(body) - known):
        raise BadRequest(f"Unknown field `{unknown[0]}`; known: {', '.join(sorted(known))}.", param=unknown[0])
    request_id, entry = body.get("request_id"), body.get("entry")
    if (request_id is None) == (entry is None):
        raise BadRequest("Name the answer by `request_id` or by `entry`, one of the two.", param="request_id")
    return Opinion(
        good=_good(body.get("verdict")),
        note=_note(body.get("note")),
        request_id=None if request_id is None else _id(request_id),
        entry=None if entry is None else _entry(entry),
        tenant=_tenant(body.get("tenant")),
    )


def _good(value: Any) -> bool:
    if value not in ("good", "bad"):
        raise BadRequest("`verdict` is `good` or `bad`.", param="verdict")
    return bool(value == "good")


def _note(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_NOTE:
        raise BadRequest(f"`note` is a text of at most {MAX_NOTE} characters.", param="note")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _REQUEST_ID.fullmatch(value):
        raise BadRequest("`request_id` is the id in `x-request-id` of the response.", param="request_id")
    return value


def _entry(value: Any) -> int:
    """Numbers and, as they stand in `x-edgecache-entry`, digits."""
    if type(value) not in {int, str} or not _ENTRY.fullmatch(str(value)):
        raise BadRequest("`entry` is the id in `x-edgecache-entry` of the response.", param="entry")
    return int(value)


def _tenant(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise BadRequest("`tenant` is the name of a tenant.", param="tenant")
    return value
