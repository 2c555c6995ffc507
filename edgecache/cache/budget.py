"""The budget policy: as many semantic hits as keep wrong answers under a share of all requests. Arithmetic only.

Every candidate comes with a prior risk, the calibrated probability that its answer is wrong. A segment's evidence
moves these risks (Platt scaling under a Gaussian prior, an upper bound of it, and a shrunk term for the entry), and the
limit below which they are served is where the expected wrong answers per request reach the budget: conformal risk
control (Angelopoulos et al., arXiv 2208.02814: the least limit with (n R + 1) / (n + 1) <= budget), with the risk R
taken over the segment's own mix of requests and the pooled one that it starts from. `docs/decisions` has the reasons.
"""

from collections.abc import Iterable
from math import log, sqrt
from typing import Final

from edgecache.cache.evidence import BINS, HIGH, LOW, Estimate, Label, Segment, Track, cell, logistic, logit

_OFFSET_SD: Final = 0.5
_SLOPE_SD: Final = 0.1
"""How far a segment's risks are believed to be from the pooled ones, in log-odds, before it has evidence."""
_CAUTION: Final = 0.5
"""Standard deviations of that belief which are added to every risk."""
_ENTRY_SD: Final = 1.0
"""How far one entry's risks are believed to be from its segment's."""
_POOLED: Final = 20_000
"""Requests that the pooled prior stands for in the finite-sample term."""
_PRIOR_REQUESTS: Final = 300
"""Requests that the pooled mix counts for against a segment's own."""
_MEMORY: Final = 20_000
"""Requests after which the mix has forgotten two thirds of what it was."""
_LABEL_MEMORY: Final = 4_000
_REACHABLE: Final = 0.35
"""Prior risk above which a label says nothing of what any budget would serve, and is left out of the segment."""
_SEEN: Final = 64
_SLACK: Final = 0.75
"""Share of the budget that is spent: the rest is for chance, which makes counts of wrong answers vary."""
_EVEN: Final = 0.5
"""Prior risk of a pair that no verifier scored."""
_CHECK_FADING: Final = 1.0 - 1.0 / 1_000
_PATIENCE: Final = 2_000
"""Requests after which half of what was spent too much or too little is made up for."""
_LENIENCY: Final = 0.25
_FAITH: Final = 15.0
"""Wrong answers as expected that the belief in the risks of hits is worth before hits were checked."""
_RATIO: Final = log(3.0)
_ALARM: Final = log(2_000.0)

# fmt: off
_MIX: Final = (0.0,) * 23 + (
    0.0001, 0.002, 0.00725, 0.00884, 0.01172, 0.01295, 0.01451, 0.01369, 0.01336, 0.01261, 0.01148, 0.0133,
    0.01125, 0.00946, 0.01041, 0.011, 0.00892, 0.00951, 0.00992, 0.00969, 0.00756, 0.00856, 0.01102, 0.01082,
    0.14112,
)
# fmt: on
"""The pooled mix: share of lookups whose best candidate has a prior risk in each cell.

Of the calibration questions, as `models/verifier/calibration.json` has it.
"""

_UPPER: Final = tuple(LOW + (i + 1) * (HIGH - LOW) / BINS for i in range(BINS))
_CENTRES: Final = tuple(upper - (HIGH - LOW) / BINS / 2 for upper in _UPPER)
"""Log-odds of the cells."""
_Z: Final = 1.959964


def requested(segment: Segment, risk: float | None) -> None:
    """Count a request that was looked up; `risk` is the prior risk of its best candidate, None where it had none."""
    segment.requests += 1
    segment.looked += 1.0
    if risk is not None:
        segment.near[cell(risk)] += 1.0
    if segment.looked >= _MEMORY:
        segment.looked /= 2
        segment.near = [count / 2 for count in segment.near]


def served(segment: Segment, risk: float) -> None:
    """Count a semantic hit that was given out at `risk`; 1.0 where nobody scored it."""
    segment.hits += 1
    if risk < 1.0:
        segment.scored += 1
        segment.expected += risk


def learn(segment: Segment, track: Track, label: Label) -> None:
    """Take in what was found out about one pair.

    Only what lies within reach moves the segment: a straight line through all risks would be drawn by the many doubtful
    candidates, and be wrong at the few that are served.
    """
    prior = label.risk if label.risk < 1.0 else _EVEN
    x = logit(prior)
    y = 0.0 if label.right else 1.0
    p = logistic(segment.offset + segment.slope * x)
    segment.labels += 1
    if prior <= _REACHABLE:
        if label.sampled:  # people report what is wrong: their word raises risks, not the alarm
            _watch(segment, p, wrong=not label.right)
        _move(segment, x, y - p, p * (1.0 - p))
    if label.hit and label.sampled:
        segment.right += label.right
        segment.wrong += not label.right
        segment.promised = segment.promised * _CHECK_FADING + risk(segment, None, prior)
        segment.broken = segment.broken * _CHECK_FADING + y
    track.right += label.right
    track.wrong += not label.right
    track.surprise += y - p
    track.weight += p * (1.0 - p)
    track.seen = [*track.seen[1 - _SEEN :], (label.similarity, label.right)]


def _move(segment: Segment, x: float, surprise: float, spread: float) -> None:
    """One step of Newton's method on the log-posterior of offset and slope."""
    fading = 1.0 - 1.0 / _LABEL_MEMORY
    a, ab, b = (fading * old + spread * new for old, new in zip(segment.information, (1.0, x, x * x), strict=True))
    segment.information = (a, ab, b)
    va, vab, vb = _covariance(segment)
    segment.offset += surprise * (va + vab * x)
    segment.slope = max(segment.slope + surprise * (vab + vb * x), 0.2)


def _watch(segment: Segment, p: float, *, wrong: bool) -> None:
    """CUSUM (Page 1954) of the log likelihood ratio between `three times the odds` and `as predicted`."""
    worse = logistic(logit(p) + _RATIO)
    step = log(worse / max(p, 1e-9)) if wrong else log((1.0 - worse) / max(1.0 - p, 1e-9))
    segment.alarm = max(0.0, segment.alarm + step)
    if not segment.drifted and segment.alarm > _ALARM:
        segment.drifted = True
        a, ab, b = segment.information
        segment.information = (a / 10, ab / 10, b / 10)  # what was learned before is of another time
    elif segment.drifted and segment.alarm == 0.0:
        segment.drifted = False


def risk(segment: Segment, track: Track | None, prior: float) -> float:
    """An upper estimate of the probability of a wrong answer, given the evidence."""
    moved = _moved(segment, _covariance(segment), logit(prior))
    if track is not None:
        moved += track.surprise / (1.0 / _ENTRY_SD**2 + track.weight)
    return logistic(moved)


def _moved(segment: Segment, covariance: tuple[float, float, float], x: float) -> float:
    """Prior log-odds as the segment's evidence has them, on the cautious side."""
    va, vab, vb = covariance
    return segment.offset + segment.slope * x + _CAUTION * sqrt(max(va + 2 * vab * x + vb * x * x, 0.0))


def _covariance(segment: Segment) -> tuple[float, float, float]:
    a, ab, b = segment.information
    a, b = a + 1.0 / _OFFSET_SD**2, b + 1.0 / _SLOPE_SD**2
    det = a * b - ab * ab
    return b / det, -ab / det, a / det


def limit(segment: Segment, budget: float) -> float:
    """The largest risk that may be served: 0 while the segment has drifted, which leaves equal wording alone."""
    if segment.drifted:
        return 0.0
    n = segment.looked + _POOLED
    left = _affordable(segment, (budget * _SLACK * (n + 1) - 1.0) / n)
    total = segment.looked + _PRIOR_REQUESTS
    covariance = _covariance(segment)
    reached: float | None = None
    for seen, pooled, centre, upper in zip(segment.near, _MIX, _CENTRES, _UPPER, strict=True):
        left -= (seen + _PRIOR_REQUESTS * pooled) / total * logistic(_moved(segment, covariance, centre))
        if left < 0.0:
            break
        reached = upper
    return logistic(_moved(segment, covariance, reached)) if reached is not None else 0.0


def _affordable(segment: Segment, rate: float) -> float:
    """The expected wrong answers per request that the next requests may cost, to come to `rate` over all of them.

    Two corrections that comparisons of misses cannot make, because what is served differs from what is not in more than
    its risk (a popular question is served again and again): how many times as often as its risks say a checked hit was
    wrong, and how much of the budget was spent so far. Checks are few and a budget is a promise: both tighten as far as
    they must, and loosen by little.
    """
    broken = max((_FAITH + segment.broken) / (_FAITH + segment.promised), 1.0 - _LENIENCY)
    spent = segment.expected * broken / max(segment.requests, 1)
    weight = segment.requests / (segment.requests + _PATIENCE)
    return max(rate + weight * min(rate - spent, _LENIENCY * rate), 0.0) / broken


def estimate(segment: Segment) -> Estimate:
    """The wrong-hit rate of a segment."""
    return pooled([segment])


def pooled(segments: Iterable[Segment]) -> Estimate:
    """The wrong-hit rate over all `segments`.

    The share of wrong hits is that of the checked ones, shrunk towards what was expected of them as if ten more had
    been checked; the interval is Wilson's over both. Multiplied by hits per request it is the rate per request.
    """
    requests = hits = right = wrong = scored = 0
    expected = 0.0
    for segment in segments:
        requests += segment.requests
        hits += segment.hits
        right += segment.right
        wrong += segment.wrong
        scored += segment.scored
        expected += segment.expected
    checked = right + wrong
    believed = 10.0 if scored else 0.0
    n = checked + believed
    if not hits or not requests or not n:
        return Estimate(requests, hits, checked, wrong, 0.0, 0.0, hits / requests if requests else 0.0)
    share = (wrong + (believed * expected / scored if scored else 0.0)) / n
    low, high = _wilson(share, n)
    per_request = hits / requests
    return Estimate(requests, hits, checked, wrong, share * per_request, low * per_request, high * per_request)


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (1927) at 95 %."""
    middle = share + _Z * _Z / (2 * n)
    spread = _Z * sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n))
    scale = 1 + _Z * _Z / n
    return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)
