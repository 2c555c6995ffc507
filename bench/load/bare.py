"""The yardstick of exact hits: a bare aiohttp handler on uvloop that returns the bytes of a file. Prints its URL."""

import argparse
import asyncio
import json
from pathlib import Path

import uvloop
from aiohttp import web


async def serve(body: bytes, content_type: str) -> None:
    """Answer every POST with `body` until killed."""

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--content-type", default="application/json")
    options = parser.parse_args()
    uvloop.run(serve(options.file.read_bytes(), options.content_type))
