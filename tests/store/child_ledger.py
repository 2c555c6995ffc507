"""Adds records for ever, saying how many; killed by test_ledger. Argument: the folder of the ledger."""

import sys
from itertools import count
from pathlib import Path

from edgecache import config
from edgecache.clock import SystemClock
from edgecache.store.ledger import LedgerStore
from edgecache.store.records import Record
from edgecache.telemetry.metrics import Metrics


def main(folder: Path) -> None:
    clock = SystemClock()
    ledger = LedgerStore(folder, config.Ledger(flush=0.01), clock=clock, metrics=Metrics())
    for number in count(1):
        ledger.add(Record(clock.now(), str(number), "acme", cost=1.0))
        if number % 100 == 0:
            ledger.flush()
            sys.stdout.write(f"{number} .\n")
            sys.stdout.flush()


main(Path(sys.argv[1]))
