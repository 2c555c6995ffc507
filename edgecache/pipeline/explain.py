"""Why a request would hit or miss, without serving it: what `edgecache cache explain` prints."""

from typing import Any

from edgecache.cache import policy
from edgecache.cache.policy import Decision
from edgecache.clock import Clock
from edgecache.config import Cache
from edgecache.errors import EmbedError, StoreError
from edgecache.pipeline.lookup import Found, Lookup
from edgecache.pipeline.plan import Planner
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheKey, Call, Verdict


class Explainer:
    """Runs key, policy, lookups and hit decision of a request and reports each one's word."""

    def __init__(self, planner: Planner, lookup: Lookup, *, clock: Clock) -> None:
        self._clock = clock
        self._planner = planner
        self._lookup = lookup

    async def explain(self, call: Call, settings: Cache, trace: Trace) -> dict[str, Any]:
        """Scope fields, digest, nearest entries with similarity, each guard's word, the verdict and its rule."""
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
                "threshold": decision.threshold,
            },
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
            "neighbours": [
                {"entry": entry.id, "similarity": round(score, 4), "question": entry.text, "expires": entry.expires}
                for entry, score in found.neighbours
            ],
            "guards": _words(found.verdict),
            "verdict": "SEMANTIC_HIT" if found.ok else "MISS",
            "rule": found.reason,
        }
        if found.verdict is not None:
            report["reason"] = found.verdict.reason
        return report


def _entry(found: Found) -> dict[str, Any]:
    if found.entry is None:
        return {"found": False}
    return {"found": True, "entry": found.entry.id, "usable": found.ok, "stale": found.stale, "reason": found.reason}


def _words(verdict: Verdict | None) -> list[dict[str, Any]]:
    if verdict is None:
        return []
    return [
        {
            "entry": candidate.entry_id,
            "similarity": round(candidate.similarity, 4),
            "guards": [{"guard": word.guard, "passed": word.passed, "detail": word.detail} for word in words],
        }
        for candidate, words in verdict.words
    ]
