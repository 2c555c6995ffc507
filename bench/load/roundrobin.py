"""The yardstick of balancing: a bare aiohttp pass-through that asks its upstreams in turn. Prints its URL."""

import argparse
import itertools

import aiohttp
import uvloop
from aiohttp import web

from bench.load.listening import listen


async def serve(upstreams: list[str]) -> None:
    """Pass every request on until killed."""
    turns = itertools.cycle(upstreams)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4)) as session:

        async def handler(request: web.Request) -> web.StreamResponse:
            body, headers = await request.read(), {"Content-Type": "application/json"}
            async with session.post(next(turns) + request.path, data=body, headers=headers) as answer:
                response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                return response

        await listen(handler)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstreams", nargs="+", help="base URLs without /v1")
    uvloop.run(serve(parser.parse_args().upstreams))
