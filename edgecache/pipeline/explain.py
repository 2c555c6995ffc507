"""Why a request would hit or miss, without serving it: what `edgecache cache explain` prints."""

from typing import Any

import msgspec

from edgecache.cache import budget, guards, policy
from edgecache.cache.policy import Decision
from edgecache.clock import Clock
from edgecache.config import Cache, HitPolicy
from edgecache.embed.base import Vector
from edgecache.errors import EmbedError, StoreError
from edgecache.pipeline.learner import Learner
from edgecache.pipeline.lookup import Found, Lookup
from edgecache.pipeline.plan import Planner
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheKey, Call


class Explainer:
    """Runs key, policy, lookups and hit decision of a request and reports each one's word."""

    def __init__(self, planner: Planner, lookup: Lookup, learner: Learner, *, clock: Clock) -> None:
        self._clock = clock
        self._learner = learner
        self._planner = planner
        self._lookup = lookup

    async def vector(self, call: Call, settings: Cache) -> Vector | None:
        """The embedding that the broker would be given; None where there is no text to embed, or no embedder."""
        decision = self._planner.plan(call, settings).decision
        text = self._planner.key(call, decision).text
        if text is None or not settings.semantic.enabled:
            return None
        try:
            return await self._lookup.embed(text)
        except EmbedError:
            return None

    async def explain(self, call: Call, settings: Cache, trace: Trace) -> dict[str, Any]:
        """Scope fields, digest, the candidates and what is held of each, the verdict and its rule."""
        decision = self._planner.plan(call, settings).decision
        key = self._planner.key(call, decision)
        report: dict[str, Any] = {
            "scope_fields": self._planner.fields(call, decision),
            "scope": key.scope.hex(),
            "digest": key.digest.hex(),
            "question": key.text,
            "policy": {
                "bypass": decision.bypass,
                "exact_only": decision.exact_only,
                "exact": decision.exact,
                "semantic": decision.semantic,
                "store": decision.store,
                "ttl": decision.ttl,
                "floor": decision.floor,
            },
            "hits": _policy(decision.policy),
        }
        if decision.bypass is not None:
            return report | {"verdict": "BYPASS", "rule": decision.bypass}
        exact = self._lookup.exact(call, key)
        report["exact"] = _entry(exact)
        if decision.refresh:
            return report | {"verdict": "REFRESH", "rule": "refresh"}
        if exact.ok:
            return report | {"verdict": "STALE" if exact.stale else "HIT", "rule": "exact"}
        if self._renewable(call, key, decision, settings, exact):
            return report | {"verdict": "STALE", "rule": "stale-while-revalidate"}
        return report | await self._semantic(call, key, decision, settings, trace)

    def _renewable(self, call: Call, key: CacheKey, decision: Decision, settings: Cache, exact: Found) -> bool:
        """Whether the expired entry would be served while a new one is fetched, as `pipeline.fallback` does."""
        grace = settings.stale_while_revalidate
        if exact.entry is None or not decision.store or grace <= 0:
            return False
        return policy.stale_on_error(exact.entry, call, key, now=self._clock.now(), grace=grace)

    async def _semantic(
        self, call: Call, key: CacheKey, decision: Decision, settings: Cache, trace: Trace
    ) -> dict[str, Any]:
        if key.text is None:
            return {"verdict": "MISS", "rule": decision.exact_only or "exact-only"}
        try:
            vector = await self._lookup.embed(key.text)
            found = await self._lookup.semantic(call, key, vector, decision, settings, trace, hopeless=True)
        except (EmbedError, StoreError) as error:
            return {"verdict": "MISS", "rule": type(error).__name__, "reason": error.message}
        report: dict[str, Any] = {
            "candidates": [
                self._candidate(key.text, entry.id, similarity, found) for entry, similarity in found.neighbours
            ],
            "questions": [
                {"entry": entry.id, "question": entry.text, "expires": entry.expires} for entry, _ in found.neighbours
            ],
            "segment": msgspec.to_builtins(budget.estimate(self._learner.segment(key))),
            "verdict": "SEMANTIC_HIT" if found.ok else "MISS",
            "rule": found.reason,
        }
        if found.ruling is not None:
            verdict = found.ruling.verdict
            report |= {"reason": verdict.reason, "risk": round(verdict.risk, 6), "limit": round(verdict.limit, 6)}
        return report

    def _candidate(self, question: str, number: int, similarity: float, found: Found) -> dict[str, Any]:
        """What is held of one neighbour: nothing where policy kept it out (expired, other token limit)."""
        report: dict[str, Any] = {"entry": number, "similarity": round(similarity, 4)}
        if found.ruling is None:
            return report | {"refused": "unusable"}
        judged = (each for each in found.ruling.verdict.judgements if each.candidate.entry_id == number)
        if (held := next(judged, None)) is None:
            return report | {"refused": "unusable"}
        words = held.words or guards.words(guards.read(question), guards.read(held.candidate.text))
        return report | {
            "logit": None if held.logit is None else round(held.logit, 3),
            "risk": round(held.risk, 6),
            "identical": held.identical,
            "refused": found.ruling.refused.get(number),
            "apart": {word.guard: word.detail for word in words if not word.passed},
        }


def _policy(hits: HitPolicy) -> dict[str, Any]:
    """The settings that the decision went by: the policy, its one number, the mode."""
    number = "delta" if hits.policy == "verified" else hits.policy
    return {"policy": hits.policy, number: getattr(hits, number), "mode": hits.mode, "contextual": hits.contextual}


def _entry(found: Found) -> dict[str, Any]:
    if found.entry is None:
        return {"found": False}
    return {"found": True, "entry": found.entry.id, "usable": found.ok, "stale": found.stale, "reason": found.reason}
