"""In a process of its own: what it sets holds for all of one."""

import subprocess
import sys

SCRIPT = """
import asyncio, gc, weakref
from edgecache.daemon import garbage

class Node: pass

def cycle():
    one, other = Node(), Node()
    one.other, other.one = other, one
    return weakref.ref(one)

garbage._LOOK = 0.01
idle = False
async def main():
    kept = [Node() for _ in range(1000)]
    garbage.tame()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[2] >= 1_000_000
    lost = cycle()
    gc.collect(1)  # it is old now
    task = asyncio.create_task(garbage.sweep(lambda: idle))
    await asyncio.sleep(0.3)
    seen_busy = lost() is None
    globals()["idle"] = True
    for _ in range(200):
        await asyncio.sleep(0.02)
        if lost() is None:
            break
    task.cancel()
    print(seen_busy, lost() is None)

asyncio.run(main())
"""


def test_all_is_collected_in_a_quiet_moment() -> None:
    script = SCRIPT.replace(
        "    gc.collect(1)  # it is old now\n", "    old = lost()\n    gc.collect(1)\n    del old\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == ["False", "True"]
