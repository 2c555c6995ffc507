"""How well a score tells pairs that match from pairs that do not: ROC, precision and recall. Arithmetic only."""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecache.quality.intervals import Share

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]


def auc(scores: Scores, same: Labels) -> float:
    """The chance that a pair that matches scores above one that does not, ties counted half (Mann-Whitney)."""
    positive = int(same.sum())
    negative = len(same) - positive
    if not positive or not negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[inverse][same].sum() - positive * (positive + 1) / 2) / (positive * negative))


def auc_interval(area: float, positive: int, negative: int) -> tuple[float, float]:
    """The 95 % interval of an AUC (Hanley and McNeil 1982)."""
    if not positive or not negative:
        return 0.0, 1.0
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = area * (1 - area) + (positive - 1) * (q1 - area**2) + (negative - 1) * (q2 - area**2)
    spread = 1.959964 * sqrt(max(variance, 0.0) / (positive * negative))
    return max(0.0, area - spread), min(1.0, area + spread)


def average_precision(scores: Scores, same: Labels) -> float:
    """The area under the precision-recall curve, as steps; pairs of one score are taken together."""
    if not same.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(same[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # the end of each run of equal scores
    precision = (hits / np.arange(1, len(order) + 1))[last]
    gained = np.diff(hits[last], prepend=0)
    return float((precision * gained).sum() / same.sum())


def recall_at(scores: Scores, same: Labels, false: float) -> Share:
    """Matching pairs above the lowest score that lets at most the share `false` of the others through."""
    others = np.sort(scores[~same])[::-1]
    allowed = int(false * len(others))
    least = others[allowed] if allowed < len(others) else -np.inf
    return Share(int((scores[same] > least).sum()), int(same.sum()))


def curves(scores: Scores, same: Labels, points: int = 200) -> dict[str, list[list[float]]]:
    """ROC as (false, recall) and PR as (recall, precision), thinned out to about `points`."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(same[order])
    seen = np.arange(1, len(order) + 1)
    positive, negative = max(int(same.sum()), 1), max(int((~same).sum()), 1)
    false = (seen - hits) / negative
    # Evenly spaced in the logarithm: the strict end is what matters.
    wanted = np.unique(np.round(np.geomspace(1, len(order), points)).astype(int)) - 1
    roc = [[round(float(false[i]), 6), round(float(hits[i] / positive), 6)] for i in wanted]
    pr = [[round(float(hits[i] / positive), 6), round(float(hits[i] / seen[i]), 6)] for i in wanted]
    return {"roc": roc, "pr": pr}


def summary(scores: Scores, same: Labels) -> dict[str, Any]:
    """All of it, JSON-compatible."""
    area = auc(scores, same)
    low, high = auc_interval(area, int(same.sum()), int((~same).sum()))
    return {
        "auc": {"value": round(area, 5), "low": round(low, 5), "high": round(high, 5)},
        "average precision": round(average_precision(scores, same), 5),
        "recall at 1 % false": recall_at(scores, same, 0.01).to_dict(),
        "recall at 5 % false": recall_at(scores, same, 0.05).to_dict(),
    }
