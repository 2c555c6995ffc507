"""What a function keeps beside its code: secrets, which never come back out, and key-value data."""

import asyncio
from typing import Any

from aiohttp import web

from edgecache.errors import BadRequest, NotFound
from edgecache.http.admin.functions import body, json, scope, stored
from edgecache.http.guard import read_body
from edgecache.http.services import SERVICES
from edgecache.store.kv import Space

_KEYS = 1000
"""Most keys in one answer."""


async def secrets(request: web.Request) -> web.Response:
    """`GET /admin/v1/functions/{name}/secrets`: names, and when each was set."""
    here = scope(request)
    here.runtime.registry.deployment(here.tenant, here.name)
    with stored():
        found = await asyncio.to_thread(here.runtime.secrets.list, here.tenant, here.name)
    return json({"secrets": found})


async def put_secret(request: web.Request) -> web.Response:
    """`PUT /admin/v1/functions/{name}/secrets/{key}` with `{"value": …}`."""
    return await _put(request, {request.match_info["key"]: (await body(request)).get("value")})


async def put_secrets(request: web.Request) -> web.Response:
    """`POST /admin/v1/functions/{name}/secrets` with `{"values": {name: value}}`: all of them or none."""
    values = (await body(request)).get("values")
    if not isinstance(values, dict):
        raise BadRequest("`values` is an object of names and values.", param="values")
    return await _put(request, values)


async def _put(request: web.Request, values: dict[str, Any]) -> web.Response:
    here = scope(request)
    here.runtime.registry.deployment(here.tenant, here.name)
    if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
        raise BadRequest(f"The value of `{wrong[0]}` is a text.", param=wrong[0])
    with stored():
        await here.runtime.secrets.put(here.tenant, here.name, values)
    return json({"stored": sorted(values)})


async def delete_secret(request: web.Request) -> web.Response:
    """`DELETE /admin/v1/functions/{name}/secrets/{key}`."""
    here, key = scope(request), request.match_info["key"]
    with stored():
        if not await here.runtime.secrets.delete(here.tenant, here.name, key):
            raise NotFound(f"There is no secret {key[:100]!r}.")
    return json({"deleted": key})


async def keys(request: web.Request) -> web.Response:
    """`GET /admin/v1/functions/{name}/kv/{store}?prefix=&limit=`: keys in order, and what the function's data takes."""
    here, space = scope(request), _space(request)
    asked = request.query.get("limit", str(_KEYS))
    if not asked.isdecimal() or len(asked) > 6 or not 1 <= int(asked) <= _KEYS:
        raise BadRequest(f"`limit` is a number from 1 to {_KEYS}.", param="limit")
    kv, prefix = here.runtime.kv, request.query.get("prefix", "")
    with stored():
        found = await asyncio.to_thread(kv.keys, space, prefix, int(asked))
        usage = await asyncio.to_thread(kv.usage, here.tenant, here.name)
    return json({"keys": found, "usage": usage})


async def get(request: web.Request) -> web.Response:
    """`GET /admin/v1/functions/{name}/kv/{store}/{key}`: the value as it is."""
    here, space = scope(request), _space(request)
    with stored():
        value = await asyncio.to_thread(here.runtime.kv.get, space, request.match_info["key"])
    if value is None:
        raise NotFound("There is no value under this key.")
    return web.Response(body=value, content_type="application/octet-stream")


async def put(request: web.Request) -> web.Response:
    """`PUT /admin/v1/functions/{name}/kv/{store}/{key}?ttl=`: the body as the value."""
    here, space, ttl, services = scope(request), _space(request), _ttl(request), request.app[SERVICES]
    value = await read_body(request, services.config.limits, services.metrics)
    with stored():
        await asyncio.to_thread(here.runtime.kv.set, space, request.match_info["key"], value, ttl)
    return json({"stored": request.match_info["key"], "bytes": len(value)})


async def delete(request: web.Request) -> web.Response:
    """`DELETE /admin/v1/functions/{name}/kv/{store}/{key}`."""
    here, space, key = scope(request), _space(request), request.match_info["key"]
    with stored():
        if not await asyncio.to_thread(here.runtime.kv.delete, space, key):
            raise NotFound("There is no value under this key.")
    return json({"deleted": key})


def _space(request: web.Request) -> Space:
    """The store that `request` names, of a function that exists."""
    here = scope(request)
    here.runtime.registry.deployment(here.tenant, here.name)
    return Space(here.tenant, here.name, request.match_info["store"])


def _ttl(request: web.Request) -> float | None:
    given = request.query.get("ttl")
    if given is None:
        return None
    try:
        ttl = float(given)
    except ValueError:
        ttl = -1.0
    if not 0 < ttl < float("inf"):
        raise BadRequest("`ttl` is a number of seconds above 0.", param="ttl")
    return ttl
