"""The way of one request: everything that happens to it, in order; each step is one call to one collaborator.

Cache-side steps run under `CacheSide`: whatever fails there is a miss. Only the upstream can fail a request, and a
function whose manifest says so.
"""

from collections.abc import Mapping
from contextlib import suppress

from msgspec import structs

from edgecache.cache.policy import Decision
from edgecache.config import Cache, HitPolicy
from edgecache.errors import EdgeCacheError, Overloaded, UpstreamError
from edgecache.pipeline.fallback import Fallback
from edgecache.pipeline.fetch import Fetcher
from edgecache.pipeline.fill import Ticket
from edgecache.pipeline.guard import CacheSide
from edgecache.pipeline.hits import Hits
from edgecache.pipeline.hooks import Hooks
from edgecache.pipeline.lookup import DECLINED, Lookup
from edgecache.pipeline.plan import Plan, Planner
from edgecache.pipeline.shadow import Shadow
from edgecache.pipeline.visit import NoVisit, Settled
from edgecache.tasks import Tasks
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheInfo, CacheStatus, Call, Entry, Reply

_NO_PLAN = Plan(Decision(*(False,) * 4, "error", None, 0.0, 1.0, HitPolicy()), None)  # deciding failed: a bypass


class Pipeline:
    """Answers calls from the cache where that is sound, else from upstream."""

    def __init__(
        self,
        planner: Planner,
        lookup: Lookup,
        hits: Hits,
        fetcher: Fetcher,
        fallback: Fallback,
        shadow: Shadow,
        hooks: Hooks,
        cache_side: CacheSide,
        tasks: Tasks,
        *,
        settings: Cache,
    ) -> None:
        """`settings` may be replaced while running."""
        self.settings = settings
        self._planner = planner
        self._lookup = lookup
        self._hits = hits
        self._fetcher = fetcher
        self._fallback = fallback
        self._shadow = shadow
        self._hooks = hooks
        self._cache_side = cache_side
        self._tasks = tasks

    async def serve(self, call: Call, trace: Trace) -> Reply:
        """The reply to `call`. Raises UpstreamError or Overloaded when no upstream answers, NotCached if asked to."""
        functions = self._hooks.visit(call, trace)
        try:
            return functions.signed(await self._serve(await functions.request(call), functions, trace))
        except Settled as settled:
            return functions.signed(settled.reply)

    async def _serve(self, call: Call, functions: NoVisit, trace: Trace) -> Reply:
        settings = self.settings
        plan = await functions.key(call, self._plan(call, settings, trace))
        decision, key = plan.decision, plan.key
        if key is None:
            return await self._bypass(call, decision, functions, trace)

        exact = self._lookup.same(call, key, decision, trace)
        if exact.ok:
            if (hit := await self._hits.reply(call, key, exact, CacheStatus.HIT, settings, functions)) is not None:
                return hit
            exact = DECLINED

        ticket = Ticket(call, key, decision, settings, *self._lookup.token())
        if (refused := self._fallback.refusal(ticket)) is not None:
            return refused
        if (stale := await self._fallback.while_revalidating(ticket, exact.entry, functions)) is not None:
            self._tasks.spawn(self._renew(ticket, functions), name="renew")
            return stale

        near, vector = DECLINED, None
        if exact is not DECLINED:
            near, vector = await self._lookup.near(call, key, decision, settings, trace)
        if near.ok:
            if (
                hit := await self._hits.reply(call, key, near, CacheStatus.SEMANTIC_HIT, settings, functions)
            ) is not None:
                if not functions.rewrites():
                    self._shadow.sample(ticket, near)
                return hit
            near = DECLINED

        info = self._lookup.missed(decision, exact, near)
        ticket = structs.replace(ticket, vector=vector, landed=self._shadow.watch(ticket, near))
        return await self._fetch(ticket, info, exact.entry, functions, trace)

    def hit(self, call: Call, trace: Trace, request_id: str, headers: Mapping[str, str]) -> Reply | None:
        """The reply to an exact hit, found without waiting for anything; None = it takes `serve`.

        `call` may be an earlier one of the same bytes; `request_id` and `headers` are those of the request at hand.
        """
        functions = self._hooks.quick(call, trace, request_id, headers)
        if functions is None:
            return None
        plan = self._plan(call, self.settings, trace)
        if plan.key is None:
            return None
        exact = self._lookup.same(call, plan.key, plan.decision, trace)
        return self._hits.reply_now(call, plan.key, exact, self.settings, functions, request_id)

    def _plan(self, call: Call, settings: Cache, trace: Trace) -> Plan:
        with trace.stage("key"):
            with self._cache_side.step("key"):
                return self._planner.plan(call, settings)
            return _NO_PLAN

    async def _bypass(self, call: Call, decision: Decision, functions: NoVisit, trace: Trace) -> Reply:
        info = self._lookup.bypassed(decision)
        reply = await self._fetcher.bypass(await functions.miss(call), info, trace)
        return await functions.response(call, reply)

    async def _renew(self, ticket: Ticket, functions: NoVisit) -> None:
        """A new answer that nobody waits for; none where a function answers or fails the request itself."""
        with suppress(Settled, EdgeCacheError):
            await self._fetcher.renew(ticket.sent_as(await functions.miss(ticket.call)))

    async def _fetch(
        self, ticket: Ticket, info: CacheInfo, entry: Entry | None, functions: NoVisit, trace: Trace
    ) -> Reply:
        """From upstream; where that fails, the expired `entry` is better than nothing."""
        sent = ticket.sent_as(await functions.miss(ticket.call))
        try:
            reply = await self._fetcher.miss(sent, info, trace)
        except (UpstreamError, Overloaded):
            if (stale := await self._fallback.on_error(ticket, entry, functions)) is not None:
                return stale
            raise
        self._fallback.note(sent.call, reply, ticket.settings)
        if reply.status >= 500:
            return await self._fallback.on_error(ticket, entry, functions) or reply
        return await functions.response(ticket.call, reply)
