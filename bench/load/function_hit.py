"""Exact hits that run a function, against Cloudflare's workerd with the same function in a reused isolate.

    npm install --prefix build/peers workerd@1.20261117.1
    python -m bench.load.function_hit --workerd build/peers/node_modules/.bin/workerd [--out bench/results]

Three servers, in turns: a POP without a function, the same POP with `wasm_functions/redact-pii` (C, a fresh sandbox for
each request), workerd. All answer the same question with the same stored answer. Latency is that of one connection that
asks again when it is answered; requests a second are those of several. Both at the client, on the same machine.
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.load import harness
from bench.load.client import drive, hammer, post
from edgecache.sim.pop import own_pop

FUNCTION = harness.ROOT / "wasm_functions" / "redact-pii"
ARMS = ("pop", "pop with function", "workerd")
QUESTION = "Whom do I write to about my order, and what is its number?"


async def bench(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure latency and throughput of the three."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        async with (
            harness.child(
                "-m", "bench.load.bare", str(_answer(folder)), "--content-type", "application/json"
            ) as upstream,
            own_pop(harness.pop_config(folder / "a", upstream.url)) as plain,
            own_pop(harness.pop_config(folder / "b", upstream.url)) as pop,
        ):
            await asyncio.to_thread(_deploy, pop.admin)
            body = json.dumps(harness.question(QUESTION)).encode()
            hits = [
                await harness.until_status(each.url, post(each.url, harness.PATH, body), "HIT") for each in (plain, pop)
            ]
            async with _workerd(options.workerd, folder, body, hits[0].body) as peer:
                targets = dict(zip(ARMS, (plain.url, pop.url, peer), strict=True))
                requests = {arm: post(url, harness.PATH, body) for arm, url in targets.items()}
                await _same_answers(targets, requests)
                rounds = [await _round(targets, requests, options) for _ in range(options.rounds)]
    found = {arm: {key: harness.median([each[arm][key] for each in rounds]) for key in rounds[0][arm]} for arm in ARMS}
    harness.table(
        "Exact hit with a function (medians of rounds)", ("arm", "p50 us", "p99 us", "requests/s"), _rows(found)
    )
    return [{"bytes": len(hits[1].body), "arms": found, "rounds": rounds}]


def _answer(folder: Path) -> Path:
    """What the cluster says: about 1 KB with things to blot out."""
    text = "Write to ada.l@example.com or call 00447911123457; your order is number 9000123456789. " * 10
    message = {"role": "assistant", "content": text}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": harness.MODEL}
    answer |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    file = folder / "answer.json"
    file.write_text(json.dumps(answer), encoding="utf-8")
    return file


def _deploy(admin: str) -> None:
    """As a developer does it."""
    command = ("-m", "edgecache", "fn", "deploy", "--dir", str(FUNCTION), "--admin", urlsplit(admin).netloc)
    subprocess.run([sys.executable, *command], check=True, cwd=harness.ROOT, stdout=subprocess.DEVNULL)


@contextlib.asynccontextmanager
async def _workerd(binary: str, folder: Path, question: bytes, answer: bytes) -> AsyncIterator[str]:
    """Workerd with the worker beside this module; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = (Path(__file__).parent / "workerd.js").read_text(encoding="utf-8")
    bindings = ", ".join(
        f"(name = {json.dumps(name)}, text = {json.dumps(text.decode())})"
        for name, text in (("QUESTION", question), ("ANSWER", answer))
    )
    config = folder / "workerd.capnp"
    config.write_text(
        'using Workerd = import "/workerd/workerd.capnp";\n'
        "const config :Workerd.Config = (\n"
        '  services = [(name = "main", worker = (\n'
        f'    modules = [(name = "worker", esModule = {json.dumps(script)})],\n'
        f'    bindings = [{bindings}], compatibilityDate = "2025-01-01"))],\n'
        f'  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")]);\n',
        encoding="utf-8",
    )
    process = await asyncio.create_subprocess_exec(binary, "serve", str(config))
    try:
        await _listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _listening(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise RuntimeError("workerd did not start within 10 s")


async def _same_answers(targets: dict[str, str], requests: dict[str, bytes]) -> None:
    """What is compared does the same."""
    (mine,), (theirs,) = [await drive(targets[arm], [requests[arm]], 1) for arm in ARMS[1:]]
    if json.loads(mine.body) != json.loads(theirs.body) or not mine.header("x-edgecache-function"):
        raise RuntimeError(f"the function did not run, or does something else: {mine.body!r}, {theirs.body!r}")


async def _round(
    targets: dict[str, str], requests: dict[str, bytes], options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    found = {}
    for arm in random.sample(ARMS, len(ARMS)):
        url, request = targets[arm], requests[arm]
        await hammer(url, request, options.connections, 0.3)  # warm caches, connections, and the runner's measurements
        alone = sorted(each.total for each in await drive(url, [request] * options.requests, 1))
        begun = time.perf_counter()
        answered = await hammer(url, request, options.connections, options.seconds)
        found[arm] = {
            "p50_us": alone[len(alone) // 2] * 1e6,
            "p99_us": alone[len(alone) * 99 // 100] * 1e6,
            "rps": answered / (time.perf_counter() - begun),
        }
    return found


def _rows(found: dict[str, dict[str, float]]) -> list[list[object]]:
    return [[arm, *(round(each[key], 1) for key in ("p50_us", "p99_us", "rps"))] for arm, each in found.items()]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workerd", required=True, help="the peer's binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000, help="of one connection, a server and round")
    parser.add_argument("--seconds", type=float, default=2.0, help="of several connections, a server and round")
    parser.add_argument("--connections", type=int, default=16)
    harness.run("function_hit", parser, bench)


if __name__ == "__main__":
    main()
