"""The Responses API: creating goes through the cache, what the upstream has stored is passed through."""

import re
from collections.abc import AsyncIterator

from aiohttp import web

from edgecache.errors import BadRequest
from edgecache.http import respond
from edgecache.http.exchange import EXCHANGE
from edgecache.http.guard import read_body
from edgecache.http.public import openai as completions
from edgecache.http.services import SERVICES
from edgecache.types import CacheInfo, CacheStatus, Endpoint, Reply
from edgecache.upstream.answer import UpstreamAnswer
from edgecache.wire import openai

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


async def create(request: web.Request) -> web.StreamResponse:
    """`POST /v1/responses`."""
    return await completions.serve(request, await completions.read(request, Endpoint.RESPONSES))


async def stored(request: web.Request) -> web.StreamResponse:
    """Read, delete or cancel a response that an upstream has stored, or list its input."""
    services, exchange = request.app[SERVICES], request[EXCHANGE]
    if _ID.fullmatch(response_id := request.match_info["id"]) is None:
        raise BadRequest("A response id is 1 to 128 letters, digits, `_` and `-`.", param="response_id")
    await read_body(request, services.config.limits, services.metrics)  # none of these takes one
    headers = {name.lower(): value for name, value in request.headers.items()}
    path = _path(request, response_id)
    with exchange.trace.stage("upstream"):
        answer = await services.dispatcher.forward(request.method, path, headers, tenant=exchange.tenant)
    reply = Reply(
        answer.status,
        CacheInfo(CacheStatus.BYPASS, fwd="bypass", detail="stored-response", fwd_status=answer.status),
        content_type=answer.content_type or respond.JSON,
        upstream=answer.upstream,
        headers=answer.headers,
    )
    if answer.streaming:
        reply.chunks = _bytes(answer)
    elif answer.status >= 400:
        reply.content_type = respond.JSON
        reply.body = openai.normalise_error(answer.status, await answer.read())
    else:
        reply.body = await answer.read()
    return await respond.send(request, exchange, reply)


def _path(request: web.Request, response_id: str) -> str:
    """The upstream's path, built from the matched route and the checked id, never from the text of the request."""
    resource = request.match_info.route.resource
    _, _, tail = resource.canonical.partition("{id}") if resource is not None else ("", "", "")
    query = request.rel_url.raw_query_string
    return f"/v1/responses/{response_id}{tail}" + (f"?{query}" if query else "")


async def _bytes(answer: UpstreamAnswer) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.chunks():
            if chunk.visible:
                yield chunk.visible
    finally:
        await answer.aclose()
