"""What a POP knows about its semantic hits: by segment of the traffic, and by entry. Values and arithmetic, no I/O.

A segment is all traffic of one tenant, namespace and model. Its evidence begins as the pooled prior that the verifier
was calibrated with and moves from there as answers are compared (`pipeline.shadow`) and feedback comes in. An entry's
own record moves its own risk, shrunk towards the segment's, so that it can be served on its first repeat and is not
served again after a bad one.
"""

import math
from typing import Final

import msgspec

BINS: Final = 48
"""Cells of risk, evenly spaced in log-odds from `LOW` to `HIGH`."""
LOW: Final = -9.0
HIGH: Final = 3.0


class Segment(msgspec.Struct):
    """The evidence of one segment. Mutable: one object a segment lives in memory and is stored now and then.

    `requests` counts every request that was looked up (exact hits, semantic hits and misses alike); `looked` is the
    same count fading, `near[i]` those among them whose best candidate had a prior risk in cell i. `offset` and `slope`
    move the prior's log-odds of a wrong answer to what was seen (Platt scaling under a Gaussian prior); `information`
    is what labels have added to the precision of the two (the entries a, ab, b of the matrix). `hits` counts semantic
    hits, `scored` those with a known risk and `expected` the sum of these risks; `right` and `wrong` count the hits
    that were checked by chance, `promised` and `broken` are, of these, the sum of risks and the number of wrong ones,
    fading. `alarm` is a CUSUM of the evidence that risks are three times what is predicted; `drifted` says that it has
    sounded.
    """

    requests: int = 0
    looked: float = 0.0
    near: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)
    offset: float = 0.0
    slope: float = 1.0
    information: tuple[float, float, float] = (0.0, 0.0, 0.0)
    labels: int = 0
    hits: int = 0
    scored: int = 0
    expected: float = 0.0
    right: int = 0
    wrong: int = 0
    promised: float = 0.0
    broken: float = 0.0
    alarm: float = 0.0
    drifted: bool = False


class Track(msgspec.Struct):
    """The record of one entry: answers of it that were compared or marked, and how that differs from what was expected.

    `surprise` is the sum of (wrong - risk), `weight` of risk x (1 - risk); `seen` are the last comparisons as
    (similarity, right), which is what the vCache policy works on.
    """

    right: int = 0
    wrong: int = 0
    surprise: float = 0.0
    weight: float = 0.0
    seen: list[tuple[float, bool]] = msgspec.field(default_factory=list)


class Label(msgspec.Struct, frozen=True):
    """One thing learned: the stored answer of a candidate was right, or wrong, for a question.

    `risk` is the prior risk of that pair (`Judgement.risk`), 1.0 where nobody scored it. `hit` says that it was served
    (else it was only a candidate). `sampled` says that chance alone chose it to be checked: only such labels count in
    the estimate of the wrong-hit rate; feedback, which comes of people's own accord, moves the policy alone.
    """

    similarity: float
    risk: float
    right: bool
    hit: bool
    sampled: bool = True


class Estimate(msgspec.Struct, frozen=True):
    """The wrong-hit rate: wrong answers per request served (hit or miss), with its 95 % interval.

    `hits` are semantic ones; `checked` of them were compared with an answer from upstream, `wrong` were not the same.
    """

    requests: int
    hits: int
    checked: int
    wrong: int
    rate: float
    low: float
    high: float


def logit(p: float) -> float:
    """The log-odds of a probability, which is kept off 0 and 1."""
    p = min(max(p, 1e-6), 1.0 - 1e-6)
    return math.log(p / (1.0 - p))


def logistic(x: float) -> float:
    """The probability of log-odds `x`."""
    return 1.0 / (1.0 + math.exp(-x)) if x > -700 else 0.0


def cell(risk: float) -> int:
    """The cell of a risk."""
    return min(max(int((logit(risk) - LOW) / (HIGH - LOW) * BINS), 0), BINS - 1)
