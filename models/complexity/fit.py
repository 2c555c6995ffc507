"""Ridge logistic regression, its calibration across subjects, and what a probability is worth. Pure numpy."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[np.str_]

_SUREST = 0.05
_STEPS = 25


class Line(NamedTuple):
    """Log-odds as a linear function of the columns."""

    weights: Floats
    bias: float

    def __call__(self, x: Floats) -> Floats:
        """Log-odds of rows."""
        odds: Floats = x @ self.weights + self.bias
        return odds


class Calibration(NamedTuple):
    """Log-odds to probabilities (Platt), which stay within `low` … `high`."""

    slope: float
    offset: float
    low: float
    high: float

    def __call__(self, odds: Floats) -> Floats:
        """Probabilities for log-odds."""
        return np.clip(sigmoid(self.slope * odds + self.offset), self.low, self.high)


def sigmoid(odds: Floats) -> Floats:
    """Log-odds as probabilities."""
    p: Floats = 1.0 / (1.0 + np.exp(-odds))
    return p


def fit(x: Floats, y: Floats, ridge: float) -> Line:
    """The line with the largest likelihood less `ridge` / 2 times its squared weights, by Newton's method."""
    rows = np.column_stack([x, np.ones(len(x))])
    penalty = np.full(rows.shape[1], ridge)
    penalty[-1] = 1e-9
    line = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        p = sigmoid(rows @ line)
        curvature = (rows * (p * (1 - p))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(curvature, rows.T @ (p - y) + penalty * line)
        line -= step
        if np.abs(step).max() < 1e-6:
            break
    return Line(line[:-1], float(line[-1]))


def folds(subjects: Words, count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Which rows each fold holds out: whole subjects, shuffled."""
    names = np.unique(subjects)
    np.random.default_rng(seed).shuffle(names)
    return [np.isin(subjects, names[start::count]) for start in range(min(count, len(names)))]


def held_out(x: Floats, y: Floats, subjects: Words, ridge: float, *, count: int = 10, seed: int = 0) -> Floats:
    """Log-odds of each row by a line that has seen nothing of the row's subject."""
    odds = np.empty(len(y))
    for out in folds(subjects, count, seed):
        odds[out] = fit(x[~out], y[~out], ridge)(x[out])
    return odds


def calibrate(odds: Floats, y: Floats) -> Calibration:
    """The calibration for log-odds that were `held_out`.

    No probability is larger than the share that was right among the surest twentieth, nor smaller than that among the
    least sure: beyond, there is nothing to calibrate on. Log-odds that are worse than none are not turned around.
    """
    line = fit(odds[:, None], y, 1e-6)
    if line.weights[0] < 0:
        line = fit(np.zeros((len(y), 1)), y, 1e-6)
    order = np.argsort(odds)
    few = max(int(len(y) * _SUREST), 1)
    low, high = sorted((float(y[order[:few]].mean()), float(y[order[-few:]].mean())))
    return Calibration(float(line.weights[0]), line.bias, low, high)


def learn(x: Floats, y: Floats, subjects: Words, ridge: float, *, count: int = 10, seed: int = 0) -> "Judge":
    """A line for all rows, calibrated on lines that had each row's subject held out."""
    odds = held_out(x, y, subjects, ridge, count=count, seed=seed)
    return Judge(fit(x, y, ridge), calibrate(odds, y))


class Judge(NamedTuple):
    """What is shipped: rows to calibrated probabilities."""

    line: Line
    calibration: Calibration

    def __call__(self, x: Floats) -> Floats:
        """Probabilities of rows."""
        return self.calibration(self.line(x))


def auc(y: Floats, p: Floats) -> float:
    """How often a right one ranks above a wrong one; ties count half. Not a number where all are alike."""
    _, at, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[at]
    right = y.sum()
    wrong = len(y) - right
    return float((ranks[y > 0].sum() - right * (right + 1) / 2) / (right * wrong)) if right and wrong else float("nan")


def auc_error(y: Floats, area: float) -> float:
    """Standard error of an area under the curve (Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747)."""
    right = y.sum()
    wrong = len(y) - right
    above, twice = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (right - 1) * (above - area**2) + (wrong - 1) * (twice - area**2)
    return float(np.sqrt(spread / (right * wrong)))


def auc_within(y: Floats, p: Floats, subjects: Words) -> float:
    """`auc` inside each subject, averaged by size: what is known beyond the topic."""
    found = [(auc(y[mask], p[mask]), mask.sum()) for mask in (subjects == name for name in np.unique(subjects))]
    values, sizes = np.array([each for each in found if not np.isnan(each[0])]).T
    return float(np.average(values, weights=sizes))


def brier(y: Floats, p: Floats) -> float:
    """Mean squared error of the probabilities."""
    return float(np.mean((p - y) ** 2))


def bins(y: Floats, p: Floats, width: float = 0.05) -> list[tuple[float, float, int]]:
    """Mean prediction, share that was right, and size, of the rows in each `width` of predictions; none where none."""
    at = np.minimum((p / width).astype(np.int64), round(1 / width) - 1)
    groups = [at == each for each in np.unique(at)]
    return [(float(p[group].mean()), float(y[group].mean()), int(group.sum())) for group in groups]


def ece(y: Floats, p: Floats) -> float:
    """Expected calibration error: how far the share that was right is from the prediction, over `bins`."""
    return sum(abs(said - was) * size for said, was, size in bins(y, p)) / len(y)


def routed(p: Floats, least: float, small: Floats, large: Floats) -> dict[str, float]:
    """What it costs to send all with `p` ≥ `least` to the small model.

    `share` of the questions; how many of them the `small` and the `large` model answer rightly (0 of none); `loss` of
    right answers over all questions against the large model alone, and `random_loss` where as many are sent by lot.
    """
    sent = p >= least
    share = float(sent.mean())
    return {
        "share": share,
        "small": float(small[sent].mean()) if share else 0.0,
        "large": float(large[sent].mean()) if share else 0.0,
        "loss": float(np.mean(sent * (large - small))),
        "random_loss": share * float(np.mean(large - small)),
    }
