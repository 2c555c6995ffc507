"""Scripted clusters as processes of their own, which can be killed."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace


@asynccontextmanager
async def core_process(*options: str) -> AsyncIterator[SimpleNamespace]:
    """`edgecache sim core OPTIONS` on a free port: its `url` and `pid`. It is dead at the end, if not before."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edgecache", "sim", "core", "--listen", "127.0.0.1:0", "--json", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        said = b""
        while not said.endswith(b"}\n"):
            line = await process.stdout.readline()
            assert line, "it ended early"
            said += line
        yield SimpleNamespace(url=json.loads(said)["url"], pid=process.pid)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
