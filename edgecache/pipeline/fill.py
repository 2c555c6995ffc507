"""Keeping a copy of an answer that ended well. The client has its bytes already: nothing here is waited for."""

import asyncio
import random
from collections.abc import Callable, Hashable

import msgspec
import orjson
from msgspec import structs

from edgecache.cache import admission, policy
from edgecache.cache.admission import Rates
from edgecache.cache.policy import Decision
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import Clock
from edgecache.config import Cache
from edgecache.embed.base import Vector
from edgecache.embed.batcher import Batcher
from edgecache.errors import EmbedError, StoreError, TextTooLong
from edgecache.pipeline.coalesce import Transcript
from edgecache.pipeline.guard import CacheSide
from edgecache.pipeline.learner import Learner
from edgecache.pipeline.mirror import Mirrors
from edgecache.store.changes import WRITER_ENTRIES
from edgecache.telemetry.metrics import Metrics
from edgecache.types import CacheKey, Call, Entry, Purpose
from edgecache.wire import answers
from edgecache.wire.answers import Finished, Unfinished

_EMBED_DEADLINE = 10.0
"""Seconds a fill waits for a vector that the lookup could not have in time."""
_INLINE_BYTES = 64 * 1024
"""Transcripts up to this size are read on the event loop (under half a millisecond), larger ones in a thread."""


Landed = Callable[[Finished, Entry | None], None]
"""Told of an answer that ended well, and of its entry if it was stored."""


class Ticket(msgspec.Struct, frozen=True):
    """What is known about an answer before it arrives.

    `token` orders the fill against purges (see `store.entries`); `purge` is the last purge before the request.
    `variant` is what a function made of the request that goes upstream: only the same may share an answer in progress.
    """

    call: Call
    key: CacheKey
    decision: Decision
    settings: Cache
    token: int
    purge: int = 0
    vector: Vector | None = None
    landed: Landed | None = None
    variant: Hashable = None

    def sent_as(self, call: Call) -> "Ticket":
        """This ticket, with `call` going upstream in place of its own."""
        return self if call is self.call else structs.replace(self, call=call, variant=(call.upstream, call.raw))


class Filler:
    """Turns a transcript into a stored entry, or counts why not."""

    def __init__(
        self,
        semantic: SemanticTier,
        embedder: Batcher,
        learner: Learner,
        mirrors: Mirrors,
        cache_side: CacheSide,
        *,
        clock: Clock,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self._mirrors = mirrors
        self._semantic = semantic
        self._embedder = embedder
        self._learner = learner
        self._cache_side = cache_side
        self._clock = clock
        self._metrics = metrics
        self._random = rng
        self._rates = Rates()

    async def land(self, ticket: Ticket, script: Transcript) -> Entry | None:
        """Store what `script` holds if it is a complete answer that policy admits; never raises."""
        with self._cache_side.step("fill"):
            finished = await read(ticket.call, script)
            if isinstance(finished, Finished) and ticket.call.purpose is Purpose.CLIENT:
                learning = ticket.settings.learning
                self._mirrors.consider(ticket.call, ticket.key, finished, learning, small=script.small)
            reason = "upstream" if script.lifetime == 0 else _refusal(finished, ticket)
            if reason is None and self._learner.banned(ticket.key):
                reason = "banned"
            if isinstance(finished, Finished) and reason is None:
                return _told(ticket, finished, await self._store(ticket, script, finished))
            self._metrics.fills.labels(reason).inc()
            if isinstance(finished, Finished):
                _told(ticket, finished, None)
        return None

    async def _store(self, ticket: Ticket, script: Transcript, finished: Finished) -> Entry | None:
        held, limit = self._admit(ticket)
        entry, vector = self._entry(ticket, script, finished, held), ticket.vector
        if vector is None and entry.text is not None:
            try:
                vector = await self._embedder.embed(entry.text, deadline=_EMBED_DEADLINE)
            except TextTooLong:
                entry = structs.replace(entry, held="")  # never compared: nothing to hold back
            except EmbedError:
                pass  # the entry then hits exactly only
        try:
            entry = await self._put(entry, None if entry.held else vector, ticket.token, limit)
        except StoreError as error:
            self._metrics.fills.labels(type(error).__name__).inc()
            raise
        self._metrics.fills.labels(entry.held or "stored").inc()
        return entry

    async def _put(self, entry: Entry, vector: Vector | None, token: int, limit: int) -> Entry:
        """Store `entry`; where its writer has as many as it may have, for identical requests only."""
        try:
            await self._semantic.store(entry, vector, token=token, limit=limit)
        except StoreError as error:
            if error.code != WRITER_ENTRIES:
                raise
            entry = structs.replace(entry, held=WRITER_ENTRIES)
            await self._semantic.store(entry, None, token=token)
        return entry

    def _admit(self, ticket: Ticket) -> tuple[str, int]:
        """What the new answer is held back for, and how many its writer may have that are not; see `admission`."""
        settings = ticket.settings.admission
        if ticket.key.text is None or settings == admission.OPEN:
            return "", 0
        earlier, now = self._semantic.earlier(ticket.key), self._clock.monotonic()
        return admission.admit(
            settings, admission.writer(ticket.call, ticket.settings.admission), earlier, self._rates, now
        )

    def _entry(self, ticket: Ticket, script: Transcript, finished: Finished, held: str) -> Entry:
        key, now = ticket.key, self._clock.now()
        ttl = ticket.decision.ttl if script.lifetime is None else min(ticket.decision.ttl, script.lifetime)
        lifetime = ttl * (1.0 - ticket.settings.ttl_jitter * self._random.random())
        return Entry(
            tenant=key.tenant,
            namespace=key.namespace,
            model=key.model,
            scope=key.scope,
            digest=key.digest,
            text=key.text,
            endpoint=ticket.call.endpoint,
            body=finished.body,
            created=now,
            expires=now + lifetime,
            finish_reason=finished.finish_reason,
            max_tokens=key.max_tokens,
            prompt_tokens=finished.prompt_tokens,
            completion_tokens=finished.completion_tokens,
            tags=ticket.call.controls.tags,
            upstream=script.upstream,
            writer=admission.writer(ticket.call, ticket.settings.admission),
            held=held,
        )


def _told(ticket: Ticket, finished: Finished, entry: Entry | None) -> Entry | None:
    if ticket.landed is not None:
        ticket.landed(finished, entry)
    return entry


def _refusal(finished: Finished | Unfinished, ticket: Ticket) -> str | None:
    if isinstance(finished, Unfinished):
        return finished.reason
    if _too_few(ticket.call, finished):
        return "choices"
    return policy.admit(finished, ticket.decision, ticket.settings)


def _too_few(call: Call, finished: Finished) -> bool:
    """Whether fewer choices came than were asked for: Dynamo answers `n: 2` with one."""
    wanted = call.body.get("n") or 1
    return wanted > 1 and len(orjson.loads(finished.body)["choices"]) < wanted


async def read(call: Call, script: Transcript) -> Finished | Unfinished:
    """What `script` holds, by the complete-answer rule."""
    if script.status != 200:
        return Unfinished("status")
    size = len(script.body) + sum(map(len, script.events))
    if size <= _INLINE_BYTES:
        return _parse(call, script)
    return await asyncio.to_thread(_parse, call, script)


def _parse(call: Call, script: Transcript) -> Finished | Unfinished:
    if script.streaming:
        return answers.from_events(call.endpoint, script.events)
    return answers.from_json(call.endpoint, script.body)
