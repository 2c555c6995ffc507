"""A stream played through the real hit decision: requests in order, misses add entries, labels as production has them.

Right and wrong are told by `set`: a hit is right if the entry was stored for the set that is asked for. The policy
itself sees such a label only where a POP would: when a miss brings an answer that can be compared with its best
candidate's, and for a sampled share of hits. No I/O, no clock; randomness is passed in.
"""

import random
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgecache import config
from edgecache.cache import budget, verify
from edgecache.cache.evidence import Estimate, Label, Segment, Track
from edgecache.quality.datasets import Stream
from edgecache.quality.intervals import Share
from edgecache.quality.room import Room
from edgecache.types import Candidate, Judgement, Verdict

WINDOW: Final = 512
"""Requests that the verifier is asked about in one go."""
_HOPELESS: Final = 0.1
"""Candidates this far below the floor are not looked at, as in `pipeline.lookup`."""
_NEAR: Final = 0.9
"""Prior risk below which the answer to a miss is compared with that of its best candidate."""


class Tier(IntEnum):
    """Where an answer came from."""

    MISS = 0
    EXACT = 1
    IDENTICAL = 2
    SEMANTIC = 3


class Rules(msgspec.Struct, frozen=True):
    """What is played. `flow` is the cache around the policy.

    `edgecache`: the exact tier first, every miss is stored. `exact`: nothing but that. `vcache`: as in its paper, no
    exact tier, the nearest entry alone is asked, and a miss is stored only if its answer differs from that one's.
    """

    name: str
    policy: config.HitPolicy = config.HitPolicy()
    flow: Literal["edgecache", "exact", "vcache"] = "edgecache"
    sample: float = config.Learning().sample
    misses: bool = True
    neighbours: int = config.Semantic().neighbours

    @property
    def scored(self) -> bool:
        """Whether the policy goes by risks, which need the verifier."""
        return self.flow == "edgecache" and self.policy.policy in {"budget", "threshold"}


class Played(msgspec.Struct):
    """What came of a play. `tiers`, `wrong` and `served` have one value or row a request, in order of asking."""

    name: str
    tiers: NDArray[np.int8]
    wrong: NDArray[np.bool_]
    served: NDArray[np.int32]
    """The question asked and the entry that answered it, one row a request; -1 where none did."""
    entries: int
    labels: int
    explored: int
    segment: Segment

    @property
    def requests(self) -> int:
        """Requests served, hit or miss."""
        return len(self.tiers)

    @property
    def hits(self) -> Share:
        """Hits of every tier, of all requests."""
        return Share(int((self.tiers != Tier.MISS).sum()), self.requests)

    @property
    def wrong_hits(self) -> Share:
        """The wrong-hit rate: wrong answers per request served."""
        return Share(int(self.wrong.sum()), self.requests)

    def tier(self, tier: Tier) -> tuple[Share, int]:
        """Hits of one tier of all requests, and how many of them were wrong."""
        here = self.tiers == tier
        return Share(int(here.sum()), self.requests), int((here & self.wrong).sum())

    @property
    def estimate(self) -> Estimate:
        """What the POP itself would have estimated from its samples."""
        return budget.estimate(self.segment)

    def course(self, marks: int = 20) -> list[dict[str, float]]:
        """Hit rate and wrong-hit rate up to each of `marks` moments."""
        ends = [round(self.requests * (i + 1) / marks) for i in range(marks)]
        return [
            {
                "requests": end,
                "hit_rate": round(float((self.tiers[:end] != Tier.MISS).mean()), 6),
                "wrong_rate": round(float(self.wrong[:end].mean()), 6),
            }
            for end in ends
            if end
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible."""
        tiers = {tier.name.lower(): self.tier(tier) for tier in Tier if tier is not Tier.MISS}
        hits = self.hits.count
        return {
            "name": self.name,
            "requests": self.requests,
            "hits": self.hits.to_dict(),
            "wrong": self.wrong_hits.to_dict(),
            "wrong of hits": Share(self.wrong_hits.count, hits).to_dict(),
            "tiers": {name: {"hits": share.to_dict(), "wrong": wrong} for name, (share, wrong) in tiers.items()},
            "entries": self.entries,
            "labels": self.labels,
            "explored": self.explored,
            "estimate": msgspec.to_builtins(self.estimate),
        }


class Filled(msgspec.Struct, frozen=True):
    """Entries that are there before the first request: numbers in the room, and what each answers."""

    ids: tuple[int, ...] = ()
    sets: tuple[str, ...] = ()


def play(
    room: Room,
    stream: Stream,
    rules: Rules,
    *,
    seed: int,
    order: Sequence[int] | None = None,
    filled: Filled | None = None,
) -> Played:
    """Play `stream`, whose questions are the first of `room`, in `order` (of arrival if None)."""
    game = _Game(room, rules, random.Random(seed), filled or Filled())  # noqa: S311 - a sample, not a secret
    positions = range(len(stream.asked)) if order is None else order
    asked = [stream.asked[i] for i in positions]
    tiers = np.zeros(len(asked), np.int8)
    wrong = np.zeros(len(asked), np.bool_)
    served = np.full((len(asked), 2), -1, np.int32)
    for n, i in enumerate(positions):
        if rules.scored and n % WINDOW == 0:
            game.foresee(asked[n : n + WINDOW])
        tier, right = game.ask(stream.asked[i], stream.sets[i])
        tiers[n], wrong[n] = tier, not right
        served[n] = asked[n], game.answered_by if tier else -1
    return Played(rules.name, tiers, wrong, served, len(game.sets), game.segment.labels, game.explored, game.segment)


class _Game:
    """A cache, its evidence and what is asked of it."""

    def __init__(self, room: Room, rules: Rules, chance: random.Random, filled: Filled) -> None:
        self._room = room
        self._rules = rules
        self._chance = chance
        self._floor = rules.policy.floor
        self._present = np.zeros(len(room.texts), np.bool_)
        self.sets: dict[int, str] = {}
        """What each entry answers."""
        self.segment = Segment()
        self._tracks: dict[int, Track] = {}
        self._words: dict[tuple[int, int], bool] = {}
        """Pairs (entry, question) that were found right or wrong."""
        self.explored = 0
        self.answered_by = -1
        """The entry of the last hit."""
        for entry, name in zip(filled.ids, filled.sets, strict=True):
            self._store(entry, name)

    def foresee(self, questions: Sequence[int]) -> None:
        self._room.foresee(questions, self._present, self._rules.neighbours, self._floor - _HOPELESS)

    def ask(self, question: int, name: str) -> tuple[Tier, bool]:
        """One request: where its answer came from, and whether it was right."""
        if self._rules.flow == "vcache":
            return self._explore_or_exploit(question, name)
        stored = self.sets.get(question)
        if stored is not None:
            budget.requested(self.segment, None)
            self.answered_by = question
            return Tier.EXACT, stored == name
        if self._rules.flow == "exact":
            self._store(question, name)
            return Tier.MISS, True
        return self._by_meaning(question, name)

    def _by_meaning(self, question: int, name: str) -> tuple[Tier, bool]:
        """As `pipeline.lookup` and `pipeline.decider` do it."""
        candidates = self._room.near(question, self._present, self._rules.neighbours, self._floor - _HOPELESS)
        judged = self._room.judgements(question, candidates, scored=self._rules.scored)
        if self._words:  # pairs that were found wrong are left out
            judged = tuple(each for each in judged if self._words.get((each.candidate.entry_id, question), True))
        best = self._best(judged)
        budget.requested(self.segment, None if best is None else best.risk)
        verdict = self._confirmed(question, judged) or self._decided(judged)
        if verdict.accepted is None:
            self._compare(question, best, name)
            self._store(question, name)
            return Tier.MISS, True
        entry = self.answered_by = verdict.accepted.entry_id
        right = self.sets[entry] == name
        budget.served(self.segment, verdict.risk)
        if self._chance.random() < self._rules.sample:
            self._learn(question, next(each for each in judged if each.candidate.entry_id == entry), right, hit=True)
        return Tier.IDENTICAL if verdict.rule == "identical" else Tier.SEMANTIC, right

    def _best(self, judged: Sequence[Judgement]) -> Judgement | None:
        """The candidate that the policy looks at."""
        able = [each for each in judged if each.candidate.similarity >= self._floor]
        if self._rules.scored:
            return able[0] if able else None
        return max(able, key=lambda each: each.candidate.similarity, default=None)

    def _confirmed(self, question: int, judged: Sequence[Judgement]) -> Verdict | None:
        for each in judged if self._words else ():
            near = each.candidate.similarity >= self._floor
            if near and self._words.get((each.candidate.entry_id, question)):
                return Verdict(each.candidate, "confirmed", "found right before", (), each.risk, 1.0)
        return None

    def _decided(self, judged: Sequence[Judgement]) -> Verdict:
        chance = self._chance.random() if self._rules.policy.policy == "verified" else 0.0
        policy = self._rules.policy
        return verify.decide(judged, policy, self.segment, self._tracks, floor=self._floor, chance=chance)

    def _compare(self, question: int, best: Judgement | None, name: str) -> None:
        """The answer to a miss is there: what does it say of the best candidate's?"""
        if best is not None and self._rules.misses and (best.risk < _NEAR or self._rules.policy.policy == "verified"):
            self.explored += 1
            self._learn(question, best, self.sets[best.candidate.entry_id] == name, hit=False)

    def _learn(self, question: int, judged: Judgement, right: bool, *, hit: bool) -> None:  # noqa: FBT001 - what is learned
        entry = judged.candidate.entry_id
        self._words[entry, question] = right
        track = self._tracks.setdefault(entry, Track())
        budget.learn(self.segment, track, Label(judged.candidate.similarity, judged.risk, right=right, hit=hit))

    def _store(self, question: int, name: str) -> None:
        self.sets[question] = name
        self._present[question] = True

    def _explore_or_exploit(self, question: int, name: str) -> tuple[Tier, bool]:
        """As vCache does (arXiv 2502.03771): the nearest entry serves, or is compared with a fresh answer."""
        if question in self.sets:
            candidates = [Candidate(question, 1.0, self._room.texts[question])]
        else:
            candidates = self._room.near(question, self._present, 1, -1.0)
        if not candidates:
            self._store(question, name)
            return Tier.MISS, True
        judged = [Judgement(candidates[0], 1.0)]
        verdict = verify.decide(
            judged, self._rules.policy, self.segment, self._tracks, floor=-1.0, chance=self._chance.random()
        )
        right = self.sets[candidates[0].entry_id] == name
        if verdict.accepted is not None:
            self.answered_by = verdict.accepted.entry_id
            return Tier.SEMANTIC, right
        self.explored += 1
        self._learn(question, judged[0], right, hit=False)
        if not right:
            self._store(question, name)
        return Tier.MISS, True
