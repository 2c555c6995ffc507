"""The two lookups: the same request, and a question with the same answer. What they find is not served here."""

import msgspec
from prometheus_client import Counter

from edgecache.cache import budget, policy
from edgecache.cache.exact import ExactTier
from edgecache.cache.policy import Decision
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import Clock
from edgecache.config import Cache
from edgecache.embed.base import Vector
from edgecache.embed.batcher import Batcher
from edgecache.errors import TextTooLong
from edgecache.pipeline.decider import Decider, Ruling
from edgecache.pipeline.guard import CacheSide
from edgecache.pipeline.learner import Learner
from edgecache.store.entries import EntryStore
from edgecache.telemetry.metrics import Metrics
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheInfo, CacheKey, CacheStatus, Call, Entry

_HOPELESS = 0.1
"""Similarity below the floor at which a candidate is not even compared with others."""


class Found(msgspec.Struct, frozen=True):
    """What a lookup found. `entry` may be served if `ok`; if not, `reason` says why, and it may yet serve on error.

    `would` says that the semantic tier would have served `entry`, were it not in shadow mode.
    """

    entry: Entry | None = None
    ok: bool = False
    stale: bool = False
    reason: str = "absent"
    similarity: float | None = None
    would: bool = False
    ruling: Ruling | None = None
    neighbours: tuple[tuple[Entry, float], ...] = ()


DECLINED = Found(reason="function")
"""A function will not have what was found."""


class Lookup:
    """Finds and judges stored answers; the only place where tiers, policy and hit decision meet."""

    def __init__(
        self,
        store: EntryStore,
        semantic: SemanticTier,
        embedder: Batcher,
        decider: Decider,
        learner: Learner,
        cache_side: CacheSide,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._exact = ExactTier(store)
        self._semantic = semantic
        self._embedder = embedder
        self._decider = decider
        self._learner = learner
        self._cache_side = cache_side
        self._clock = clock
        self._metrics = metrics
        self._books = _Books(metrics)

    def exact(self, call: Call, key: CacheKey) -> Found:
        """The entry of the same request, and whether it may be served now."""
        entry = self._exact.lookup(key)
        if entry is None:
            return Found()
        fresh = policy.usable(entry, call, key, now=self._clock.now())
        if self._learner.refused(entry, key) is not None:  # as if it were not there: it may not serve when stale either
            return Found(reason="banned")
        return Found(entry, ok=fresh.ok, stale=fresh.stale, reason=fresh.reason)

    def same(self, call: Call, key: CacheKey, decision: Decision, trace: Trace) -> Found:
        """`exact`, as `decision` has it. Never raises: what fails is a miss."""
        if decision.exact and not decision.refresh:
            with trace.stage("exact"), self._cache_side.step("exact"):
                return self.exact(call, key)
        return Found(reason="refresh")

    def token(self) -> tuple[int, int]:
        """Orders a fill that begins now against purges (see `store.entries`), and the last purge there was."""
        return self._store.epoch(), self._store.last_purge

    def used(self, request_id: str, key: CacheKey, found: Found, status: CacheStatus) -> Entry:
        """The entry of a hit, counted: as a lookup, as tokens saved, towards keeping it, and for feedback on it."""
        entry = found.entry
        if entry is None:
            raise ValueError("a hit has an entry")
        self._books.hit(entry, "stale" if found.stale else status.value.lower(), found.reason)
        self._store.touch(entry.id)
        with self._cache_side.step("learn"):
            if found.ruling is not None:
                self._learner.served(request_id, key, entry, found.ruling.verdict)
            else:
                budget.requested(self._learner.segment(key), None)
                self._learner.answered(request_id, key, entry)
        return entry

    def bypassed(self, decision: Decision) -> CacheInfo:
        """What is told of a request that leaves the cache out; counts it."""
        reason = decision.bypass or "error"
        self._books.count("bypass", reason)
        return CacheInfo(CacheStatus.BYPASS, fwd="bypass", detail=reason)

    def missed(self, decision: Decision, exact: Found, near: Found) -> CacheInfo:
        """What is told of a request that goes upstream, by what the two lookups found; counts it."""
        reason = near.reason if exact.entry is None else exact.reason
        self._books.count("miss", reason)
        if decision.refresh:
            return CacheInfo(CacheStatus.REFRESH, fwd="request")
        fwd = "stale" if exact.entry is not None else "miss"
        return CacheInfo(CacheStatus.MISS, fwd=fwd, detail=None if reason == "absent" else reason)

    async def embed(self, text: str) -> Vector:
        """The vector of `text`; raises EmbedError (late, too long, embedder gone)."""
        return await self._embedder.embed(text)

    async def near(
        self, call: Call, key: CacheKey, decision: Decision, settings: Cache, trace: Trace
    ) -> tuple[Found, Vector | None]:
        """The semantic lookup of a request that the exact tier could not answer, and the vector of its question.

        Never raises: what fails is a miss. Counts the request, also one that may hit exactly only.
        """
        if decision.refresh:
            return Found(reason=decision.exact_only or "exact-only"), None
        found, vector = await self._near(call, key, decision, settings, trace)
        with self._cache_side.step("learn"):
            best = found.ruling.best if found.ruling is not None else None
            segment = self._learner.segment(key)
            budget.requested(segment, best.risk if best is not None else None)
            if found.would and found.ruling is not None:
                budget.served(segment, found.ruling.verdict.risk)
        return found, vector

    async def _near(
        self, call: Call, key: CacheKey, decision: Decision, settings: Cache, trace: Trace
    ) -> tuple[Found, Vector | None]:
        if key.text is None:
            return Found(reason=decision.exact_only or "exact-only"), None
        with self._cache_side.step("embed") as step, trace.stage("embed"):
            vector = await self.embed(key.text)
        if step.error is not None:
            return Found(reason="window" if isinstance(step.error, TextTooLong) else "embedder"), None
        with self._cache_side.step("semantic"):
            return await self.semantic(call, key, vector, decision, settings, trace), vector
        return Found(reason="error"), vector

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
        """The entry of the scope whose answer is served for this question, by `pipeline.decider`. Counts nothing.

        Beside the nearest, candidates far below the floor are looked at only if `hopeless`.
        """
        least = -1.0 if hopeless else decision.floor - _HOPELESS
        with trace.stage("ann"):
            near = await self._semantic.neighbours(key, vector, settings.semantic.neighbours, least=least)
        if not near:
            return Found()
        self._metrics.similarity.observe(near[0][1])
        with trace.stage("verify"):
            now = self._clock.now()
            usable = [each for each in near if policy.usable(each[0], call, key, now=now).ok]
            ruling = await self._decider.decide(key, usable, decision, trace)
        accepted, rule = ruling.verdict.accepted, ruling.verdict.rule
        if accepted is None:
            return Found(reason=rule, ruling=ruling, neighbours=tuple(near))
        entry = self._store.get(accepted.entry_id)
        if entry is None:  # purged while the verifier was asked
            return Found(ruling=ruling, neighbours=tuple(near))
        if decision.policy.mode == "shadow":
            return Found(entry, False, False, "shadow", accepted.similarity, True, ruling, tuple(near))
        stale = policy.usable(entry, call, key, now=self._clock.now()).stale
        return Found(entry, True, stale, rule, accepted.similarity, False, ruling, tuple(near))


class _Books:
    """The counters of lookups, looked up once: finding a labelled counter costs more than counting."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._results: dict[tuple[str, str], Counter] = {}
        self._prompt = metrics.tokens_saved.labels("prompt")
        self._completion = metrics.tokens_saved.labels("completion")

    def count(self, result: str, reason: str) -> None:
        counter = self._results.get((result, reason))
        if counter is None:
            counter = self._results[result, reason] = self._metrics.lookups.labels(result, reason)
        counter.inc()

    def hit(self, entry: Entry, result: str, reason: str) -> None:
        self.count(result, reason)
        if entry.prompt_tokens:
            self._prompt.inc(entry.prompt_tokens)
        if entry.completion_tokens:
            self._completion.inc(entry.completion_tokens)
