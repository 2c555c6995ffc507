"""The yardstick of exact hits: a bare aiohttp handler on uvloop that returns the bytes of a file. Prints its URL."""

import argparse
from pathlib import Path

import uvloop
from aiohttp import web

from bench.load.listening import listen


async def serve(body: bytes, content_type: str) -> None:
    """Answer every POST with `body` until killed."""

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, headers={"Content-Type": content_type})

    await listen(handler)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--content-type", default="application/json")
    options = parser.parse_args()
    uvloop.run(serve(options.file.read_bytes(), options.content_type))
