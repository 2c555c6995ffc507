"""vCache's policy (Schroeder et al., arXiv 2502.03771, algorithm 1), written from the paper: one threshold an entry.

For each entry it fits the probability that its answer is right as a logistic curve over similarity, and serves it with
the largest chance that keeps wrong answers per request under delta with the curve's own uncertainty counted in;
otherwise it explores: the request goes upstream and the two answers are compared. No verifier takes part.
"""

from collections.abc import Sequence
from math import exp, sqrt
from statistics import NormalDist
from typing import Final

_SEEDED: Final = ((0.0, False), (1.0, True))
"""Two observations that every entry begins with: nothing in common is wrong, the same text is right."""
_LEAST: Final = 6
"""Observations, those two included, before an entry may serve."""
_GRID: Final = tuple(i / 50 for i in range(1, 50))
_RIDGE: Final = 1e-3
_STEPS: Final = 25
_NORMAL: Final = NormalDist()


def chance_to_explore(seen: Sequence[tuple[float, bool]], similarity: float, delta: float) -> float:
    """The least probability with which a request at `similarity` must go upstream (the paper's tau, section 4).

    With the curve L at slope g and its threshold t at the upper end of a 1 - e confidence interval, the answer is right
    with at least (1 - e) L; the least of 1 - delta / (1 - (1 - e) L) over e keeps the error under delta.
    """
    observed = (*_SEEDED, *seen)
    if len(observed) < _LEAST:
        return 1.0
    slope, threshold, sd = _fit(observed)
    least = 1.0
    for epsilon in _GRID:
        upper = min(threshold + _NORMAL.inv_cdf(1.0 - epsilon) * sd, 1.0)  # the paper's t' is a similarity
        right = (1.0 - epsilon) * _curve(slope * (similarity - upper))
        wrong = 1.0 - right
        least = min(least, 1.0 - delta / wrong if wrong > delta else 0.0)
    return least


def _curve(x: float) -> float:
    return 1.0 / (1.0 + exp(-x)) if x > -700 else 0.0


def _fit(observed: Sequence[tuple[float, bool]]) -> tuple[float, float, float]:
    """Slope, threshold and the threshold's standard deviation (delta method), by ridge-regularised Newton steps."""
    w0, w1 = -5.0, 10.0
    a = ab = b = 0.0
    for _ in range(_STEPS):
        g0, g1 = -_RIDGE * w0, -_RIDGE * w1
        a, ab, b = _RIDGE, 0.0, _RIDGE
        for similarity, right in observed:
            p = _curve(w0 + w1 * similarity)
            g0 += right - p
            g1 += (right - p) * similarity
            spread = p * (1.0 - p)
            a, ab, b = a + spread, ab + spread * similarity, b + spread * similarity * similarity
        det = a * b - ab * ab
        w0, w1 = w0 + (b * g0 - ab * g1) / det, w1 + (a * g1 - ab * g0) / det
    w1 = max(w1, 1e-3)
    threshold = -w0 / w1
    det = a * b - ab * ab
    d0, d1 = -1.0 / w1, w0 / (w1 * w1)
    variance = (d0 * d0 * b - 2 * d0 * d1 * ab + d1 * d1 * a) / det
    return w1, threshold, sqrt(max(variance, 0.0))
