"""Real parts as fixtures: a scripted cluster, and a whole POP in this process on free loopback ports."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from edgecache.clock import Clock, SystemClock
from edgecache.config import Config, Core, Embed, Server, Store, Upstream
from edgecache.config.load import Loaded
from edgecache.config.tree import Admin, Log
from edgecache.daemon import Daemon
from edgecache.sim import words
from edgecache.sim.upstream import ScriptedCore
from edgecache.telemetry.trace import Trace
from edgecache.types import Call, Controls, Endpoint, Reply, Tenant
from edgecache.wire import openai

MODEL = "edge-test"
VIOLATIONS = "edgecache_residency_violations_total"
"""A counter that must be 0, whatever happens."""


def configuration(data: Path, url: str, **sections: Any) -> Config:
    """A small POP: hashing embedder, no fsync, free ports."""
    base = Config(
        server=Server(listen="127.0.0.1:0", data=str(data), drain_timeout=2.0),
        admin=Admin(listen="127.0.0.1:0"),
        store=Store(sync=False, max_bytes=64 * 1024**2, initial_map_bytes=1024**2),
        embed=Embed(model="hashing", deadline=5.0),
        upstream=(Upstream(name="core", url=url, dialect="trtllm", models=(MODEL,), connect_timeout=1.0),),
        log=Log(access=False),
    )
    return msgspec.structs.replace(base, **sections)


@pytest.fixture
async def core() -> AsyncIterator[ScriptedCore]:
    """A scripted cluster that answers at once."""
    made = ScriptedCore(Core(time_to_first_token=0, inter_token_latency=0), SystemClock())
    made.url = await made.start("127.0.0.1", 0)
    yield made
    await made.stop()


class Pop:
    """A POP whose pipeline can be called directly and whose listeners are up."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    @property
    def url(self) -> str:
        return self.daemon.url

    @property
    def admin_url(self) -> str:
        return self.daemon.admin_url

    async def ask(self, body: dict[str, Any] | str, *, tenant: str = "default", **controls: Any) -> Reply:
        """One chat request straight into the pipeline; a string is a single user turn."""
        return await self.daemon.pipeline.serve(call(body, tenant=tenant, **controls), Trace(SystemClock()))

    async def settled(self) -> None:
        """Until every fill in progress has landed."""
        flights = [task for task in self.daemon.tasks if task.get_name() == "flight"]
        await asyncio.gather(*flights, return_exceptions=True)


def call(
    body: dict[str, Any] | str,
    *,
    tenant: str = "default",
    endpoint: Endpoint = Endpoint.CHAT,
    request_id: str = "test",
    answer: str = "",
    **controls: Any,
) -> Call:
    """A parsed request, as the HTTP layer makes it. `answer` names what the scripted cluster says to it."""
    if isinstance(body, str):
        body = {"messages": [{"role": "user", "content": body}]}
    raw = orjson.dumps({"model": MODEL} | body)
    parsed = openai.parse(endpoint, raw, max_depth=64, max_messages=2048)
    return Call(
        request_id=request_id,
        tenant=Tenant(tenant),
        endpoint=endpoint,
        model=parsed.model,
        body=parsed.body,
        raw=raw,
        stream=parsed.stream,
        include_usage=parsed.include_usage,
        controls=Controls(**controls),
        headers={"tracestate": words.naming(answer)} if answer else {},
    )


async def read(reply: Reply) -> bytes:
    """The whole body of a reply, streamed or not."""
    if reply.chunks is None:
        return reply.body
    try:
        return b"".join([chunk async for chunk in reply.chunks])
    finally:
        await reply.chunks.aclose()


@pytest.fixture
async def start_pop(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Pop]]]:
    """Starts POPs; all are stopped at the end of the test, when none may have stopped a prompt at a border."""
    running: list[Daemon] = []

    async def start(url: str, *, data: Path | None = None, clock: Clock | None = None, **sections: Any) -> Pop:
        loaded = Loaded(configuration(data or tmp_path / "data", url, **sections), {}, "")
        daemon = Daemon(loaded, clock=clock)
        await daemon.start()
        running.append(daemon)
        return Pop(daemon)

    yield start
    for daemon in running:
        await daemon.stop()
    violations = [daemon.metrics.registry.get_sample_value(VIOLATIONS) for daemon in running]
    assert violations == [0.0] * len(running)


@pytest.fixture
async def pop(start_pop: Callable[..., Awaitable[Pop]], core: ScriptedCore) -> Pop:
    """A POP in front of the scripted cluster."""
    return await start_pop(core.url)
