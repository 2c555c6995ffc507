"""A store with an index over it in a temporary folder, and entries to put into it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from edgecache import config
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import ManualClock
from edgecache.store.entries import EntryStore
from edgecache.store.vectors import VectorIndex
from edgecache.telemetry.metrics import Metrics
from edgecache.types import CacheKey, Endpoint, Entry

DIMENSION = 32


@dataclass
class Shelf:
    """Everything that remembers, started."""

    store: EntryStore
    index: VectorIndex
    tier: SemanticTier
    settings: config.Store
    clock: ManualClock
    metrics: Metrics
    origin: str = ""

    def close(self) -> None:
        self.index.close()
        self.store.close()


def scope_of(tenant: str) -> bytes:
    return blake2b(tenant.encode(), digest_size=16).digest()


def key_of(question: str, tenant: str = "acme") -> CacheKey:
    scope = scope_of(tenant)
    digest = blake2b(scope + question.encode(), digest_size=32).digest()
    return CacheKey(tenant, "", "m", scope, digest, question)


def entry_of(question: str, tenant: str = "acme", **fields: Any) -> Entry:
    key = key_of(question, tenant)
    made = {
        "tenant": tenant,
        "namespace": "",
        "model": "m",
        "scope": key.scope,
        "digest": key.digest,
        "text": question,
        "endpoint": Endpoint.CHAT,
        "body": b"answer to " + question.encode(),
        "created": 1_700_000_000.0,
        "expires": 1_700_003_600.0,
    }
    return Entry(**(made | fields))


def vector_of(question: str) -> np.ndarray:
    """A unit vector that depends on the words before `~`: what follows moves it a little."""
    words, _, wording = question.partition("~")
    seed = int.from_bytes(blake2b(words.encode(), digest_size=4).digest(), "big")
    row = np.random.default_rng(seed).standard_normal(DIMENSION)
    if wording:
        row += 0.1 * np.random.default_rng(len(wording)).standard_normal(DIMENSION)
    return (row / np.linalg.norm(row)).astype(np.float32)


@pytest.fixture
def make_key() -> Callable[..., CacheKey]:
    return key_of


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    return entry_of


@pytest.fixture
def make_vector() -> Callable[[str], np.ndarray]:
    return vector_of


@pytest.fixture
async def open_shelf(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Shelf]]]:
    """Opens and starts shelves on one folder; all are closed at the end of the test."""
    opened: list[Shelf] = []
    clock = ManualClock()

    async def make(*, embedder: str = "e", **chosen: Any) -> Shelf:
        defaults = {"sync": False, "initial_map_bytes": 1024**2, "max_bytes": 64 * 1024**2}
        settings, metrics = config.Store(**(defaults | chosen)), Metrics()
        store = EntryStore(tmp_path / "store", settings, clock=clock, metrics=metrics)
        index = VectorIndex(settings, dimension=DIMENSION, rng=Random(0))
        tier = SemanticTier(store, index, embedder=embedder, path=tmp_path / "index.snapshot")
        shelf = Shelf(store, index, tier, settings, clock, metrics)
        opened.append(shelf)
        shelf.origin = await tier.start()
        return shelf

    yield make
    for shelf in opened:
        shelf.close()
