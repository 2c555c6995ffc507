"""The yardstick of misses: a bare aiohttp proxy on uvloop that passes bytes on as they come. Prints its URL."""

import argparse

import aiohttp
import uvloop
from aiohttp import web

from bench.load.listening import listen

_CHAT = "/v1/chat/completions"


async def serve(upstream: str) -> None:
    """Send every chat request to `upstream` and its answer back, until killed."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4), auto_decompress=False
    ) as session:

        async def handler(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
            async with session.post(upstream + _CHAT, data=body, headers=headers) as answer:
                response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
                response.content_length = answer.content_length  # None: in chunks
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response

        await listen(handler)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream", help="base URL without /v1")
    uvloop.run(serve(parser.parse_args().upstream))
