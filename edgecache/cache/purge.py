"""What an operator or a tenant asks to purge, as selectors. No I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from edgecache.errors import BadRequest
from edgecache.store.epochs import Kind, Selector

__all__ = ["Kind", "Selector", "parse", "split_tags"]

_MAX_SELECTORS = 256
_MAX_LENGTH = 1024
_FIELDS = {"all", "tenant", "namespace", "model", "tag", "tags", "writer", "entry", "entries", "soft"}


def parse(body: Mapping[str, Any], *, tenant: str | None = None) -> tuple[list[Selector], bool]:
    """The selectors of a purge request and whether it is soft; raises BadRequest naming the field.

    Fields: `all: true`, `tenant`, `namespace`, `model`, `tag` or `tags`, `writer` (as stored with an entry, or its
    key only), `entry` or `entries` (ids), `soft: true`.
    Each adds to what is purged; `tenant` next to others limits them to that tenant. `tenant` as an argument is the
    caller's own: such a caller reaches its own answers only. Purging everything is never soft (as at Fastly): a purge
    of all is for answers that must not be served.
    """
    unknown = sorted(set(body) - _FIELDS)
    if unknown:
        raise BadRequest(f"unknown field `{unknown[0]}`; known: {', '.join(sorted(_FIELDS))}", param=unknown[0])
    soft, everything = _flag(body, "soft"), _flag(body, "all")
    named = _one(body, "tenant")
    if tenant is not None and named not in (None, tenant):
        raise BadRequest("only answers of your own tenant can be purged", param="tenant")
    owner = tenant or named
    selectors = [Selector(kind, value, owner) for kind, value in _values(body)]
    if everything or (named is not None and not selectors):
        if everything and soft:
            raise BadRequest("purging everything cannot be soft", param="soft")
        selectors.append(Selector(Kind.ALL) if owner is None else Selector(Kind.TENANT, owner))
    if not selectors:
        raise BadRequest("nothing to purge: name `entry`, `tags`, `writer`, `namespace`, `tenant`, `model` or `all`")
    if len(selectors) > _MAX_SELECTORS:
        raise BadRequest(f"at most {_MAX_SELECTORS} selectors in one request")
    return selectors, soft


def split_tags(header: str) -> list[str]:
    """Tags of a `Surrogate-Key` (separated by spaces) or `Cache-Tag` (by commas) header value."""
    return [tag for tag in re.split(r"[\s,]+", header) if tag]


def _values(body: Mapping[str, Any]) -> Iterable[tuple[Kind, str]]:
    for name in ("entry", "entries"):
        for value in _several(body, name):
            if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,19}", str(value)):
                raise BadRequest(f"`{name}` takes entry ids as in `x-edgecache-entry`", param=name)
            yield Kind.ENTRY, str(int(value))
    for kind in (Kind.NAMESPACE, Kind.MODEL, Kind.WRITER):
        value = _one(body, kind.value)
        if value is not None:
            yield kind, value
    for name in ("tag", "tags"):
        for tag in _several(body, name):
            yield Kind.TAG, _text(tag, name)


def _several(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if value is None:
        return []
    if not name.endswith("s") and name != "entries":
        return [value]
    if not isinstance(value, list):
        raise BadRequest(f"`{name}` must be a list", param=name)
    return value


def _one(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return None if value is None else _text(value, name)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_LENGTH:
        raise BadRequest(f"`{name}` must be a string of 1 to {_MAX_LENGTH} characters", param=name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"`{name}` must be true or false", param=name)
    return value
