"""Servers that misbehave on the wire, and calls to send them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest

from edgecache.config import tree as config
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Call, Endpoint, Tenant
from edgecache.upstream.client import UpstreamClient

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
"""What a raw server does with a connection; the number counts connections from 1."""


@pytest.fixture
async def raw_server() -> AsyncIterator[Callable[[Script], Awaitable[str]]]:
    """Starts servers that follow a script, byte by byte; gives their URL."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(script: Script) -> str:
            number = 0

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal number
                number += 1
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await script(reader, writer, number)
                writer.close()

            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            stack.callback(server.close)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        yield start


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def in_flight(metrics: Metrics) -> Callable[[], float | None]:
    """How many requests are open to `core`, as a scrape tells."""
    return lambda: metrics.registry.get_sample_value("edgecache_upstream_inflight", {"cluster": "core"})


@pytest.fixture
async def connect(metrics: Metrics) -> AsyncIterator[Callable[..., UpstreamClient]]:
    """Builds clients; all are closed at the end."""
    clients: list[UpstreamClient] = []

    def build(url: str, **settings: Any) -> UpstreamClient:
        client = UpstreamClient(config.Upstream(**{"name": "core", "url": url, **settings}), metrics=metrics)
        clients.append(client)
        return client

    yield build
    for client in clients:
        await client.close()


@pytest.fixture
def make_call() -> Callable[..., Call]:
    """A call as the HTTP layer would make it."""

    def build(
        endpoint: Endpoint = Endpoint.CHAT,
        *,
        tenant: Tenant | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Call:
        body: dict[str, Any] = {"model": "edge-test"}
        if endpoint is Endpoint.CHAT:
            body["messages"] = [{"role": "user", "content": "why is the sky blue"}]
        elif endpoint is Endpoint.COMPLETIONS:
            body["prompt"] = "why is the sky blue"
        else:
            body["input"] = "why is the sky blue"
        body |= fields
        options = body.get("stream_options") or {}
        return Call(
            request_id="req-1",
            tenant=tenant or Tenant("default"),
            endpoint=endpoint,
            model=body["model"],
            body=body,
            raw=orjson.dumps(body, option=orjson.OPT_INDENT_2),
            stream=body.get("stream") is True,
            include_usage=options.get("include_usage") is True,
            headers=headers or {},
        )

    return build
