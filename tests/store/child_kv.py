"""Counts and sets for ever, saying what was acknowledged; killed by test_kv. Argument: the folder of the state."""

import sys
from itertools import count
from pathlib import Path

from edgecache.clock import SystemClock
from edgecache.store.functions import FunctionStore
from edgecache.store.kv import KvStore, Space

SPACE = Space("acme", "counter")


def main(folder: Path) -> None:
    kv = KvStore(FunctionStore(folder, initial=256 * 1024), clock=SystemClock(), max_bytes=10**9, max_keys=10**6)
    for number in count(1):
        kv.increment(SPACE, "n")
        kv.set(SPACE, f"key {number}", b"%d" % number + bytes(2000), ttl=3600 if number % 2 else None)
        sys.stdout.write(f"{number} .\n")
        sys.stdout.flush()


main(Path(sys.argv[1]))
