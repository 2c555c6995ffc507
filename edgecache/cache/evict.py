"""The sweeper: removes what expired, was purged or is damaged, and keeps the store within its byte budget.

Purged and expired answers are not served whether swept or not: sweeping only gives their space back. Under the budget,
a hand goes round the entries by age and takes the least used for their size, halving the use counts of the others.
"""

import asyncio
import logging
from collections.abc import Sequence

from edgecache import config
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import Clock
from edgecache.errors import StoreError
from edgecache.store.entries import EntryStore
from edgecache.store.pages import Scanned
from edgecache.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_TICK = 1.0
_SLICE = 256
_SLICES_A_SWEEP = 64
_HIGH, _LOW = 0.9, 0.8
_ROUNDS = 9  # after so many, halving has brought every use count to 0
_LONGEST_FILL = 3600.0
_RECALL_EVERY = 10
_RECALL_SAMPLES = 32


class Sweeper:
    """Upkeep of the store and the index. `tier` is None where there is no embedder.

    `grace` is for how long (s) an expired answer may still serve while the upstream is down.
    """

    def __init__(
        self,
        store: EntryStore,
        tier: SemanticTier | None,
        clock: Clock,
        settings: config.Store,
        *,
        grace: float,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._tier = tier
        self._clock = clock
        self._settings = settings
        self.grace = grace
        self._metrics = metrics
        self._hand = 0
        self._oldest: int | None = None
        self._evict_hand = 0
        self._drifted = False
        self._sweeps = 0
        self._saved: int | None = None

    async def run(self) -> None:
        """Sweep and save snapshots at their intervals, and make room soon when it gets tight; never returns."""
        swept = saved = self._clock.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            now = self._clock.monotonic()
            try:
                if now - swept >= self._settings.sweep_interval:
                    swept = now
                    await self.sweep()
                elif self._store.near_full:
                    await self.make_room()
                if 0 < self._settings.snapshot_interval <= now - saved:
                    saved = now
                    await self._save()
            except StoreError as error:
                self._metrics.cache_side_errors.labels("sweep").inc()
                log.warning("sweeping failed: %s", error)

    async def _save(self) -> None:
        if self._tier is not None and self._saved != self._store.epoch():
            self._saved = self._store.epoch()
            await self._tier.save()

    async def sweep(self) -> int:
        """One sweep: what is damaged, a stretch of what expired or was purged, the budget, the index. How many went."""
        gone = await self._delete(self._store.suspects(), "corrupt")
        for _ in range(_SLICES_A_SWEEP):
            gone += await self._sweep_slice()
            if not self._hand:
                break
        gone += await self.make_room()
        await self._tend_index()
        return gone

    async def _sweep_slice(self) -> int:
        records = await asyncio.to_thread(self._store.scan, self._hand, _SLICE)
        if not records:
            await self._end_of_pass()
            return 0
        self._hand = records[-1].id
        late = self._clock.now() - self.grace
        corrupt = [record.id for record in records if record.head is None]
        purged = [record.id for record in records if record.purged]
        expired = [r.id for r in records if r.head is not None and not r.purged and r.head.expires < late]
        for record in records:
            if record.head is not None and not record.purged:
                since = record.head.since
                self._oldest = since if self._oldest is None else min(self._oldest, since)
        return (
            await self._delete(corrupt, "corrupt")
            + await self._delete(purged, "purged")
            + await self._delete(expired, "expired")
        )

    async def _end_of_pass(self) -> None:
        """Every entry was seen: purges older than all of them have nothing left to cover."""
        oldest = self._store.epoch() + 1 if self._oldest is None else self._oldest
        await self._store.forget_purges(oldest, self._clock.now() - _LONGEST_FILL)
        self._hand, self._oldest = 0, None

    async def make_room(self) -> int:
        """Evict until a fifth of the space is free, if less than a tenth is or a put was refused. How many went."""
        stats = self._store.stats()
        target = _LOW * stats.limit_bytes
        if self._store.refused:
            # Large answers may find no contiguous space even below the target.
            target = min(target, 0.9 * stats.used_bytes)
        elif stats.used_bytes <= _HIGH * stats.limit_bytes:
            return 0
        gone = rounds = 0
        while (need := self._store.stats().used_bytes - target) > 0 and rounds < _ROUNDS:
            records = await asyncio.to_thread(self._store.scan, self._evict_hand, _SLICE)
            self._evict_hand = records[-1].id if records else 0
            rounds += not records
            gone += await self._delete(self._least_used(records, need), "space")
            self._store.cool(record.id for record in records)
        await self._store.relieve()
        if self._tier is not None:
            await self._tier.follow()
        return gone

    def _least_used(self, records: Sequence[Scanned], need: float) -> list[int]:
        """Those of `records` worth least: what cannot be served first, then by uses a byte.

        As many as give back `need` bytes, at most half of them; never one that an operator pinned and that can serve.
        """
        now = self._clock.now()

        def worth(record: Scanned) -> float:
            if record.head is None or record.purged or record.head.expires < now:
                return -1.0
            return self._store.uses(record.id) / record.size

        victims = []
        for record in sorted(records, key=worth)[: (len(records) + 1) // 2]:
            if need <= 0:
                break
            if worth(record) >= 0 and record.head is not None and self._pinned(record.head.digest):
                continue
            victims.append(record.id)
            need -= record.size
        return victims

    def _pinned(self, digest: bytes) -> bool:
        mark = self._store.evidence.mark(digest)
        return mark is not None and mark.mark == "pin"

    async def _delete(self, entry_ids: list[int], reason: str) -> int:
        if not entry_ids:
            return 0
        gone = await self._store.delete(entry_ids)
        self._metrics.evictions.labels(reason).inc(gone)
        return gone

    async def _tend_index(self) -> None:
        if self._tier is None:
            self._store.take_removed()
            return
        await self._tier.follow()
        # A fill in progress shows as drift for a moment; what is there twice is worth a repair.
        drifted = self._tier.drift() != 0
        if drifted and self._drifted:
            log.warning("the index had drifted from the store by %d vectors", await self._tier.repair())
        self._drifted = drifted
        self._sweeps += 1
        if self._sweeps % _RECALL_EVERY == 0:
            await self._tier.check_recall(_RECALL_SAMPLES)
