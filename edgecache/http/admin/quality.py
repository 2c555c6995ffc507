"""How right the hits are, as an operator sees it: estimates, bad pairs, verdicts, and entries pinned or banned."""

import re
from typing import Any

import msgspec
from aiohttp import web

from edgecache.errors import NotFound, Overloaded, StoreError
from edgecache.http.auth import DEFAULT_TENANT
from edgecache.http.guard import read_body
from edgecache.http.services import SERVICES
from edgecache.store.rows import MarkName
from edgecache.wire import feedback

_ID = re.compile(r"[0-9]{1,19}")


async def show(request: web.Request) -> web.Response:
    """`GET /admin/v1/quality`: the estimated wrong-hit rate by segment and in total, bad pairs of late, marks."""
    return _json(request.app[SERVICES].feedback.report())


async def give(request: web.Request) -> web.Response:
    """`POST /admin/v1/feedback`: a verdict with an operator's authority, on any tenant's request or entry."""
    services = request.app[SERVICES]
    said = feedback.parse(await read_body(request, services.config.limits, services.metrics), operator=True)
    good, note = said.good, said.note
    try:
        if said.request_id is not None:
            tenant = said.tenant or DEFAULT_TENANT
            done = await services.feedback.on_request(tenant, said.request_id, good=good, note=note, origin="operator")
        else:
            done = await services.feedback.on_entry(
                said.tenant, said.entry or 0, good=good, note=note, origin="operator"
            )
    except StoreError as error:
        raise _unavailable(error) from error
    return _json(done)


async def pin(request: web.Request) -> web.Response:
    """`POST /admin/v1/entries/{id}/pin`: not evicted for room, not lowered by automatic evidence."""
    return await _mark(request, "pin")


async def ban(request: web.Request) -> web.Response:
    """`POST /admin/v1/entries/{id}/ban`: not served again to anybody, nor stored again."""
    return await _mark(request, "ban")


async def release(request: web.Request) -> web.Response:
    """`POST /admin/v1/entries/{id}/release`: neither pinned nor banned."""
    return await _mark(request, None)


async def _mark(request: web.Request, mark: MarkName | None) -> web.Response:
    told = request.match_info["id"]
    if not _ID.fullmatch(told):
        raise NotFound(f"There is no entry {told}.")
    try:
        return _json(await request.app[SERVICES].feedback.mark(int(told), mark))
    except StoreError as error:
        raise _unavailable(error) from error


def _unavailable(error: StoreError) -> Overloaded:
    return Overloaded(error.message, code="store_unavailable")


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
