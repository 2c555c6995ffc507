"""The metrics in Prometheus' text format."""

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from edgecache.http.services import SERVICES


async def render(request: web.Request) -> web.Response:
    """`GET /metrics`. Rendering takes milliseconds, so it happens in a thread."""
    text = await asyncio.to_thread(request.app[SERVICES].metrics.render)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
