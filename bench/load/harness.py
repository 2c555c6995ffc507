"""What all load benchmarks share: processes and their CPU time, paired rounds, the machine, tables and result files."""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from bench.load.client import Exchange, drive

ROOT = Path(__file__).resolve().parents[2]
MODEL = "edge-test"
PATH = "/v1/chat/completions"

Work = Callable[[argparse.Namespace], Coroutine[Any, Any, Any]]
"""What a benchmark does: takes its options, returns JSON-compatible results."""


@dataclass(frozen=True, slots=True)
class Child:
    """A server in a process of its own."""

    url: str
    pid: int


@contextlib.asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[Child]:
    """Run `python ARGUMENTS`, which prints one JSON object with `url` once it serves; end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", *arguments), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        yield Child(await _url(process), process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _url(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None  # noqa: S101
    said = b""
    while line := await process.stdout.readline():
        said += line
        with contextlib.suppress(ValueError):
            return str(json.loads(said)["url"])
    raise RuntimeError(f"a server did not start, it said: {said.decode()}")


def core(
    *, time_to_first_token: float, inter_token_latency: float = 0.0
) -> contextlib.AbstractAsyncContextManager[Child]:
    """The scripted cluster, by itself. Times in seconds."""
    delays = ["--time-to-first-token", str(time_to_first_token), "--inter-token-latency", str(inter_token_latency)]
    return child("-m", "edgecache", "sim", "core", "--json", "--listen", "127.0.0.1:0", "--model", MODEL, *delays)


def pop_config(folder: Path, upstream: str, more: str = "") -> list[str]:
    """Arguments for `own_pop`: defaults, apart from one upstream and `more` TOML."""
    path = folder / "pop.toml"
    path.write_text(
        f'[[upstream]]\nname = "core"\nurl = "{upstream}"\ndialect = "trtllm"\nmodels = ["{MODEL}"]\n{more}\n',
        encoding="utf-8",
    )
    return ["--config", str(path)]


def question(text: str, *, stream: bool = False, max_tokens: int = 256) -> dict[str, Any]:
    """A chat request."""
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}
    return body | {"stream": True} if stream else body


async def until_status(url: str, request: bytes, status: str) -> Exchange:
    """Repeat `request` until `x-edgecache-status` is `status`: an answer is stored shortly after it was sent."""
    for _ in range(200):
        (found,) = await drive(url, [request], 1)
        if found.header("x-edgecache-status") == status:
            return found
        await asyncio.sleep(0.01)
    raise RuntimeError(f"no {status} after 200 requests; last: {found.head.decode()}")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    return float(psutil.Process(pid).memory_info().rss / 1e6)


def median(values: Sequence[float]) -> float:
    """The median; not a number when there are none."""
    return statistics.median(values) if values else float("nan")


def machine() -> dict[str, Any]:
    """Where and with what a figure was measured."""
    names = ("aiohttp", "uvloop", "torch", "faiss-cpu", "lmdb", "numpy", "edgecache")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in names if (version := _version(name))},
    }


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return found.group(1) if found else platform.processor()


def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows; numbers with three digits after the point."""
    shown = Table(*columns, title=title)
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in rows:
        shown.add_row(*(f"{each:.3f}" if isinstance(each, float) else str(each) for each in row))
    Console(width=120).print(shown)


def run(name: str, parser: argparse.ArgumentParser, work: Work) -> None:
    """Parse the command line, run `work` on uvloop, print and, with `--out`, write `NAME-DATE.json` there."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the figures there as JSON, e.g. bench/results")
    options = parser.parse_args()
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    found = {"benchmark": name, "machine": machine(), "options": settings, "results": uvloop.run(work(options))}
    if options.out is not None:
        stamp = re.sub(r"[^0-9T]", "", found["machine"]["date"])[:15]
        path = options.out / f"{name}-{stamp}.json"
        path.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
        print(f"written: {path}")
    print(json.dumps(found["machine"]))
