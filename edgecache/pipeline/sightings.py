"""Letting in what was held back: an answer serves other wordings from the second sighting of its question on.

The first sighting is the fill, the second an exact hit of another writer (`cache.admission`), or an operator's pin. The
mark is durable: the vector is stored in the transaction that lifts the hold. Nobody waits for any of this.

Until then an entry has no vector. Were it in the index and refused at lookup, it would stand in the way of neighbours
that may be served, and whoever fills much could crowd a neighbourhood out.
"""

from edgecache.cache import admission
from edgecache.cache.semantic import SemanticTier
from edgecache.config import Cache
from edgecache.embed.batcher import Batcher
from edgecache.pipeline.guard import CacheSide
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Call, Entry

_MAX_RUNNING = 32
"""Entries let in at once. What finds no place waits for its next exact hit."""
_EMBED_DEADLINE = 10.0
"""Seconds to wait for a vector; lookups go first."""


class Sightings:
    """Watches exact hits of held entries."""

    def __init__(
        self, semantic: SemanticTier, embedder: Batcher, cache_side: CacheSide, tasks: Tasks, *, metrics: Metrics
    ) -> None:
        self._semantic = semantic
        self._embedder = embedder
        self._cache_side = cache_side
        self._tasks = tasks
        self._metrics = metrics
        self._running: set[int] = set()

    def seen(self, call: Call, entry: Entry, settings: Cache) -> None:
        """`call` was an exact hit of `entry`, which is held: let it in if that is a second sighting."""
        if entry.held != admission.SECOND_SIGHTING or not settings.semantic.enabled:
            return
        if settings.admission.second_sighting and not admission.is_second(
            entry.writer, admission.writer(call, settings.admission)
        ):
            return
        if entry.id not in self._running and len(self._running) < _MAX_RUNNING:
            self._running.add(entry.id)
            self._tasks.spawn(self._let_in(entry, settings.admission.max_entries_per_writer), name="sighting")

    async def _let_in(self, entry: Entry, limit: int) -> None:
        try:
            with self._cache_side.step("sighting"):
                await self.release(entry, limit=limit)
        finally:
            self._running.discard(entry.id)

    async def pinned(self, entry: Entry) -> None:
        """An operator vouches for `entry`: let it in, whatever it was held for."""
        with self._cache_side.step("sighting"):
            await self.release(entry)

    async def release(self, entry: Entry, *, limit: int = 0) -> bool:
        """Let a held entry in, whatever it was held for; False where it may not, or is not held any more.

        Raises EmbedError and StoreError.
        """
        if not entry.held or entry.text is None:
            return False
        vector = await self._embedder.embed(entry.text, deadline=_EMBED_DEADLINE)
        released = await self._semantic.release(entry, vector, limit=limit)
        if released:
            self._metrics.fills.labels("released").inc()
        return released
