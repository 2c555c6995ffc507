"""A store in a temporary folder, and entries to put into it."""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from edgecache import config
from edgecache.clock import ManualClock
from edgecache.store.entries import EntryStore
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Endpoint, Entry

MakeEntry = Callable[..., Entry]
OpenStore = Callable[..., EntryStore]


@pytest.fixture
def make_entry() -> MakeEntry:
    """Entries that differ by question; the scope follows the tenant, as `cache.key` makes it."""

    def make(question: str = "why is the sky blue", tenant: str = "acme", **fields: Any) -> Entry:
        scope = blake2b(tenant.encode(), digest_size=16).digest()
        return Entry(
            **{
                "tenant": tenant,
                "namespace": "",
                "model": "m",
                "scope": scope,
                "digest": blake2b(scope + question.encode(), digest_size=32).digest(),
                "text": question,
                "endpoint": Endpoint.CHAT,
                "body": b'{"answer": "' + question.encode() + b'"}',
                "created": 1_700_000_000.0,
                "expires": 1_700_003_600.0,
            }
            | fields
        )

    return make


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def open_store(tmp_path: Path, clock: ManualClock, metrics: Metrics) -> Iterator[OpenStore]:
    """Opens stores; all are closed at the end of the test."""
    opened: list[EntryStore] = []

    def make(path: Path | None = None, **settings: Any) -> EntryStore:
        defaults = {"sync": False, "initial_map_bytes": 1024**2, "max_bytes": 64 * 1024**2}
        store = EntryStore(
            path or tmp_path / "store", config.Store(**(defaults | settings)), clock=clock, metrics=metrics
        )
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()
