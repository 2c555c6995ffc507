"""Learns for ever, saying what was acknowledged; killed by test_evidence. Argument: the folder of the store."""

import asyncio
import sys
from hashlib import blake2b
from itertools import count
from pathlib import Path

from edgecache import config
from edgecache.clock import SystemClock
from edgecache.store.entries import EntryStore
from edgecache.store.rows import Mark, SegmentRow, Serve, Word
from edgecache.telemetry.metrics import Metrics


def digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=32).digest()


async def main(folder: Path) -> None:
    settings = config.Store(initial_map_bytes=1024**2)
    evidence = EntryStore(folder, settings, clock=SystemClock(), metrics=Metrics()).evidence
    for number in count(1):
        entry, question = digest(f"e{number}"), digest(f"q{number}")
        serve = Serve("t", f"req{number}", "", "m", entry, question, 0.1, 0.9, 1000.0 + number)
        evidence.served(serve)
        await evidence.flush(0.0)
        word = Word("t", entry, question, number % 2 == 0, "feedback", 1000.0 + number, f"note {number}")
        row = SegmentRow(("t", "", "m"), str(number).encode())
        await evidence.write(segment=row, track=("t", entry, f"track {number}".encode()), word=word, serve=serve)
        await evidence.set_mark(Mark("t", entry, "ban" if number % 2 else "pin", number, 1000.0 + number))
        sys.stdout.write(f"{number} .\n")
        sys.stdout.flush()


asyncio.run(main(Path(sys.argv[1])))
