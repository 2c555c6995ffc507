"""The cache from outside: what is in it, why a request would hit or miss, removing answers, moving them elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import msgspec
from aiohttp import hdrs, web

from edgecache.cache import purge as purges
from edgecache.errors import BadRequest, Overloaded, RequestTimeout, StoreError, StoreFull, StoreReadOnly
from edgecache.http import middleware
from edgecache.http.auth import DEFAULT_TENANT
from edgecache.http.guard import read_body
from edgecache.http.services import SERVICES
from edgecache.store import transfer
from edgecache.telemetry.trace import Trace
from edgecache.types import Call, Endpoint
from edgecache.wire.jsontext import JsonError, decode

_RECORDS = 256
"""Records read from disk in one go of an export."""


async def stats(request: web.Request) -> web.Response:
    """`GET /admin/v1/cache/stats`: sizes of the store, and the estimated wrong-hit rate in total."""
    services = request.app[SERVICES]
    return _json(msgspec.to_builtins(services.store.stats()) | {"quality": services.learner.report()["total"]})


async def explain(request: web.Request) -> web.Response:
    """`POST /admin/v1/cache/explain?endpoint=…&tenant=…`; body and cache headers as a client would send them."""
    services, call = request.app[SERVICES], await asked(request)
    return _json(await services.explainer.explain(call, services.pipeline.settings, Trace(services.clock)))


async def asked(request: web.Request) -> Call:
    """The request that is to be explained: body and headers of a client, endpoint and tenant in the query."""
    services = request.app[SERVICES]
    name = request.query.get("endpoint", Endpoint.CHAT.value)
    if name not in {endpoint.value for endpoint in Endpoint}:
        raise BadRequest(f"`endpoint` is one of {', '.join(Endpoint)}.", param="endpoint")
    raw = await read_body(request, services.config.limits, services.metrics)
    tenant = services.auth.known(request.query.get("tenant", DEFAULT_TENANT))
    return middleware.call_of(
        services, Endpoint(name), raw, request.headers, tenant=tenant, request_id=services.ids.mint()
    )


async def purge(request: web.Request) -> web.Response:
    """`POST /admin/v1/purge`: see `cache.purge.parse` for the body. Durable when it is answered."""
    services = request.app[SERVICES]
    try:
        body = decode(await read_body(request, services.config.limits, services.metrics))
    except JsonError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body is one JSON object.")
    selectors, soft = purges.parse(body)
    ids = [await services.store.purge(selector, soft=soft) for selector in selectors]
    return _json({"purges": ids, "soft": soft})


async def export(request: web.Request) -> web.StreamResponse:
    """`GET /admin/v1/cache/export`: every live entry; without its last record the export is known to be cut short."""
    records = transfer.export(request.app[SERVICES].store)
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: "application/msgpack",
            hdrs.CONTENT_DISPOSITION: 'attachment; filename="edgecache.export"',
        }
    )
    batch = await asyncio.to_thread(lambda: b"".join(islice(records, _RECORDS)))
    await response.prepare(request)
    while batch:
        await response.write(batch)
        batch = await asyncio.to_thread(lambda: b"".join(islice(records, _RECORDS)))
    await response.write_eof()
    return response


async def import_(request: web.Request) -> web.Response:
    """`POST /admin/v1/cache/import`, with an export as the body. What was read before an error stays."""
    services = request.app[SERVICES]
    try:
        done = await transfer.import_(services.store, _chunks(request, services.config.limits.body_timeout))
    except (StoreFull, StoreReadOnly) as error:
        raise Overloaded(error.message, code="store_unavailable") from error
    except StoreError as error:
        raise BadRequest(f"The import ended early: {error.message}.") from error
    finally:
        if services.config.cache.semantic.enabled:
            await services.semantic.repair()
    return _json(done)


async def _chunks(request: web.Request, patience: float) -> AsyncIterator[bytes]:
    """The body as it comes, however large; no pause may be longer than `patience` seconds."""
    while True:
        try:
            async with asyncio.timeout(patience):
                chunk = await request.content.readany()
        except TimeoutError as error:
            raise RequestTimeout("The rest of the import did not arrive in time.") from error
        if not chunk:
            return
        yield chunk


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
