"""What a POP measures of itself while it runs: how late its event loop is, how full its store."""

import asyncio

from edgecache.cache.semantic import SemanticTier
from edgecache.store.entries import EntryStore
from edgecache.store.vectors import VectorIndex
from edgecache.telemetry.metrics import Metrics

_LAG_INTERVAL = 0.5
"""Seconds between two looks at how late the event loop is."""
_STATS_INTERVAL = 5.0
"""Seconds between two readings of the store's size."""


async def loop_lag(metrics: Metrics) -> None:
    """Observe the lag of the running loop until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_INTERVAL
        await asyncio.sleep(_LAG_INTERVAL)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))


async def store_stats(store: EntryStore, index: VectorIndex, semantic: SemanticTier, metrics: Metrics) -> None:
    """Show sizes until cancelled."""
    while True:
        stats = await asyncio.to_thread(store.stats)
        metrics.entries.set(stats.entries)
        metrics.bytes.set(stats.used_bytes)
        metrics.map_used.set(stats.used_bytes / stats.budget_bytes)
        metrics.index_vectors.set(index.count)
        metrics.index_drift.set(semantic.drift())
        await asyncio.sleep(_STATS_INTERVAL)
