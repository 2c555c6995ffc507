"""A POP of one's own: `edgecache serve` as a child process on free ports with throw-away data, for benchmarks."""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import aiohttp

from edgecache.clock import Clock, SystemClock
from edgecache.errors import ConfigError

_ANY_PORT = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Pop:
    """A running POP. `ready_after` is the seconds from starting the process to `/readyz` answering 200."""

    url: str
    admin: str
    pid: int
    data: Path
    ready_after: float


@contextlib.asynccontextmanager
async def own_pop(
    arguments: Sequence[str] = (), *, data: Path | None = None, patience: float = 120.0, clock: Clock | None = None
) -> AsyncIterator[Pop]:
    """Start `edgecache serve` with `arguments` and yield it once it is ready; stop it at the end.

    `data` is kept; without it the POP starts empty in a temporary folder. `patience` seconds to become ready, else
    ConfigError with the last lines of its log.
    """
    clock = clock or SystemClock()
    with tempfile.TemporaryDirectory(prefix="edgecache-pop-") as folder:
        log = Path(folder, "pop.log")
        data = data or Path(folder, "data")
        begun = clock.monotonic()
        with _create(log) as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-u", "-m", "edgecache", "serve", *arguments),
                *("--listen", _ANY_PORT, "--admin", _ANY_PORT, "--data", str(data), "--json"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
            )
        try:
            try:
                async with asyncio.timeout(patience):
                    url, admin = await _announced(process)
                    await _ready(process, admin + "/readyz")
            except (TimeoutError, ChildProcessError) as error:
                raise ConfigError(f"edgecache serve did not become ready:\n{_tail(log)}") from error
            yield Pop(url, admin, process.pid, data, clock.monotonic() - begun)
        finally:
            await _stop(process)


async def _announced(process: asyncio.subprocess.Process) -> tuple[str, str]:
    """The URLs of API and admin API, as `serve --json` prints them once it listens."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    said = b""
    while line := await process.stdout.readline():
        said += line
        with contextlib.suppress(ValueError):
            facts = json.loads(said)
            return str(facts["API"]).removesuffix("/v1"), str(facts["admin"])
    raise ChildProcessError("it ended")


async def _ready(process: asyncio.subprocess.Process, url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while not await _answers(session, url):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.05)
            if process.returncode is not None:
                raise ChildProcessError("it ended")


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 30)
    except TimeoutError:
        process.kill()
        await process.wait()


def _create(path: Path) -> BinaryIO:
    return path.open("wb")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
