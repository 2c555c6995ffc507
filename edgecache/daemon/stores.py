"""The store of a POP, or where it cannot be had one that nothing is ever written to."""

import logging
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from edgecache.clock import Clock
from edgecache.config import Store
from edgecache.errors import StoreError
from edgecache.store.entries import EntryStore
from edgecache.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


def entries(
    folder: Path, settings: Store, leaving: AsyncExitStack, *, clock: Clock, metrics: Metrics
) -> tuple[EntryStore, str]:
    """The store in `folder`, and why there is no cache, empty where there is one; `leaving` cleans up after it.

    Without a cache the store is an empty one in a temporary folder: the rest of a POP needs one to look into.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return EntryStore(folder / "store", settings, clock=clock, metrics=metrics), ""
    except (StoreError, OSError) as error:
        missing = str(error)
        log.error("serving without a cache: %s", error)  # noqa: TRY400 - the message says it all
    scratch = tempfile.TemporaryDirectory(prefix="edgecache-")
    leaving.callback(scratch.cleanup)
    return EntryStore(Path(scratch.name), settings, clock=clock, metrics=metrics), missing
