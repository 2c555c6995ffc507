"""The configuration in force, reloading it, and the models behind this POP."""

import msgspec
from aiohttp import web

from edgecache.config import schema
from edgecache.errors import BadRequest, ConfigError
from edgecache.http.services import SERVICES


async def show(request: web.Request) -> web.Response:
    """`GET /admin/v1/config`: every setting in force, secrets masked."""
    return _json(schema.redacted(request.app[SERVICES].config))


async def reload(request: web.Request) -> web.Response:
    """`POST /admin/v1/reload`: read the configuration again; a bad file changes nothing and is answered with 400."""
    try:
        return _json(await request.app[SERVICES].reload())
    except ConfigError as error:
        raise BadRequest(error.message, code="invalid_config") from error


async def models(request: web.Request) -> web.Response:
    """`GET /admin/v1/models`: what each upstream serves, and the embedder."""
    services = request.app[SERVICES]
    embedder = services.batcher.embedder
    return _json(
        {
            "models": [{"id": name, "owner": owner} for name, owner in await services.pool.models()],
            "embedder": {
                "name": embedder.name,
                "fingerprint": embedder.fingerprint,
                "dimension": embedder.dimension,
                "window": embedder.window,
                "device": embedder.device,
                "precision": embedder.precision,
                "ready": services.batcher.ready,
            },
        }
    )


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
