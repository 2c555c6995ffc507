"""Run the plug-in through Extism's Python SDK, and print one JSON object: us of each call, fresh plug-in and reused.

    python runner.py GUEST.wasm MESSAGE ROUNDS

Run by `bench.micro.functions` with the interpreter of an environment that has Extism; knows nothing of edgecache.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import extism  # type: ignore[import-not-found]  # in its own environment only


def timed(call: Callable[[], bytes], rounds: int) -> list[float]:
    """Microseconds of each call, after some that are not counted."""
    for _ in range(20):
        call()
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - begun) / 1000)
    return taken


def main() -> None:
    """Measure both ways."""
    manifest = {"wasm": [{"path": sys.argv[1]}]}
    message, rounds = Path(sys.argv[2]).read_bytes(), int(sys.argv[3])

    def fresh() -> bytes:
        with extism.Plugin(manifest, wasi=False) as plugin:
            return bytes(plugin.call("run", message))

    with extism.Plugin(manifest, wasi=False) as plugin:
        answer = bytes(plugin.call("run", message))
        reused = timed(lambda: bytes(plugin.call("run", message)), rounds)
    print(
        json.dumps({"answer": answer.decode(), "extism, fresh": timed(fresh, rounds // 10), "extism, reused": reused})
    )


if __name__ == "__main__":
    main()
