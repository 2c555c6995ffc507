"""How long a fresh call of a function takes, by kind and against a peer; and how soon an endless loop is stopped.

    python -m bench.micro.functions [--rounds 2000] [--also NAME=FILE ...] [--peer] [--out bench/results]

Every call is a fresh sandbox with its limits on, and does the same work: put a name into 1 KB of cached text, take
e-mail addresses and long numbers out. The kinds take turns, a few calls each, so that a busy machine hits all alike.
`--also` measures another file that may be uploaded and answers such a request (repeatable); `--peer` runs Extism's
Python SDK, in an environment of its own.
"""

import argparse
import concurrent.futures
import faulthandler
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.load import harness
from bench.micro import live
from bench.micro.live import BODY, LIMITS, MEMORY, load
from edgecache.clock import SystemClock
from edgecache.errors import FunctionFault
from edgecache.quality import peers
from edgecache.wasm import binary, snapshot
from edgecache.wasm.base import Kind, Limits, Program
from edgecache.wasm.compose import compose
from edgecache.wasm.engine import Engine

REQUEST = msgspec.structs.replace(live.REQUEST, writes=False)
REDACT = harness.ROOT / "tests" / "wasm" / "guests" / "redact.c"
PEERS = Path(__file__).parent / "peers"
SCRIPT = r"""export default { async fetch(request) {
  const name = request.headers.get("x-user") ?? "friend", text = await request.text();
  return new Response(text.replaceAll("{{name}}", name).replace(/[\w.+-]+@[\w.-]+/g, "[email]")
    .replace(/\d{9,}/g, "[number]"));
} }"""
SPIN = """__attribute__((export_name("alloc"))) int alloc(int size) { return size; }
__attribute__((export_name("handle"))) long long handle(int in, int size) { for (volatile int i = 0;; i++); }
"""
C = ("cc", "-target", "wasm32-freestanding", "-O2", "-nostdlib", "-mbulk-memory", "-s", "-Wl,--no-entry")
SMALL = ("-Wl,-z,stack-size=8192",)
"""With its stack in one page with the rest: a POP wipes that page faster than it maps many."""
TURN = 20
"""Calls before it is the next one's turn."""


@dataclass
class Row:
    """A function under measurement, and what came of it."""

    name: str
    code: Path
    extra: dict[str, Any]
    """What a script needs beside its code."""
    compile_cpu: float
    program: Program
    cold: float
    """ms from the file of its code to its first answer."""
    taken: list[float] = field(default_factory=list)
    cpu: float = 0.0
    faults: int = 0

    def turn(self, calls: int) -> None:
        """Call it so many times."""
        run, now = self.program.run, time.perf_counter_ns
        before = resource.getrusage(resource.RUSAGE_THREAD)
        for _ in range(calls):
            begun = now()
            run(REQUEST, LIMITS)
            self.taken.append((now() - begun) / 1000)
        after = resource.getrusage(resource.RUSAGE_THREAD)
        self.cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.faults += after.ru_minflt - before.ru_minflt

    def figures(self) -> dict[str, Any]:
        """As it is printed and kept; us, but for what says otherwise."""
        p50, p90, p99 = np.quantile(self.taken, [0.5, 0.9, 0.99])
        return {
            "function": self.name,
            "p50_us": float(p50),
            "p90_us": float(p90),
            "p99_us": float(p99),
            "cpu_us": self.cpu / len(self.taken) * 1e6,
            "faults": self.faults / len(self.taken),
            "cold_ms": self.cold,
            "compile_cpu_s": self.compile_cpu,
            "code_kb": self.code.stat().st_size / 1000,
        }


def zig(folder: Path, name: str, source: Path, *more: str) -> Path:
    """`source`, in C, as a module."""
    wasm = folder / f"{name}.wasm"
    subprocess.run([sys.executable, "-m", "ziglang", *C, *more, "-o", str(wasm), str(source)], check=True)
    return wasm


def compiled(compiler: Engine, code: Path, file: Path) -> tuple[Kind, dict[str, Any]]:
    """Compile a file that may be uploaded to `code`; its kind, and what a script needs beside."""
    data = file.read_bytes()
    if file.suffix == ".js":
        module, extra = snapshot.build(compiler, data.decode())
        code.write_bytes(compiler.compile_module(module))
        return Kind.SCRIPT, extra
    if binary.is_component(data):
        code.write_bytes(compiler.compile_component(compose(data)))
        return Kind.COMPONENT, {}
    code.write_bytes(compiler.compile_module(data))
    return Kind.CORE, {}


def row(engine: Engine, compiler: Engine, folder: Path, name: str, file: Path) -> Row:
    """A function in `file`, loaded and called once."""
    begun, code, clock = time.process_time(), folder / f"{name}.cwasm", SystemClock()
    kind, extra = compiled(compiler, code, file)
    taken, opened = time.process_time() - begun, clock.monotonic()
    program = load(engine, kind, code, extra)
    found = program.run(REQUEST, LIMITS)
    if found.status != 200:
        raise SystemExit(f"{name} answered {found.status}: {found.body[:200]!r}")
    return Row(name, code, extra, taken, program, (clock.monotonic() - opened) * 1000)


def live_kb(found: Row, folder: Path) -> float:
    """KB that one sandbox of it has written to when it begins to answer: asked of a process that does nothing else."""
    extra = folder / f"{found.name}.json"
    extra.write_text(json.dumps(found.extra), encoding="utf-8")
    command = [sys.executable, "-m", "bench.micro.live", str(found.program.kind), str(found.code), str(extra)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=harness.ROOT)
    return float(done.stdout)


def per_second(found: Row, threads: int, seconds: float) -> float:
    """Calls a second, so many at once."""
    clock, stop = SystemClock(), threading.Event()

    def work(_: int) -> int:
        calls = 0
        while not stop.is_set():
            found.program.run(REQUEST, LIMITS)
            calls += 1
        return calls

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        begun = clock.monotonic()
        counts = [pool.submit(work, number) for number in range(threads)]
        stop.wait(seconds)
        stop.set()
        return sum(count.result() for count in counts) / (clock.monotonic() - begun)


def late(engine: Engine, compiler: Engine, folder: Path, rounds: int) -> dict[str, float]:
    """How many ms after its deadline an endless loop was stopped."""
    source = folder / "spin.c"
    source.write_text(SPIN, encoding="utf-8")
    kind, _ = compiled(compiler, folder / "spin.cwasm", zig(folder, "spin", source))
    program, clock, taken = load(engine, kind, folder / "spin.cwasm", {}), SystemClock(), []
    for _ in range(rounds):
        begun = clock.monotonic()
        try:
            program.run(REQUEST, Limits(cpu=0.01))
        except FunctionFault:
            taken.append((clock.monotonic() - begun - 0.01) * 1000)
    return {"p50_ms": float(np.median(taken)), "p99_ms": float(np.quantile(taken, 0.99)), "max_ms": max(taken)}


def extism(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """The same work as an Extism plug-in, through its Python SDK."""
    home = PEERS / "extism"
    python = peers.environment("extism", peers.HOME, PEERS)
    wasm, message = zig(folder, "extism", home / "guest.c", *SMALL), folder / "message"
    message.write_bytes(b"POST /v1/chat/completions\nx-user: Ada\n\n" + BODY)
    command = [str(python), str(home / "runner.py"), str(wasm), str(message), str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if "[email]" not in found.pop("answer"):
        raise SystemExit("Extism's plug-in did not do the work")
    return [
        {"peer": name}
        | dict(zip(("p50_us", "p90_us", "p99_us"), np.quantile(us, [0.5, 0.9, 0.99]).tolist(), strict=True))
        for name, us in found.items()
    ]


async def work(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compiler = Engine(instances=1, memory=MEMORY, tick=None)
        engine = Engine(instances=64, memory=MEMORY, tick=0.001)
        (folder / "redact.js").write_text(SCRIPT, encoding="utf-8")
        files = {"core, C": zig(folder, "redact", REDACT, *SMALL), "script": folder / "redact.js"}
        files |= {each.partition("=")[0]: Path(each.partition("=")[2]) for each in options.also}
        rows = [row(engine, compiler, folder, each, file) for each, file in files.items()]
        for turn in range(options.rounds // TURN + 2):
            for each in rows:
                each.turn(TURN)
                if turn == 1:  # so far it was warming up
                    each.taken, each.cpu, each.faults = [], 0.0, 0
        found = [each.figures() | {"live_kb": live_kb(each, folder)} for each in rows]
        harness.table("a fresh call, 1 KB", list(found[0]), [list(each.values()) for each in found])
        counts = sorted({1, 2, os.cpu_count() or 1})
        speed = [
            {"function": each.name} | {f"{n} threads": per_second(each, n, options.seconds) for n in counts}
            for each in rows
        ]
        harness.table("calls a second", list(speed[0]), [list(each.values()) for each in speed])
        stopped = late(engine, compiler, folder, 100)
        harness.table("an endless loop, after its deadline", list(stopped), [list(stopped.values())])
        others = extism(folder, options.rounds) if options.peer else []
        if others:
            harness.table("peer", list(others[0]), [list(each.values()) for each in others])
    return {"calls": found, "per_second": speed, "late": stopped, "peers": others}


if __name__ == "__main__":
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000, help="calls timed of each")
    parser.add_argument("--seconds", type=float, default=2.0, help="s for each count of threads")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FILE", help="another function to measure")
    parser.add_argument("--peer", action="store_true", help="measure Extism too")
    harness.run("functions", parser, work)
