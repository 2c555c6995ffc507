"""The models that can be asked for: those of the upstreams, and the embedder of this POP."""

from aiohttp import web

from edgecache.errors import ModelNotFound, UpstreamError
from edgecache.http import respond
from edgecache.http.exchange import EXCHANGE
from edgecache.http.services import SERVICES, Services
from edgecache.router import routes
from edgecache.types import Tenant
from edgecache.wire import openai

LOCAL_OWNER = "edgecache"
_HOP = "EdgeCache-Hop"


async def list_all(request: web.Request) -> web.StreamResponse:
    """`GET /v1/models`."""
    services, exchange = request.app[SERVICES], request[EXCHANGE]
    body = openai.models_body(await _visible(services, exchange.tenant, request))
    return respond.complete(services, request, exchange, 200, body)


async def retrieve(request: web.Request) -> web.StreamResponse:
    """`GET /v1/models/{id}`; ids may hold slashes."""
    services, exchange = request.app[SERVICES], request[EXCHANGE]
    wanted = request.match_info["id"]
    for name, owner in await _visible(services, exchange.tenant, request):
        if name == wanted:
            return respond.complete(services, request, exchange, 200, openai.model_body(name, owner))
    raise ModelNotFound(f"The model `{wanted[:200]}` does not exist or you do not have access to it.", param="model")


async def _visible(services: Services, tenant: Tenant, request: web.Request) -> list[tuple[str, str]]:
    """What is known: with the upstreams down that is the embedder of this POP, and the names that routes give.

    A neighbour POP is not told of what neighbours serve: it would come back to where it was heard.
    """
    local = (f"{LOCAL_OWNER}/{services.batcher.embedder.name}", LOCAL_OWNER)
    named = [(name, LOCAL_OWNER) for name in routes.names(services.config.router.route, tenant.id)]
    try:
        models = await services.pool.models(neighbours=_HOP not in request.headers)
    except UpstreamError:
        models = []
    return services.auth.visible(tenant, list(dict([*named, *models, local][::-1]).items())[::-1])
