"""Verdicts on answers: whether what a request got was right. What a verdict does is `pipeline.feedback`'s part."""

from aiohttp import web

from edgecache.errors import Overloaded, StoreError
from edgecache.http import respond
from edgecache.http.exchange import EXCHANGE
from edgecache.http.guard import read_body
from edgecache.http.services import SERVICES
from edgecache.wire import feedback
from edgecache.wire.jsontext import encode


async def give(request: web.Request) -> web.StreamResponse:
    """`POST /v1/feedback`. Durable when it is answered; a tenant reaches its own requests and entries only."""
    services, exchange = request.app[SERVICES], request[EXCHANGE]
    said = feedback.parse(await read_body(request, services.config.limits, services.metrics))
    tenant = exchange.tenant.id
    try:
        if said.request_id is not None:
            done = await services.feedback.on_request(tenant, said.request_id, good=said.good, note=said.note)
        else:
            done = await services.feedback.on_entry(tenant, said.entry or 0, good=said.good, note=said.note)
    except StoreError as error:
        raise Overloaded("The verdict could not be stored; say it again later.", retry_after=1.0) from error
    return respond.complete(services, request, exchange, 200, encode(done))
