"""The way of one request: everything that happens to it, in order; each step is one call to one collaborator.

Cache-side steps run under `CacheSide`: whatever fails there is a miss. Only the upstream can fail a request.
"""

from dataclasses import replace

from edgecache.cache.policy import Decision
from edgecache.clock import Clock
from edgecache.config import Cache, HitPolicy
from edgecache.errors import UpstreamError
from edgecache.pipeline.fallback import Fallback
from edgecache.pipeline.fetch import Fetcher
from edgecache.pipeline.fill import Ticket
from edgecache.pipeline.guard import CacheSide
from edgecache.pipeline.lookup import Found, Lookup
from edgecache.pipeline.plan import Plan, Planner
from edgecache.pipeline.replay import Replay
from edgecache.pipeline.shadow import Shadow
from edgecache.pipeline.sightings import Sightings
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheInfo, CacheKey, CacheStatus, Call, Entry, Reply

_NO_PLAN = Plan(Decision(*(False,) * 4, "error", None, 0.0, 1.0, HitPolicy()), None)  # deciding failed: a bypass


class Pipeline:
    """Answers calls from the cache where that is sound, else from upstream."""

    def __init__(
        self,
        planner: Planner,
        lookup: Lookup,
        fetcher: Fetcher,
        fallback: Fallback,
        replay: Replay,
        shadow: Shadow,
        sightings: Sightings,
        cache_side: CacheSide,
        tasks: Tasks,
        *,
        settings: Cache,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """`settings` may be replaced while running."""
        self.settings = settings
        self._planner = planner
        self._lookup = lookup
        self._fetcher = fetcher
        self._fallback = fallback
        self._replay = replay
        self._shadow = shadow
        self._sightings = sightings
        self._cache_side = cache_side
        self._tasks = tasks
        self._clock = clock
        self._metrics = metrics

    async def serve(self, call: Call, trace: Trace) -> Reply:
        """The reply to `call`. Raises UpstreamError when no upstream answers, NotCached for `only-if-cached`."""
        settings = self.settings
        plan = self._plan(call, settings, trace)
        decision, key = plan.decision, plan.key
        if key is None:
            return await self._bypass(call, decision, trace)

        exact = self._exact(call, key, decision, trace)
        if exact.ok:
            return self._hit(call, key, exact, CacheStatus.HIT)

        ticket = Ticket(call, key, decision, settings, *self._lookup.token())
        if (refused := self._fallback.refusal(ticket)) is not None:
            return refused
        if (stale := self._fallback.while_revalidating(ticket, exact.entry)) is not None:
            self._tasks.spawn(self._fetcher.renew(ticket), name="renew")
            return stale

        near, vector = await self._lookup.near(call, key, decision, settings, trace)
        if near.ok:
            self._shadow.sample(ticket, near)
            return self._hit(call, key, near, CacheStatus.SEMANTIC_HIT)

        info = self._miss(decision, exact, near)
        ticket = replace(ticket, vector=vector, landed=self._shadow.watch(ticket, near))
        return await self._fetch(ticket, info, exact.entry, trace)

    def hit(self, call: Call, trace: Trace, request_id: str) -> Reply | None:
        """The reply to an exact hit, found without waiting for anything; None = it takes `serve`.

        `call` may be an earlier one of the same bytes; `request_id` is that of the request at hand.
        """
        plan = self._plan(call, self.settings, trace)
        if plan.key is None:
            return None
        exact = self._exact(call, plan.key, plan.decision, trace)
        return self._hit(call, plan.key, exact, CacheStatus.HIT, request_id) if exact.ok else None

    def _plan(self, call: Call, settings: Cache, trace: Trace) -> Plan:
        with trace.stage("key"):
            with self._cache_side.step("key"):
                return self._planner.plan(call, settings)
            return _NO_PLAN

    async def _bypass(self, call: Call, decision: Decision, trace: Trace) -> Reply:
        reason = decision.bypass or "error"
        self._metrics.lookups.labels("bypass", reason).inc()
        info = CacheInfo(CacheStatus.BYPASS, fwd="bypass", detail=reason)
        return await self._fetcher.bypass(call, info, trace)

    def _exact(self, call: Call, key: CacheKey, decision: Decision, trace: Trace) -> Found:
        if decision.exact and not decision.refresh:
            with trace.stage("exact"), self._cache_side.step("exact"):
                return self._lookup.exact(call, key)
        return Found(reason="refresh")

    def _hit(self, call: Call, key: CacheKey, found: Found, status: CacheStatus, request_id: str = "") -> Reply:
        entry = self._lookup.used(request_id or call.request_id, key, found, status)
        if entry.held:
            self._sightings.seen(call, entry, self.settings)
        detail = "semantic" if status is CacheStatus.SEMANTIC_HIT else None
        status = CacheStatus.STALE if found.stale else status
        score = found.ruling.score if found.ruling is not None else None
        return self._replay.reply(
            call, entry, status, now=self._clock.now(), similarity=found.similarity, score=score, detail=detail
        )

    def _miss(self, decision: Decision, exact: Found, near: Found) -> CacheInfo:
        reason = near.reason if exact.entry is None else exact.reason
        self._metrics.lookups.labels("miss", reason).inc()
        if decision.refresh:
            return CacheInfo(CacheStatus.REFRESH, fwd="request")
        fwd = "stale" if exact.entry is not None else "miss"
        return CacheInfo(CacheStatus.MISS, fwd=fwd, detail=None if reason == "absent" else reason)

    async def _fetch(self, ticket: Ticket, info: CacheInfo, entry: Entry | None, trace: Trace) -> Reply:
        """From upstream; where that fails, the expired `entry` is better than nothing."""
        try:
            reply = await self._fetcher.miss(ticket, info, trace)
        except UpstreamError:
            if (stale := self._fallback.on_error(ticket, entry)) is not None:
                return stale
            raise
        self._fallback.note(ticket.call, reply, ticket.settings)
        return (self._fallback.on_error(ticket, entry) or reply) if reply.status >= 500 else reply
