"""Fills and purges for ever, saying what was acknowledged; killed by test_semantic. Argument: the folder."""

import asyncio
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))

from conftest import DIMENSION, entry_of, vector_of

from edgecache import config
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import SystemClock
from edgecache.store.entries import EntryStore
from edgecache.store.epochs import Kind, Selector
from edgecache.store.vectors import VectorIndex
from edgecache.telemetry.metrics import Metrics


def say(*words: object) -> None:
    """One line, in one write; the point at its end shows that it is whole."""
    sys.stdout.write(" ".join(map(str, words)) + " .\n")
    sys.stdout.flush()


async def main(folder: Path) -> None:
    settings = config.Store(initial_map_bytes=1024**2)
    store = EntryStore(folder / "store", settings, clock=SystemClock(), metrics=Metrics())
    index = VectorIndex(settings, dimension=DIMENSION, rng=Random(0))
    tier = SemanticTier(store, index, embedder="e", path=folder / "index.snapshot")
    await tier.start()

    async def fill(worker: int) -> None:
        rng = Random(worker)
        step = 0
        while True:
            step += 1
            tag = f"t{worker}-{rng.randrange(4)}"
            if step % 10 == 0:
                number = await store.purge(Selector(Kind.TAG, tag))
                say("purge", number, "-", tag)
            else:
                question = f"q{worker}-{rng.randrange(40)}"
                number = await tier.store(entry_of(question, tags=(tag,)), vector_of(question))
                say("put", number, question, tag)
            if step % 25 == 0:
                await tier.save()

    await asyncio.gather(*(fill(worker) for worker in range(4)))


asyncio.run(main(Path(sys.argv[1])))
