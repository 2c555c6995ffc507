"""vllm-router as a peer, as its own documentation starts it. Lives in `.venv-peers`."""

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO

from bench.load import harness
from bench.load.client import drive, post
from bench.load.harness import Child

COMMAND = harness.ROOT / ".venv-peers" / "bin" / "vllm-router"
_PATIENCE = 60.0
"""Seconds that it may take to answer a chat request."""


@contextlib.asynccontextmanager
async def vllm_router(upstreams: Sequence[str], policy: str = "round_robin") -> AsyncIterator[Child]:
    """Run it before `upstreams` (base URLs without `/v1`), which must take the fields that vLLM adds to OpenAI's."""
    if not COMMAND.exists():
        raise FileNotFoundError(f"{COMMAND} is missing: install requirements/peers.txt into .venv-peers")
    port, metrics = _free_ports(2)
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--policy", policy, "--log-level", "error"]
    arguments += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics), "--worker-urls", *upstreams]
    with tempfile.TemporaryDirectory(prefix="vllm-router-") as folder:
        log = Path(folder, "log")
        with _create(log) as output:
            process = await asyncio.create_subprocess_exec(
                *(str(COMMAND), *arguments),
                env={"PATH": f"{COMMAND.parent}:{os.defpath}", "HOME": folder},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            if not await _up(process, url):
                raise RuntimeError(f"vllm-router did not come up:\n{_tail(log)}")
            yield Child(url, process.pid)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def _create(path: Path) -> BinaryIO:
    return path.open("wb")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


def _free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on right now, no two alike."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


async def _up(process: asyncio.subprocess.Process, url: str) -> bool:
    """Wait for it to answer; False if it ends first, or takes too long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while process.returncode is None:
                if await _answers(url):
                    return True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 0.1)
    return False


async def _answers(url: str) -> bool:
    request = post(url, harness.PATH, harness.question("Are you there?", max_tokens=1))
    try:
        (found,) = await drive(url, [request], 1)
    except OSError:
        return False
    return found.status == 200
