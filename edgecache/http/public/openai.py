"""Chat and text completions: read, parse, serve, send. What happens in between is `pipeline.serve`'s part."""

from aiohttp import hdrs, web

from edgecache.http import middleware, respond
from edgecache.http.exchange import EXCHANGE
from edgecache.http.guard import read_body
from edgecache.http.services import SERVICES
from edgecache.types import CacheStatus, Call, Endpoint


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`."""
    return await serve(request, await read(request, Endpoint.CHAT))


async def completions(request: web.Request) -> web.StreamResponse:
    """`POST /v1/completions`."""
    return await serve(request, await read(request, Endpoint.COMPLETIONS))


async def read(request: web.Request, endpoint: Endpoint) -> Call:
    """The call that `request` makes; raises ClientError."""
    services, exchange = request.app[SERVICES], request[EXCHANGE]
    clock, trace = services.clock, exchange.trace
    raw = await read_body(request, services.config.limits, services.metrics)
    begun = clock.monotonic()
    call = middleware.call_of(
        services, endpoint, raw, request.headers, tenant=exchange.tenant, request_id=exchange.request_id
    )
    exchange.model, exchange.account = call.model, call.account
    trace.add("parse", clock.monotonic() - begun)
    return call


async def serve(request: web.Request, call: Call) -> web.StreamResponse:
    """Serve `call` and send the reply."""
    exchange = request[EXCHANGE]
    services = request.app[SERVICES]
    reply = await services.pipeline.serve(call, exchange.trace)
    if reply.cache.status is CacheStatus.HIT and reply.status == 200:
        services.repeats.learn(request.path, request.headers.get(hdrs.AUTHORIZATION), call, services.auth)
    return await respond.send(request, exchange, reply)
