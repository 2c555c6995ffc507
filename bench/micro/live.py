"""How much memory one sandbox takes in the midst of a call; run by `bench.micro.functions`, in a process of its own.

    python -m bench.micro.live KIND CODE EXTRA

Prints KB: what this process wrote to between the start of some calls and the moment at which all begin to answer.
"""

import concurrent.futures
import faulthandler
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

from edgecache.wasm.base import Kind, Limits, Program, Request
from edgecache.wasm.component import ComponentProgram
from edgecache.wasm.core import CoreProgram
from edgecache.wasm.engine import Engine
from edgecache.wasm.hostcalls import answered
from edgecache.wasm.script import ScriptProgram

MEMORY = 128 * 1024 * 1024
LIMITS = Limits(cpu=5.0, wall=30.0, memory=MEMORY)
BODY = (b"Hello {{name}}, your order was sent to ada.l@example.com, phone 00447911123456. " * 13)[:1000]
HEADERS = (("x-user", "Ada"), ("x-edgecache-phase", "hit"), ("content-type", "text/plain"))
REQUEST = Request(
    "POST", "/v1/chat/completions", HEADERS, BODY, now=1_700_000_000_000_000_000, seed=bytes(32), writes=True
)
AT_ONCE = 16


class Waiting:
    """A host that holds its functions when they begin to answer."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.go_on = threading.Event()

    def call(self, op: str, argument: bytes) -> bytes:  # noqa: ARG002 - the protocol has it
        """Nothing, later."""
        if op == "body.head":
            self.inside.release()
            self.go_on.wait()
        return answered()


def load(engine: Engine, kind: Kind, code: Path, extra: dict[str, Any]) -> Program:
    """The program in `code`."""
    if kind == Kind.SCRIPT:
        return ScriptProgram(engine, code, extra)
    return ComponentProgram(engine, code) if kind == Kind.COMPONENT else CoreProgram(engine, code)


def written_kb() -> float:
    """KB that this process has written to: a program's file, mapped by all of its sandboxes, is not counted."""
    found = re.search(r"Private_Dirty: +(\d+)", Path("/proc/self/smaps_rollup").read_text(encoding="utf-8"))
    return float(found[1]) if found else float("nan")


def measure(program: Program) -> float:
    """KB of one of several sandboxes."""
    host = Waiting()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
        everyone = threading.Barrier(AT_ONCE)
        list(threads.map(lambda _: everyone.wait(), range(AT_ONCE)))  # their stacks are not what is measured
        before = written_kb()
        calls = [threads.submit(program.run, REQUEST, LIMITS, host) for _ in range(AT_ONCE)]
        held = all(host.inside.acquire(timeout=10) for _ in calls)
        taken = written_kb() - before if held else float("nan")
        host.go_on.set()
        concurrent.futures.wait(calls)
    return taken / AT_ONCE


if __name__ == "__main__":
    faulthandler.enable()
    engine = Engine(instances=AT_ONCE, memory=MEMORY, tick=0.001)
    extra = json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))
    print(measure(load(engine, Kind(sys.argv[1]), Path(sys.argv[2]), extra)))
