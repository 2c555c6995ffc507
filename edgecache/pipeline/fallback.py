"""What may be served in place of a fresh answer: a stale one (RFC 5861), or a refusal that was just given.

A refusal is remembered under the bytes of the request, not under its cache key: fields outside the key (metadata,
stream options) are what servers refuse. It lives for seconds, because trtllm-serve says 400 to passing trouble too.
"""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from edgecache.cache import policy
from edgecache.clock import Clock
from edgecache.config import Cache
from edgecache.pipeline.fill import Ticket
from edgecache.pipeline.replay import Replay
from edgecache.pipeline.visit import NoVisit
from edgecache.telemetry.metrics import Metrics
from edgecache.types import CacheInfo, CacheStatus, Call, Entry, Reply

REFUSALS = frozenset({400, 404, 413, 422})
"""Statuses that depend on the request alone; 401, 403, 408, 409 and 429 depend on who asks, and when."""
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class _Refusal:
    reply: Reply
    until: float


class Fallback:
    """Replies that need no answer of the upstream, or stand in for one that did not come."""

    def __init__(self, replay: Replay, *, clock: Clock, metrics: Metrics) -> None:
        self._replay = replay
        self._clock = clock
        self._metrics = metrics
        self._refusals: OrderedDict[bytes, _Refusal] = OrderedDict()

    async def while_revalidating(self, ticket: Ticket, entry: Entry | None, functions: NoVisit) -> Reply | None:
        """The stale `entry`, if it may be served while a new answer is fetched, and its `functions` let it."""
        grace = ticket.settings.stale_while_revalidate if ticket.decision.store else 0.0
        return await self._stale(ticket, entry, grace, "stale-while-revalidate", functions)

    async def on_error(self, ticket: Ticket, entry: Entry | None, functions: NoVisit) -> Reply | None:
        """The stale `entry`, if it may be served because the upstream gave no answer, and its `functions` let it."""
        return await self._stale(ticket, entry, ticket.settings.stale_if_error, "stale-if-error", functions)

    async def _stale(
        self, ticket: Ticket, entry: Entry | None, grace: float, detail: str, functions: NoVisit
    ) -> Reply | None:
        now = self._clock.now()
        if entry is None or grace <= 0:
            return None
        if not policy.stale_on_error(entry, ticket.call, ticket.key, now=now, grace=grace):
            return None
        stale = self._replay.reply(ticket.call, entry, CacheStatus.STALE, now=now, detail=detail)
        reply = await functions.hit(ticket.call, stale, entry.body)
        if reply is not None:
            self._metrics.lookups.labels("stale", detail).inc()
        return reply

    def refusal(self, ticket: Ticket) -> Reply | None:
        """What the upstream said to the same request a moment ago, if it refused it and nothing new is asked for."""
        call = ticket.call
        wants_new = ticket.decision.refresh or call.controls.max_age is not None
        found = self._refusals.get(_digest(call)) if self._refusals and not wants_new else None
        if found is None or found.until <= self._clock.now():
            return None
        self._metrics.lookups.labels("negative", str(found.reply.status)).inc()
        info = CacheInfo(CacheStatus.HIT, detail="negative", ttl=int(found.until - self._clock.now()))
        return Reply(
            found.reply.status, info, found.reply.content_type, found.reply.body, upstream=found.reply.upstream
        )

    def note(self, call: Call, reply: Reply, settings: Cache) -> None:
        """Remember `reply` if it is a refusal."""
        if reply.status in REFUSALS and settings.negative_ttl > 0:
            self._refusals[_digest(call)] = _Refusal(reply, self._clock.now() + settings.negative_ttl)
            if len(self._refusals) > _REMEMBERED:
                self._refusals.popitem(last=False)


def _digest(call: Call) -> bytes:
    text = blake2b(call.raw, digest_size=16, person=call.endpoint.value[:16].encode())
    text.update(call.tenant.id.encode())
    return text.digest()
