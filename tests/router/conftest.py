"""Scripted clusters behind real clients."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest

from edgecache.clock import ManualClock, SystemClock
from edgecache.config import tree as config
from edgecache.router.pool import Pool
from edgecache.sim.upstream import ScriptedCore
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Call, Endpoint, Tenant
from edgecache.upstream.client import UpstreamClient


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def start_core() -> AsyncIterator[Callable[..., Awaitable[ScriptedCore]]]:
    """Starts scripted clusters that answer at once."""
    running: list[ScriptedCore] = []

    async def start(*models: str, **settings: Any) -> ScriptedCore:
        quick = {"time_to_first_token": 0.0, "inter_token_latency": 0.0, "dialect": "vllm"}
        core = ScriptedCore(config.Core(models=models or ("edge-test",), **{**quick, **settings}), SystemClock())
        await core.start()
        running.append(core)
        return core

    yield start
    for core in running:
        await core.stop()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """Where nobody listens, for as long as the test runs."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
async def make_pool(clock: ManualClock) -> AsyncIterator[Callable[..., Pool]]:
    """A pool of clients named a, b, c …: each a URL, or a URL with its configured models."""
    clients: list[UpstreamClient] = []

    def build(*upstreams: str | tuple[str, tuple[str, ...]]) -> Pool:
        fresh = []
        for name, upstream in zip("abcdef", upstreams, strict=False):
            url, models = upstream if isinstance(upstream, tuple) else (upstream, ())
            settings = config.Upstream(name=name, url=url, dialect="vllm", models=models, connect_timeout=1.0)
            fresh.append(UpstreamClient(settings, metrics=Metrics()))
        clients.extend(fresh)
        return Pool(fresh, clock=clock)

    yield build
    for client in clients:
        await client.close()


@pytest.fixture
def make_call() -> Callable[..., Call]:
    def build(model: str = "edge-test", **fields: Any) -> Call:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
        return Call("r", Tenant("default"), Endpoint.CHAT, model, body, orjson.dumps(body))

    return build
