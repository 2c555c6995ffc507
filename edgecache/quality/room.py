"""The questions of a benchmark with everything known of them, and the hit decision's view of any part of them.

A room is shared by all policies and orders: it holds no cache. Which questions are entries at a moment is the player's
to say (`present`). Judgements are remembered, because thousands of plays ask for the same ones.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgecache.cache import features, lexicon, verify
from edgecache.cache.scorer import Scorer
from edgecache.embed.base import Matrix
from edgecache.quality.signals import Logits, Neighbours
from edgecache.types import Candidate, Judgement

Present = NDArray[np.bool_]
"""For each question of the room, whether it is an entry of the cache."""

_REMEMBERED: Final = 200_000
_OWN: Final = features.NAMES.index("numbers")
"""The features from here on come from the words of a pair alone."""


_UNSCORED: Final = 1.0
"""Risk of a candidate that the verifier was not asked about."""


class _Pair(msgspec.Struct, frozen=True):
    """What is known of a candidate whatever else there is: its own features if it is one for the verifier."""

    row: list[float]
    identical: bool


_FAR: Final = _Pair([], identical=False)


class Room:
    """Numbered questions. Those after the first `len(neighbours.ids)` are only ever entries, never asked."""

    def __init__(
        self, texts: Sequence[str], vectors: Matrix, neighbours: Neighbours, logits: Logits, scorer: Scorer | None
    ) -> None:
        self.texts = texts
        self.vectors = vectors
        self.neighbours = neighbours
        self.logits = logits
        self.scorer = scorer
        self._letters: dict[int, str] = {}
        self._pairs: dict[tuple[int, int], _Pair] = {}
        self._judged: dict[tuple[int, ...], tuple[Judgement, ...]] = {}

    def near(self, question: int, present: Present, many: int, least: float) -> list[Candidate]:
        """The `many` nearest entries of at least that similarity, nearest first, the question's own left out."""
        ids, similarities = self.neighbours.ids[question], self.neighbours.similarities[question]
        here = np.flatnonzero(present[ids])[:many]
        complete = len(here) == many or len(ids) >= len(self.texts) - 1 or similarities[-1] < least
        if complete:
            found, scores = ids[here], similarities[here]
        else:
            found, scores = self._searched(question, present, many)
        return [
            Candidate(entry, score, self.texts[entry])
            for entry, score in zip(found.tolist(), scores.tolist(), strict=True)
            if score >= least
        ]

    def _searched(self, question: int, present: Present, many: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The list of neighbours is too short for so empty a cache: compare with every entry."""
        entries = np.flatnonzero(present)
        entries = entries[entries != question]
        scores = self.vectors[entries] @ self.vectors[question]
        order = np.argsort(-scores, kind="stable")[:many]
        return entries[order], scores[order]

    def judgements(self, question: int, candidates: Sequence[Candidate], *, scored: bool) -> tuple[Judgement, ...]:
        """What `cache.verify` holds of each; without `scored`, as a cosine policy has it, nothing but their cosine."""
        if not scored:
            return tuple(Judgement(each, 1.0) for each in candidates)
        key = (question, *(each.entry_id for each in candidates))
        known = self._judged.get(key)
        if known is None:
            known = self._judge(question, candidates)
            if len(self._judged) >= _REMEMBERED:
                self._judged.clear()
            self._judged[key] = known
        return known

    def _judge(self, question: int, candidates: Sequence[Candidate]) -> tuple[Judgement, ...]:
        """`verify.judge`, with what depends on a pair alone made once: the same pair is a candidate in every order."""
        if not candidates or self.scorer is None:
            return verify.judge(self.texts[question], candidates, {}, None)
        pairs = [self._pair(question, each) for each in candidates]
        doubtful = [n for n, pair in enumerate(pairs) if pair.row][: verify.MOST]
        logits = self.logits.of(question, (candidates[n].entry_id for n in doubtful))
        scored = [n for n in doubtful if candidates[n].entry_id in logits]
        risks = [self.scorer.identical if pair.identical else _UNSCORED for pair in pairs]
        if scored:
            rows = [
                [*features.models(candidates[n].similarity, logits[candidates[n].entry_id]), *pairs[n].row]
                for n in scored
            ]
            for n, risk in zip(scored, self.scorer.risks(np.array(rows, np.float32)), strict=True):
                risks[n] = risk
        judged = [
            Judgement(each, risk, logits.get(each.entry_id), pair.identical)
            for each, risk, pair in zip(candidates, risks, pairs, strict=True)
        ]
        return tuple(sorted(judged, key=lambda each: (each.risk, -each.candidate.similarity)))

    def _pair(self, question: int, candidate: Candidate) -> _Pair:
        assert self.scorer is not None  # noqa: S101 - `_judge` is the only caller
        if candidate.similarity < self.scorer.clear and self._spelt(question) != self._spelt(candidate.entry_id):
            return _FAR
        key = (question, candidate.entry_id)
        known = self._pairs.get(key)
        if known is None:
            text = self.texts[question]
            near = Candidate(candidate.entry_id, 1.0, candidate.text)
            identical = not verify.doubtful(text, [near], self.scorer)
            row: list[float] = []
            if verify.doubtful(text, [candidate], self.scorer):
                row = features.compare(text, [candidate], {})[0][0, _OWN:].tolist()
            known = self._pairs[key] = _Pair(row, identical)
        return known

    def _spelt(self, number: int) -> str:
        """Letters and digits alone: texts that differ in these are not in the same words."""
        known = self._letters.get(number)
        if known is None:
            plain = self.texts[number].translate(lexicon.PLAIN).casefold()
            known = self._letters[number] = "".join(filter(str.isalnum, plain))
        return known

    def foresee(self, questions: Sequence[int], present: Present, many: int, least: float) -> None:
        """Have the verifier score in one go what the next `questions` are likely to need."""
        if self.scorer is None:
            return
        likely = present.copy()
        likely[list(questions)] = True
        pairs = []
        for question in questions:
            if not present[question]:
                candidates = self.near(question, likely, many, least)
                asked = verify.doubtful(self.texts[question], candidates, self.scorer)
                pairs += [(question, each.entry_id) for each in asked]
        self.logits.want(pairs)

    def foresee_all(self) -> None:
        """Have the verifier score every pair of neighbours: then no order of the questions needs it again."""
        if self.scorer is None:
            return
        pairs = []
        for question in range(len(self.neighbours.ids)):
            ids, similarities = self.neighbours.ids[question], self.neighbours.similarities[question]
            candidates = [
                Candidate(entry, score, self.texts[entry])
                for entry, score in zip(ids.tolist(), similarities.tolist(), strict=True)
                if score >= self.scorer.clear
            ]
            # One by one: which three are nearest depends on which of them are entries at the time.
            asked = (each for each in candidates if verify.doubtful(self.texts[question], [each], self.scorer))
            pairs += [(question, each.entry_id) for each in asked]
        self.logits.want(pairs)
