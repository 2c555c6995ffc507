"""The hit decision with all that it asks of others: verifier, evidence, chance. The rules are `cache.verify`'s.

Nothing here fails a lookup: a verifier that is late, full or gone leaves candidates without a score, and those are not
served.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgecache.cache import verify
from edgecache.cache.policy import Decision
from edgecache.cache.scorer import Scorer
from edgecache.errors import TextTooLong
from edgecache.pipeline.guard import CacheSide
from edgecache.pipeline.learner import Learner
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheKey, Candidate, Entry, Judgement, Verdict

if TYPE_CHECKING:
    from edgecache.embed.verifier import Verifier  # torch, which a POP without a verifier does without

_BY_SIMILARITY = frozenset({"similarity", "verified"})
"""Policies that look at the nearest candidate, others at the one with the least risk."""

_DOUBTED = 0.5
"""Risk from which a pair is not served although it was called good: one client's word is not worth more than that."""


class Ruling(msgspec.Struct, frozen=True):
    """A verdict, the candidate it hung on (None without one), and by entry id why evidence ruled others out."""

    verdict: Verdict
    best: Judgement | None = None
    refused: Mapping[int, str] = {}

    @property
    def score(self) -> float | None:
        """The probability that the answer is right; None where nobody scored it (a fixed cosine)."""
        return 1.0 - self.verdict.risk if self.verdict.risk < 1.0 else None


class Decider:
    """Decides which candidate's answer is served. Without a verifier only equal wording has a chance."""

    def __init__(
        self,
        learner: Learner,
        cache_side: CacheSide,
        *,
        verifier: "Verifier | None",
        scorer: Scorer | None,
        rng: random.Random,
    ) -> None:
        self._learner = learner
        self._cache_side = cache_side
        self._verifier = verifier
        self._scorer = scorer
        self._random = rng

    async def decide(
        self, key: CacheKey, candidates: Sequence[tuple[Entry, float]], decision: Decision, trace: Trace
    ) -> Ruling:
        """The ruling on `candidates`, entries of the key's scope with their similarity."""
        question = key.text or ""
        entries = {entry.id: entry for entry, _ in candidates}
        seen = [Candidate(entry.id, similarity, entry.text or "") for entry, similarity in candidates]
        logits = await self._logits(question, seen, decision, trace)
        judgements = verify.judge(question, seen, logits, self._scorer)
        refused = {number: why for number, entry in entries.items() if (why := self._learner.refused(entry, key))}
        open_ = [each for each in judgements if each.candidate.entry_id not in refused]
        confirmed = self._confirmed(key, open_, entries, decision)
        verdict = confirmed or verify.decide(
            open_,
            decision.policy,
            self._learner.segment(key),
            self._learner.tracks(entries[each.candidate.entry_id] for each in open_),
            floor=decision.floor,
            chance=self._random.random(),
        )
        if verdict.accepted is None and judgements and (why := refused.get(judgements[0].candidate.entry_id)):
            verdict = msgspec.structs.replace(verdict, rule=why, reason="evidence speaks against the best candidate")
        return Ruling(msgspec.structs.replace(verdict, judgements=judgements), _best(open_, decision), refused)

    async def _logits(
        self, question: str, seen: Sequence[Candidate], decision: Decision, trace: Trace
    ) -> Mapping[int, float]:
        """What the pair verifier says of the candidates it must see, by entry id; empty if it did not say in time."""
        if self._verifier is None or decision.policy.policy == "similarity":
            return {}
        doubtful = list(verify.doubtful(question, seen, self._scorer))
        with trace.stage("score"), self._cache_side.step("score"):
            while doubtful:
                try:
                    said = await self._verifier.logits(question, [each.text for each in doubtful])
                    return {each.entry_id: logit for each, logit in zip(doubtful, said, strict=True)}
                except TextTooLong:  # one pair is: the others can still be scored
                    doubtful.remove(max(doubtful, key=lambda each: len(each.text)))
        return {}

    def _confirmed(
        self, key: CacheKey, judgements: Sequence[Judgement], entries: Mapping[int, Entry], decision: Decision
    ) -> Verdict | None:
        for each in judgements:
            candidate = each.candidate
            if each.logit is not None and each.risk > _DOUBTED:
                continue
            if candidate.similarity >= decision.floor and self._learner.confirmed(entries[candidate.entry_id], key):
                return Verdict(candidate, "confirmed", "this very pair was found right", risk=each.risk, limit=1.0)
        return None


def _best(judgements: Sequence[Judgement], decision: Decision) -> Judgement | None:
    """The candidate that the policy looked at: the only one whose answer could have been served."""
    able = [each for each in judgements if each.candidate.similarity >= decision.floor]
    if decision.policy.policy in _BY_SIMILARITY:
        return max(able, key=lambda each: each.candidate.similarity, default=None)
    return able[0] if able else None
