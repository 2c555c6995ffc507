"""`/fn/NAME/…`: plain HTTP to a tenant's function, which sees the path below its name, as if it were the whole site.

What it answers goes out as it writes it. Headers that are ours to set, `respond` leaves out.
"""

import asyncio
from collections.abc import AsyncIterator
from hashlib import blake2b

from aiohttp import hdrs, web
from multidict import CIMultiDict

from edgecache.errors import FunctionFault, NotFound, UpstreamDied
from edgecache.functions import phases
from edgecache.functions.manifest import Phase
from edgecache.functions.outgoing import Outgoing
from edgecache.functions.runner import Job, Runner
from edgecache.functions.versions import Loaded
from edgecache.http import respond
from edgecache.http.exchange import EXCHANGE
from edgecache.http.guard import read_body
from edgecache.http.services import SERVICES
from edgecache.pipeline.visit import FUNCTION
from edgecache.types import CacheInfo, CacheStatus, Reply
from edgecache.wasm.base import Request, Response

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Methods of the route; HEAD comes with GET."""
PATH = "/fn/{name}{path:(/.*)?}"
_BODILESS = (204, 304)


async def call(request: web.Request) -> web.StreamResponse:
    """Any method of `/fn/{name}/{path}`."""
    services, exchange = request.app[SERVICES], request[EXCHANGE]
    body = await read_body(request, services.config.limits, services.metrics)
    runner, loaded, target = _found(request, body)
    outgoing = Outgoing(runner.place(loaded.version).limits)
    job = Job(
        loaded,
        Phase.ROUTE,
        _request(request, target, body, runner.seed()),
        _as_it_is,
        exchange.tenant,
        exchange.request_id,
        stream=outgoing,
    )
    running = runner.start(job)
    running.add_done_callback(lambda _: outgoing.end())
    try:
        with exchange.trace.stage("wasm"):
            head = await outgoing.head()
            answer = await running if head is None else Response(head.status, head.headers, b"")
        reply = _reply(answer, loaded)
        if head is not None:
            reply.chunks = _Parts(outgoing, running)
        if reply.chunks is not None and (request.method == hdrs.METH_HEAD or reply.status in _BODILESS):
            reply.body, reply.chunks = b"".join([part async for part in reply.chunks]), None
        return await respond.send(request, exchange, reply)
    finally:
        outgoing.close()
        running.cancel()
        del running  # a fault in it has this frame, which would keep it, and with it the function


def _found(request: web.Request, body: bytes) -> tuple[Runner, Loaded, str]:
    """The function that `request` names, and what it sees as the target; raises NotFound."""
    runtime, tenant = request.app[SERVICES].runtime, request[EXCHANGE].tenant.id
    name, path = request.match_info["name"], request.match_info["path"] or "/"
    bound = None if runtime is None else runtime.bindings.route(tenant, name, path)
    if runtime is None or bound is None:
        raise NotFound(f"There is no function {name[:63]!r} with a route for this path.", code="no_function")
    place, mark, query = request.raw_path.partition("?")
    target = "/" + place.removeprefix("/fn/").partition("/")[2] + mark + query
    sticky = blake2b(f"{request.method} {target}\n".encode("utf-8", "surrogateescape") + body, digest_size=16)
    return runtime.runner, bound.active.pick(sticky.digest()), target


def _request(request: web.Request, target: str, body: bytes, seed: bytes) -> Request:
    services, exchange = request.app[SERVICES], request[EXCHANGE]
    headers = phases.of_route(request.headers, tenant=exchange.tenant.id, request_id=exchange.request_id)
    return Request(
        request.method,
        target,
        headers,
        body,
        now=int(services.clock.now() * 1e9),
        seed=seed,
        authority=request.headers.get(hdrs.HOST, "edgecache.local"),
        writes=True,
    )


def _as_it_is(response: Response) -> Response:
    return response


def _reply(answer: Response, loaded: Loaded) -> Reply:
    headers = CIMultiDict(phases.from_route(answer.headers))
    content_type = headers.pop(hdrs.CONTENT_TYPE, "application/octet-stream")
    headers[FUNCTION] = loaded.version.label
    info = CacheInfo(CacheStatus.BYPASS, fwd="bypass", detail="function")
    return Reply(answer.status, info, content_type=content_type, body=answer.body, headers=headers)


class _Parts(AsyncIterator[bytes]):
    """What the function writes. A fault after the head breaks the response off: there is no way to tell the client."""

    def __init__(self, outgoing: Outgoing, running: "asyncio.Future[Response]") -> None:
        self._outgoing = outgoing
        self._running = running

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._outgoing)
        except StopAsyncIteration:
            try:
                await self._running
            except FunctionFault as fault:
                del self._running  # as in `call`
                raise UpstreamDied(fault.message, reported=True) from fault
            raise

    async def aclose(self) -> None:
        """The client has all of it, or has left."""
        self._outgoing.close()
