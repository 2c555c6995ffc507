"""LiteLLM's proxy as a peer: one model name, several deployments, its latency-based routing. Lives in `.venv-peers`."""

import asyncio
import contextlib
import json
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.load.harness import MODEL, ROOT

COMMAND = ROOT / ".venv-peers" / "bin" / "litellm"
_SETTINGS = ("LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_LOG=ERROR")
"""Environment: no price list from the net, no log line for each request."""
_PATIENCE = 120.0
"""Seconds that it may take to start."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running one. It refuses to start without a key, which requests must carry as `headers`."""

    url: str
    pid: int
    headers: dict[str, str]


def installed() -> bool:
    """Whether there is one to compare with."""
    return COMMAND.exists()


@contextlib.asynccontextmanager
async def litellm(upstreams: Sequence[str], strategy: str = "latency-based-routing") -> AsyncIterator[Proxy]:
    """Run the proxy before `upstreams` (base URLs without `/v1`), all of which serve `MODEL`."""
    with tempfile.TemporaryDirectory(prefix="litellm-") as folder:
        key = f"sk-{secrets.token_hex(16)}"
        path = _write(Path(folder, "config.yaml"), _config(upstreams, strategy, key))
        port = _free_port()
        process = await asyncio.create_subprocess_exec(
            *("env", *_SETTINGS, str(COMMAND), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            async with asyncio.timeout(_PATIENCE):
                await _ready(process, url + "/health/liveliness")
            yield Proxy(url, process.pid, {"Authorization": f"Bearer {key}"})
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def _config(upstreams: Sequence[str], strategy: str, key: str) -> dict[str, object]:
    deployments = [
        {
            "model_name": MODEL,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for url in upstreams
    ]
    return {
        "model_list": deployments,
        "general_settings": {"master_key": key},
        "router_settings": {"routing_strategy": strategy},
        "litellm_settings": {"telemetry": False, "drop_params": True},
    }


def _write(path: Path, config: dict[str, object]) -> Path:
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _ready(process: asyncio.subprocess.Process, url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.2)
    raise RuntimeError("litellm ended before it was ready")
