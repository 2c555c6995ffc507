"""Conversations played with exact history and with contextual matching, side by side. Neither learns here.

The conversations come from `dialogues`; what is compared, and in which scope, is what a POP would compare.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from edgecache.cache import key as keys
from edgecache.cache import verify
from edgecache.cache.scorer import Scorer
from edgecache.embed.base import Matrix
from edgecache.quality.datasets import Pair
from edgecache.quality.dialogues import KINDS, Conversation, derive
from edgecache.quality.intervals import Share
from edgecache.quality.kit import Kit
from edgecache.quality.signals import Logits
from edgecache.types import CacheKey, Call, Candidate, Endpoint, Tenant

Embed = Callable[[Sequence[str]], Matrix]
"""One vector of length 1 a text."""

Judge = Callable[[str, Sequence[Candidate]], Sequence[float]]
"""The risk of each candidate that its answer is wrong for the text: as `cache.verify.judge` has it."""

_EXAMPLES: Final = 20


class Played(msgspec.Struct, frozen=True):
    """What one mode served: `wrong` is per request, hit or miss; `possible` what an oracle would have served.

    `kinds` holds requests, hits and wrong hits by kind of conversation, `compared` how many last turns were compared
    how, `mistakes` some wrong hits as (compared text, stored text).
    """

    mode: str
    hits: Share
    wrong: Share
    exact: Share
    possible: Share
    kinds: Mapping[str, tuple[int, int, int]]
    compared: Mapping[str, int]
    mistakes: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible."""
        by_kind = {
            kind: {"hits": Share(hits, asked).to_dict(), "wrong": Share(wrong, asked).to_dict()}
            for kind, (asked, hits, wrong) in self.kinds.items()
        }
        shares = {name: getattr(self, name).to_dict() for name in ("hits", "wrong", "exact", "possible")}
        return {
            "mode": self.mode,
            **shares,
            "kinds": by_kind,
            "compared": dict(self.compared),
            "mistakes": [list(pair) for pair in self.mistakes],
        }


def by_similarity(_text: str, candidates: Sequence[Candidate]) -> list[float]:
    """What a cache without a verifier goes by: a `limit` of 0.05 is a threshold of 0.95."""
    return [1.0 - each.similarity for each in candidates]


def by_verifier(texts: Sequence[str], logits: Logits, scorer: Scorer) -> Judge:
    """The risk as a POP has it before any evidence. `logits` go by the numbers of `texts`, which hold all compared."""
    number = {text: i for i, text in enumerate(texts)}

    def judge(text: str, candidates: Sequence[Candidate]) -> list[float]:
        asked = {number[each.text]: each.entry_id for each in verify.doubtful(text, candidates, scorer)}
        said = {asked[stored]: logit for stored, logit in logits.of(number[text], asked).items()}
        risks = {each.candidate.entry_id: each.risk for each in verify.judge(text, candidates, said, scorer)}
        return [risks[each.entry_id] for each in candidates]

    return judge


def texts(conversations: Iterable[Conversation]) -> list[str]:
    """Every text that either mode compares, once."""
    calls = [_call(each) for each in conversations]
    found = (_key(call, contextual).text for call in calls for contextual in (False, True))
    return list(dict.fromkeys(text for text in found if text is not None))


def report(
    kit: Kit,
    pairs: Sequence[Pair],
    *,
    seed: int,
    limit: int = 2000,
    similarities: Sequence[float] = (0.9, 0.95),
    scores: Sequence[float] = (0.95, 0.98, 0.99),
) -> dict[str, Any]:
    """Both modes at some fixed similarities and, with a verifier, at some fixed scores: shares with their intervals.

    `pairs` should be those that no verifier has learned from (`datasets.held_out`).
    """
    conversations = derive(pairs, seed=seed, limit=limit)
    compared = texts(conversations)
    vector = dict(zip(compared, kit.vectors(compared), strict=True))
    judges: list[tuple[str, Judge, float]] = [(f"cosine {least}", by_similarity, 1.0 - least) for least in similarities]
    if kit.scorer is not None:
        logits = kit.logits(compared)
        judge = by_verifier(compared, logits, kit.scorer)
        judges += [(f"score {least}", judge, 1.0 - least) for least in scores]
    rows = [
        {"by": name} | played.to_dict()
        for name, each, risk in judges
        for played in run(
            conversations, embed=lambda some: np.stack([vector[text] for text in some]), judge=each, limit=risk
        )
    ]
    if kit.scorer is not None:
        logits.save()
    return {"conversations": len(conversations), "seed": seed, "kinds": dict(KINDS), "rows": rows}


def run(
    conversations: Sequence[Conversation],
    *,
    embed: Embed,
    judge: Judge,
    limit: float,
    floor: float = 0.6,
    neighbours: int = 8,
) -> list[Played]:
    """Play the conversations with exact history, then with contextual matching.

    A hit by meaning is the candidate of the least risk among the `neighbours` nearest of the scope at `floor` or
    above, if its risk is at most `limit`. A miss is stored. An answer that comes from the cache is the one stored for
    the first turn too, so the same first answer stands in the history of all that ask the same: kind to exact history.
    """
    modes = (("exact history", False), ("contextual", True))
    return [
        _Play(mode, conversations, contextual, embed).run(judge, limit=limit, floor=floor, neighbours=neighbours)
        for mode, contextual in modes
    ]


class _Play:
    """One mode: keys and vectors first, then one request after the other."""

    def __init__(self, mode: str, conversations: Sequence[Conversation], contextual: bool, embed: Embed) -> None:  # noqa: FBT001
        self._mode = mode
        self._conversations = conversations
        calls = [_call(each) for each in conversations]
        self._keys = [_key(call, contextual) for call in calls]
        self._compared = [_compared(call, contextual) for call in calls]
        compared = list(dict.fromkeys(key.text for key in self._keys if key.text is not None))
        self._vector = dict(zip(compared, embed(compared), strict=True))
        self._exact: dict[bytes, int] = {}
        self._scopes: defaultdict[bytes, list[int]] = defaultdict(list)
        self._mistakes: list[tuple[str, str]] = []

    def run(self, judge: Judge, *, limit: float, floor: float, neighbours: int) -> Played:
        kinds: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        answered: set[str] = set()
        exact = possible = 0
        for at, (each, key) in enumerate(zip(self._conversations, self._keys, strict=True)):
            possible += each.answer in answered
            answered.add(each.answer)
            found = self._exact.get(key.digest)
            exact += found is not None
            if found is None:
                found = self._semantic(at, judge, limit=limit, floor=floor, neighbours=neighbours)
            wrong = found is not None and self._conversations[found].answer != each.answer
            if found is None:
                self._exact[key.digest] = at
                self._scopes[key.scope].append(at)
            elif wrong and len(self._mistakes) < _EXAMPLES:
                self._mistakes.append((key.text or "", self._keys[found].text or ""))
            for place, more in enumerate((1, found is not None, wrong)):
                kinds[each.kind][place] += more
        return self._played(kinds, exact, possible)

    def _semantic(self, at: int, judge: Judge, *, limit: float, floor: float, neighbours: int) -> int | None:
        text = self._keys[at].text
        rows = self._scopes.get(self._keys[at].scope)
        if text is None or not rows:
            return None
        near = np.stack([self._vector[self._keys[row].text or ""] for row in rows]) @ self._vector[text]
        best = [int(place) for place in np.argsort(-near, kind="stable")[:neighbours] if near[place] >= floor]
        candidates = [Candidate(rows[place], float(near[place]), self._keys[rows[place]].text or "") for place in best]
        risks = judge(text, candidates) if candidates else ()
        ranked = sorted(zip(risks, candidates, strict=True), key=lambda each: each[0])
        return ranked[0][1].entry_id if ranked and ranked[0][0] <= limit else None

    def _played(self, kinds: Mapping[str, list[int]], exact: int, possible: int) -> Played:
        many = len(self._conversations)
        hits, wrong = (sum(counts[place] for counts in kinds.values()) for place in (1, 2))
        return Played(
            self._mode,
            Share(hits, many),
            Share(wrong, many),
            Share(exact, many),
            Share(possible, many),
            {kind: (kinds[kind][0], kinds[kind][1], kinds[kind][2]) for kind in KINDS if kind in kinds},
            {way: self._compared.count(way) for way in dict.fromkeys(self._compared)},
            tuple(self._mistakes),
        )


def _call(conversation: Conversation) -> Call:
    messages = []
    for turn, answer in zip(conversation.turns, conversation.answers, strict=True):
        messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": f"The answer to {answer}."}]
    return Call("", Tenant("t"), Endpoint.CHAT, "m", {"messages": messages[:-1]}, b"")


def _key(call: Call, contextual: bool) -> CacheKey:  # noqa: FBT001 - the one thing that differs
    return keys.build(call, embedder="", end_user=False, question=keys.question(call), contextual=contextual)


def _compared(call: Call, contextual: bool) -> str:  # noqa: FBT001 - as above
    return str(keys.fields(call, embedder="", end_user=False, contextual=contextual)["history"][0])
