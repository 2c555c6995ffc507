"""The two lookups: the same request, and a question with the same answer. What they find is judged here, not served."""

import msgspec
from prometheus_client import Counter

from edgecache.cache import policy, verify
from edgecache.cache.exact import ExactTier
from edgecache.cache.policy import Decision
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import Clock
from edgecache.config import Cache
from edgecache.embed.base import Vector
from edgecache.embed.batcher import Batcher
from edgecache.store.entries import EntryStore
from edgecache.telemetry.metrics import Metrics
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheKey, CacheStatus, Call, Candidate, Entry, Verdict

_HOPELESS = 0.1
"""Similarity below the threshold at which no rule accepts a candidate, not even the same words spelled otherwise."""


class Found(msgspec.Struct, frozen=True):
    """What a lookup found. `entry` may be served if `ok`; if not, `reason` says why, and it may yet serve on error."""

    entry: Entry | None = None
    ok: bool = False
    stale: bool = False
    reason: str = "absent"
    similarity: float | None = None
    verdict: Verdict | None = None
    neighbours: tuple[tuple[Entry, float], ...] = ()


class Lookup:
    """Finds and judges stored answers; the only place where tiers, policy and hit decision meet."""

    def __init__(
        self, store: EntryStore, semantic: SemanticTier, embedder: Batcher, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._store = store
        self._exact = ExactTier(store)
        self._semantic = semantic
        self._embedder = embedder
        self._clock = clock
        self._metrics = metrics
        self._books = _Books(metrics)

    def exact(self, call: Call, key: CacheKey) -> Found:
        """The entry of the same request, and whether it may be served now."""
        entry = self._exact.lookup(key)
        if entry is None:
            return Found()
        fresh = policy.usable(entry, call, key, now=self._clock.now())
        return Found(entry, ok=fresh.ok, stale=fresh.stale, reason=fresh.reason)

    def token(self) -> tuple[int, int]:
        """Orders a fill that begins now against purges (see `store.entries`), and the last purge there was."""
        return self._store.epoch(), self._store.last_purge

    def used(self, found: Found, status: CacheStatus) -> Entry:
        """The entry of a hit, counted: as a lookup, as tokens saved, and towards keeping it."""
        entry = found.entry
        if entry is None:
            raise ValueError("a hit has an entry")
        self._books.hit(entry, "stale" if found.stale else status.value.lower(), found.reason)
        self._store.touch(entry.id)
        return entry

    async def embed(self, text: str) -> Vector:
        """The vector of `text`; raises EmbedError (late, too long, embedder gone)."""
        return await self._embedder.embed(text)

    async def semantic(
        self,
        call: Call,
        key: CacheKey,
        vector: Vector,
        decision: Decision,
        settings: Cache,
        trace: Trace,
        *,
        hopeless: bool = False,
    ) -> Found:
        """The nearest entry of the scope whose answer is right for this question, by `cache.verify`.

        Beside the nearest, candidates far below the threshold are looked at only if `hopeless`.
        """
        least = -1.0 if hopeless else decision.threshold - _HOPELESS
        with trace.stage("ann"):
            near = await self._semantic.neighbours(key, vector, settings.semantic.neighbours, least=least)
        if not near:
            return Found()
        self._metrics.similarity.observe(near[0][1])
        with trace.stage("verify"):
            return self._judge(call, key, near, decision)

    def _judge(self, call: Call, key: CacheKey, near: list[tuple[Entry, float]], decision: Decision) -> Found:
        now = self._clock.now()
        usable = {entry.id: entry for entry, _ in near if policy.usable(entry, call, key, now=now).ok}
        candidates = [Candidate(entry.id, score, entry.text or "") for entry, score in near if entry.id in usable]
        verdict = verify.decide(
            key.text or "", candidates, threshold=decision.threshold, tolerance=self._embedder.tolerance
        )
        if verdict.accepted is None:
            return Found(reason=verdict.rule, verdict=verdict, neighbours=tuple(near))
        entry = usable[verdict.accepted.entry_id]
        stale = policy.usable(entry, call, key, now=now).stale
        return Found(entry, True, stale, verdict.rule, verdict.accepted.similarity, verdict, tuple(near))


class _Books:
    """The counters of hits, looked up once: finding a labelled counter costs more than counting."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._hits: dict[tuple[str, str], Counter] = {}
        self._prompt = metrics.tokens_saved.labels("prompt")
        self._completion = metrics.tokens_saved.labels("completion")

    def hit(self, entry: Entry, result: str, reason: str) -> None:
        counter = self._hits.get((result, reason))
        if counter is None:
            counter = self._hits[result, reason] = self._metrics.lookups.labels(result, reason)
        counter.inc()
        if entry.prompt_tokens:
            self._prompt.inc(entry.prompt_tokens)
        if entry.completion_tokens:
            self._completion.inc(entry.completion_tokens)
