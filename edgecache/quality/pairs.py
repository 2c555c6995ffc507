"""Labelled pairs as the hit decision sees them: how well each signal ranks them, and which of them would be served.

The stored question is `a`, the one asked is `b`, alone in its scope. Not for streams: there candidates compete and
evidence grows, see `quality.stream`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgecache.cache import verify
from edgecache.cache.evidence import Segment
from edgecache.cache.scorer import Scorer
from edgecache.config import HitPolicy
from edgecache.embed.base import Matrix
from edgecache.quality import ranking
from edgecache.quality.datasets import CHECKLIST, QQP, Pair
from edgecache.quality.intervals import Share
from edgecache.quality.signals import Logits, Progress, silent
from edgecache.types import Candidate, Judgement

SIGNALS: Final = ("cosine", "verifier", "score")
COSINES: Final = (0.9, 0.95, 0.97)
TRAINED_ON: Final = "part of it was in the training material: says what was learned, not what is to be expected"


class Judged(msgspec.Struct):
    """Pairs and what each signal says of them: cosine, the verifier's logit, and 1 - the calibrated risk."""

    pairs: Sequence[Pair]
    same: NDArray[np.bool_]
    signals: Mapping[str, NDArray[np.float64]]
    judgements: Sequence[Judgement]
    """As a lookup would have them: far pairs are not shown to the verifier."""

    def part(self, chosen: NDArray[np.bool_]) -> "Judged":
        """Those of the pairs that are `chosen`."""
        at = np.flatnonzero(chosen).tolist()
        return Judged(
            [self.pairs[i] for i in at],
            self.same[at],
            {name: values[at] for name, values in self.signals.items()},
            [self.judgements[i] for i in at],
        )

    def of(self, prefix: str) -> "Judged":
        """Those of the sets whose name begins with `prefix`."""
        return self.part(np.array([pair.family.startswith(prefix) for pair in self.pairs], np.bool_))


def texts(pairs: Sequence[Pair]) -> list[str]:
    """Every text once."""
    return list(dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b)))


def judge(
    pairs: Sequence[Pair],
    numbered: Sequence[str],
    vectors: Matrix,
    logits: Logits,
    scorer: Scorer | None,
    progress: Progress = silent,
) -> Judged:
    """Ask every signal about every pair. `vectors` and `logits` go by the numbers of `numbered`."""
    number = {text: i for i, text in enumerate(numbered)}
    places = [(number[pair.a], number[pair.b]) for pair in pairs]
    cosine = np.array([float(vectors[a] @ vectors[b]) for a, b in places])
    if scorer is not None:
        logits.want(places)
    verifier, score = np.full(len(pairs), -np.inf), np.zeros(len(pairs))
    judgements = []
    for i, (pair, (a, b)) in enumerate(zip(pairs, places, strict=True)):
        candidate = Candidate(a, float(cosine[i]), pair.a)
        said = logits.of(b, [a]) if scorer is not None else {}
        verifier[i] = said.get(a, -np.inf)
        (full,) = verify.judge(pair.b, [candidate], said, scorer)
        score[i] = 1.0 - full.risk
        asked = verify.doubtful(pair.b, [candidate], scorer)
        judgements.append(full if asked or not said else verify.judge(pair.b, [candidate], {}, scorer)[0])
        if i % 1000 == 0:
            progress("pairs", i, len(pairs))
    same = np.array([pair.same for pair in pairs], np.bool_)
    signals = {"cosine": cosine} | ({"verifier": verifier, "score": score} if scorer is not None else {})
    return Judged(pairs, same, signals, judgements)


def report(judged: Judged, segments: Mapping[str, Segment], policy: HitPolicy) -> dict[str, Any]:
    """Ranking by set, and what would be served of each set and template, under the evidence of each segment."""
    families = {
        "qqp": judged.of(QQP),
        "mrpc": judged.of("mrpc"),
        "sick": judged.of("sick"),
        "checklist": judged.of(CHECKLIST),
    }
    notes = {
        "mrpc": TRAINED_ON,
        "sick": TRAINED_ON,
        "qqp": "held out by question cluster",
        "checklist": "held out whole",
    }
    return {
        "sets": {
            name: {
                "pairs": len(part.pairs),
                "same": int(part.same.sum()),
                "note": notes[name],
                "signals": {
                    signal: ranking.summary(values, part.same) | ranking.curves(values, part.same)
                    for signal, values in part.signals.items()
                },
                "served": _served_by_label(part, segments, policy),
            }
            for name, part in families.items()
            if len(part.pairs)
        },
        "templates": [_template(judged, family, segments, policy) for family in _templates(judged)],
    }


def _templates(judged: Judged) -> list[str]:
    return sorted({pair.family for pair in judged.pairs if pair.family.startswith(CHECKLIST)})


def _template(judged: Judged, family: str, segments: Mapping[str, Segment], policy: HitPolicy) -> dict[str, Any]:
    """One template holds pairs of one label only, so its look-alikes are ranked against real duplicates (qqp's)."""
    mine = np.array([pair.family == family for pair in judged.pairs], np.bool_)
    part = judged.part(mine)
    must_match = bool(part.same.all())
    real = np.array([pair.family == QQP for pair in judged.pairs], np.bool_) & judged.same
    both = judged.part(mine | real)
    return {
        "template": family.removeprefix(CHECKLIST),
        "must match": must_match,
        "pairs": len(part.pairs),
        "auc against real duplicates": None
        if must_match
        else {signal: round(ranking.auc(values, both.same), 4) for signal, values in both.signals.items()},
        "served": {name: share.to_dict() for name, share in served(part, segments, policy).items()},
    }


def _served_by_label(part: Judged, segments: Mapping[str, Segment], policy: HitPolicy) -> dict[str, Any]:
    return {
        label: {name: share.to_dict() for name, share in served(part.part(part.same == same), segments, policy).items()}
        for label, same in (("must match", True), ("must not match", False))
    }


def served(part: Judged, segments: Mapping[str, Segment], policy: HitPolicy) -> dict[str, Share]:
    """The share of the pairs that each fixed cosine would serve, and `policy` with the evidence of each segment."""
    total = len(part.pairs)
    found = {f"cosine {least:.2f}": Share(int((part.signals["cosine"] >= least).sum()), total) for least in COSINES}
    for name, segment in segments.items():
        hits = sum(
            verify.decide([each], policy, segment, {}, floor=policy.floor, chance=1.0).accepted is not None
            for each in part.judgements
        )
        found[f"{policy.policy}, {name}"] = Share(hits, total)
    return found
