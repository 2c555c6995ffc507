"""A stored answer on its way to the client: rendered, handed to the functions of its phase, and counted if it goes out.

Whether it may be served has been decided before it comes here.
"""

from edgecache.clock import Clock
from edgecache.config import Cache
from edgecache.pipeline.lookup import Found, Lookup
from edgecache.pipeline.replay import Replay
from edgecache.pipeline.sightings import Sightings
from edgecache.pipeline.visit import NoVisit
from edgecache.types import CacheKey, CacheStatus, Call, Reply


class Hits:
    """Makes the replies of hits."""

    def __init__(self, lookup: Lookup, replay: Replay, sightings: Sightings, *, clock: Clock) -> None:
        self._lookup = lookup
        self._replay = replay
        self._sightings = sightings
        self._clock = clock

    async def reply(
        self, call: Call, key: CacheKey, found: Found, status: CacheStatus, settings: Cache, functions: NoVisit
    ) -> Reply | None:
        """The reply of a hit; None where a function wants a fresh answer instead, and it is no hit then."""
        if found.entry is None:
            return None
        reply = await functions.hit(call, self._rendered(call, found, status), found.entry.body)
        if reply is not None:
            self._used(call, key, found, status, settings, call.request_id)
        return reply

    def reply_now(
        self, call: Call, key: CacheKey, found: Found, settings: Cache, functions: NoVisit, request_id: str
    ) -> Reply | None:
        """The reply of an exact hit, without waiting for anything; None where that takes longer."""
        if found.entry is None or not found.ok:
            return None
        made = self._rendered(call, found, CacheStatus.HIT)
        reply = functions.hit_now(call, made, found.entry.body, key.digest)
        if reply is not None:
            self._used(call, key, found, CacheStatus.HIT, settings, request_id)
        return reply

    def _rendered(self, call: Call, found: Found, status: CacheStatus) -> Reply:
        if found.entry is None:
            raise ValueError("a hit has an entry")
        detail = "semantic" if status is CacheStatus.SEMANTIC_HIT else None
        return self._replay.reply(
            call,
            found.entry,
            CacheStatus.STALE if found.stale else status,
            now=self._clock.now(),
            similarity=found.similarity,
            score=found.ruling.score if found.ruling is not None else None,
            detail=detail,
        )

    def _used(
        self, call: Call, key: CacheKey, found: Found, status: CacheStatus, settings: Cache, request_id: str
    ) -> None:
        entry = self._lookup.used(request_id, key, found, status)
        if entry.held:
            self._sightings.seen(call, entry, settings)
