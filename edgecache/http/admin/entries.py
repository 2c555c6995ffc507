"""One stored answer as an operator sees it: whose it is, who wrote it, and what holds it back. Changes nothing."""

import re
from typing import Any

import msgspec
from aiohttp import web

from edgecache.errors import BadRequest, NotFound
from edgecache.http.services import SERVICES
from edgecache.types import Entry

_ID = re.compile(r"[0-9]{1,19}")


async def show(request: web.Request) -> web.Response:
    """`GET /admin/v1/entries/{id}`, the id as in `x-edgecache-entry`; `?body=true` adds the stored answer."""
    store = request.app[SERVICES].store
    told = request.match_info["id"]
    entry = store.get(int(told)) if _ID.fullmatch(told) else None
    if entry is None:
        raise NotFound(f"There is no entry {told}: it was never stored, or it was purged, replaced or evicted.")
    report = _facts(entry) | {"uses": store.uses(entry.id)}
    if _flag(request, "body"):
        report["body"] = msgspec.Raw(entry.body)
    return web.Response(body=msgspec.json.encode(report), content_type="application/json")


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "tenant": entry.tenant,
        "writer": entry.writer,
        "namespace": entry.namespace,
        "model": entry.model,
        "endpoint": entry.endpoint.value,
        "question": entry.text,
        "created": entry.created,
        "expires": entry.expires,
        "stale": entry.soft_purged,
        "held": entry.held,
        "tags": entry.tags,
        "upstream": entry.upstream,
        "finish_reason": entry.finish_reason,
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "bytes": len(entry.body),
        "scope": entry.scope.hex(),
        "digest": entry.digest.hex(),
    }


def _flag(request: web.Request, name: str) -> bool:
    given = request.query.get(name, "false")
    if given not in {"true", "false"}:
        raise BadRequest(f"`{name}` is true or false.", param=name)
    return given == "true"
