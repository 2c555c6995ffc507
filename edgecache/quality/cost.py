"""What the pair verifier costs: one question against the candidates that a lookup would show it, one after the other.

Timed by itself; what waiting and batching add in a POP is `bench/micro/verify.py`'s to say.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from edgecache.clock import Clock
from edgecache.embed.base import Engine, Pair


def measure(engine: Engine[Pair], asked: Sequence[Sequence[Pair]], clock: Clock) -> dict[str, Any]:
    """Milliseconds of a pass over each of `asked`, the pairs of one question; tokenising included, both orders."""
    for pairs in asked[:5]:
        engine.encode(engine.tokenise(pairs))
    times = []
    for pairs in asked:
        begun = clock.monotonic()
        engine.encode(engine.tokenise(pairs))
        times.append((clock.monotonic() - begun) * 1000)
    if not times:
        return {"questions": 0}
    pairs_in_all, seconds = sum(map(len, asked)), sum(times) / 1000
    return {
        "questions": len(asked),
        "candidates, mean": round(pairs_in_all / len(asked), 2),
        "median ms": round(statistics.median(times), 2),
        "p99 ms": round(sorted(times)[int(0.99 * (len(times) - 1))], 2),
        "pairs a second": round(pairs_in_all / seconds, 1) if seconds else None,
    }
