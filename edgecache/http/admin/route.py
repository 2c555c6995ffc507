"""Which upstream a request would go to, and why: nothing is sent."""

import msgspec
from aiohttp import web

from edgecache.http.admin.cache import asked
from edgecache.http.services import SERVICES


async def explain(request: web.Request) -> web.Response:
    """`POST /admin/v1/route/explain?endpoint=…&tenant=…`; body and headers as a client would send them."""
    services, call = request.app[SERVICES], await asked(request)
    vector = await services.explainer.vector(call, services.pipeline.settings)
    report = await services.dispatcher.explain(call, vector)
    return web.Response(body=msgspec.json.encode(report), content_type="application/json")
