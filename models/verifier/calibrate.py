"""Fit the scorer: from features of candidates to calibrated risks, on questions that the cross-encoder never saw.

The calibration questions arrive in random orders, as at a POP: each meets up to eight earlier ones. Their labels train
a few small networks, and predictions for clusters that a network did not see (five folds) calibrate the mean of them at
the end that matters, where risks are low. Writes `scorer.json`, prints how well risks hold, and the pooled mix that
`edgecache.cache.budget` starts from.
"""

import argparse
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgecache import config
from edgecache.cache import evidence, features, verify
from edgecache.embed import open_embedder
from edgecache.embed.base import Pair
from edgecache.embed.cross_encoder import CrossEncoder
from edgecache.quality.datasets import Clusters
from edgecache.types import Candidate
from models.verifier.data import questions, split

Array = NDArray[np.float32]

CLEAR = 0.65
"""Similarity below which a candidate is not worth the cross-encoder."""
_LEAST = 0.5
_NEIGHBOURS = 24
_FOLDS = 5
_MEMBERS = 5
_UNITS = 6
_DECAY = 3e-3
_STEPS = 2500
_BATCH = 512
_RATE = 0.01
_ORDERS = 4
_REACHABLE = 0.3
"""Risks up to this are what calibration is for: no budget serves more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Candidates as the scorer will meet them: rows of features, whether wrong, fold, and which lookup each is of."""

    rows: Array
    wrong: Array
    fold: NDArray[np.int64]
    lookup: NDArray[np.int64]
    lookups: int


class Bench:
    """The calibration questions with their vectors, neighbours and logits."""

    def __init__(self, texts: Sequence[str], folder: Path, window: int) -> None:
        self.texts = texts
        embedder = open_embedder(config.Embed())
        tokens = [ids[: embedder.window] for ids in embedder.tokenise(texts)]
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        self.vectors = np.zeros((len(texts), embedder.dimension), np.float32)
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            self.vectors[rows] = embedder.encode([tokens[row] for row in rows])
        self._engine = CrossEncoder("verifier", folder, window=window, device="cpu", precision=embedder.precision)
        self._logits: dict[tuple[int, int], float] = {}
        self._near = self._neighbours()
        self._score()

    def _neighbours(self) -> list[list[tuple[int, float]]]:
        found = []
        for start in range(0, len(self.texts), 1024):
            scores = self.vectors[start : start + 1024] @ self.vectors.T
            for i, row in enumerate(scores, start):
                row[i] = -1.0
                best = np.argpartition(-row, _NEIGHBOURS)[:_NEIGHBOURS]
                best = best[np.argsort(-row[best])]
                found.append([(int(j), float(row[j])) for j in best if row[j] >= _LEAST])
        return found

    def _score(self) -> None:
        wanted = {
            (min(i, j), max(i, j)) for i, near in enumerate(self._near) for j, score in near[:10] if score >= CLEAR
        }
        pairs = sorted(wanted, key=lambda pair: len(self.texts[pair[0]]) + len(self.texts[pair[1]]))
        for start in range(0, len(pairs), 32):
            batch = pairs[start : start + 32]
            ids = self._engine.tokenise([Pair(self.texts[i], self.texts[j]) for i, j in batch])
            kept = [k for k, tokens in enumerate(ids) if len(tokens) <= self._engine.window]
            for k, logit in zip(kept, self._engine.encode([ids[k] for k in kept])[:, 0], strict=True):
                self._logits[batch[k]] = float(logit)

    def candidates(self, i: int, present: set[int]) -> tuple[list[Candidate], dict[int, float]]:
        """Up to eight of those present that are near to question `i`, and their logits."""
        near = [(j, score) for j, score in self._near[i] if j in present][:8]
        found = [Candidate(j, score, self.texts[j]) for j, score in near]
        pairs = {j: (min(i, j), max(i, j)) for j, score in near if score >= CLEAR}
        return found, {j: self._logits[pair] for j, pair in pairs.items() if pair in self._logits}


def play(bench: Bench, group: Sequence[str], fold: Sequence[int], seed: int) -> tuple[Seen, float]:
    """Let the questions arrive; also returns how often equal words had another answer."""
    chance = random.Random(seed)
    rows, wrong, folds, lookup = [], [], [], []
    alike = alike_wrong = lookups = 0
    for _ in range(_ORDERS):
        order = list(range(len(bench.texts)))
        chance.shuffle(order)
        present: set[int] = set()
        for i in order:
            lookups += 1
            found, logits = bench.candidates(i, present)
            judged = verify.judge(bench.texts[i], found, logits, None)
            same = [each.candidate.entry_id for each in judged if each.identical]
            alike += len(same)
            alike_wrong += sum(group[j] != group[i] for j in same)
            matrix, _ = features.compare(bench.texts[i], found, logits)
            answered = False
            for k, candidate in enumerate(found):
                j = candidate.entry_id
                if j in logits and j not in same:
                    rows.append(matrix[k])
                    wrong.append(float(group[j] != group[i]))
                    folds.append(fold[i])
                    lookup.append(lookups)
                    answered |= group[j] == group[i]
            if not answered or chance.random() < 0.5:  # a hit adds no entry, and not every one is a hit
                present.add(i)
    seen = Seen(np.array(rows, np.float32), np.array(wrong, np.float32), np.array(folds), np.array(lookup), lookups)
    return seen, (alike_wrong + 0.5) / (alike + 1)


def fit(x: Array, wrong: Array, seed: int) -> dict[str, Any]:
    """One small network: standardised features to the log-odds of a wrong answer."""
    torch.manual_seed(seed)
    inputs, targets = torch.tensor(x), torch.tensor(wrong)
    hidden = (torch.randn(x.shape[1], _UNITS) * 0.2).requires_grad_()
    bias = torch.zeros(_UNITS, requires_grad=True)
    out = (torch.randn(_UNITS) * 0.2).requires_grad_()
    shift = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.Adam([hidden, bias, out, shift], lr=_RATE)
    for step in range(_STEPS):
        optimiser.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
        rows = torch.randint(0, len(targets), (_BATCH,))
        odds = torch.tanh(inputs[rows] @ hidden + bias) @ out + shift
        loss = torch.nn.functional.binary_cross_entropy_with_logits(odds, targets[rows])
        loss = loss + _DECAY * (hidden.square().sum() + out.square().sum())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {"hidden": hidden.tolist(), "bias": bias.tolist(), "out": out.tolist(), "shift": shift.item()}


def log_odds(members: list[dict[str, Any]], x: Array) -> NDArray[np.float64]:
    """The mean of the networks."""
    each = [np.tanh(x @ np.array(m["hidden"]) + np.array(m["bias"])) @ np.array(m["out"]) + m["shift"] for m in members]
    mean: NDArray[np.float64] = np.mean(each, axis=0)
    return mean


def best_of(seen: Seen, odds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The row of least risk of each lookup: only that one is ever served."""
    order = np.lexsort((odds, seen.lookup))
    first = np.ones(len(order), bool)
    first[1:] = seen.lookup[order][1:] != seen.lookup[order][:-1]
    return order[first]


def platt(odds: NDArray[np.float64], wrong: Array) -> tuple[float, float]:
    """Slope and offset that calibrate `odds`, by Newton's method, with a prior worth a few labels for no change."""
    slope, offset = 1.0, 0.0
    for _ in range(30):
        p = 1 / (1 + np.exp(-(slope * odds + offset)))
        w = p * (1 - p)
        gradient = np.array([((wrong - p) * odds).sum() - 10 * (slope - 1), (wrong - p).sum() - 2 * offset])
        hessian = np.array([[(w * odds * odds).sum() + 10, (w * odds).sum()], [(w * odds).sum(), w.sum() + 2]])
        slope, offset = np.array([slope, offset]) + np.linalg.solve(hessian, gradient)
    return float(slope), float(offset)


def report(risks: NDArray[np.float64], wrong: Array) -> list[dict[str, float]]:
    """Predicted and observed shares of wrong answers by risk."""
    edges = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
    table = []
    for low, high in itertools.pairwise(edges):
        inside = (risks >= low) & (risks < high)
        if inside.any():
            table.append(
                {
                    "from": low,
                    "to": high,
                    "candidates": int(inside.sum()),
                    "predicted": round(float(risks[inside].mean()), 4),
                    "observed": round(float(wrong[inside].mean()), 4),
                }
            )
    return table


def calibrate(args: argparse.Namespace) -> None:
    """Do all of it."""
    torch.set_num_threads(1)
    parts = split(args.data, 0)
    texts = questions(parts.calibration)
    linked = Clusters()
    for pair in parts.calibration:
        linked.join(pair.a, pair.b)
    names = sorted({linked.root(text) for text in texts})
    random.Random(args.seed).shuffle(names)
    fold_of = {name: i % _FOLDS for i, name in enumerate(names)}
    bench = Bench(texts, args.folder, args.window)
    seen, identical = play(
        bench, [parts.duplicates[text] for text in texts], [fold_of[linked.root(text)] for text in texts], args.seed
    )
    low, high = np.quantile(seen.rows, 0.001, axis=0), np.quantile(seen.rows, 0.999, axis=0)
    clipped = np.clip(seen.rows, low, high)
    mean, scale = clipped.mean(0), clipped.std(0) + 1e-3
    x = ((clipped - mean) / scale).astype(np.float32)
    unseen = np.zeros(len(x))
    for fold in range(_FOLDS):
        inside = seen.fold == fold
        members = [fit(x[~inside], seen.wrong[~inside], seed) for seed in range(2)]
        unseen[inside] = log_odds(members, x[inside])
    best = best_of(seen, unseen)
    reachable = best[unseen[best] < evidence.logit(_REACHABLE)]
    slope, offset = platt(unseen[reachable], seen.wrong[reachable])
    risks = 1 / (1 + np.exp(-(slope * unseen[best] + offset)))
    table = report(risks, seen.wrong[best])
    mix = np.bincount([evidence.cell(risk) for risk in risks], minlength=evidence.BINS) / seen.lookups
    scorer = {
        "format": 1,
        "names": features.NAMES,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "members": [fit(x, seen.wrong, seed) for seed in range(_MEMBERS)],
        "slope": slope,
        "offset": offset,
        "clear": CLEAR,
        "identical": round(identical, 5),
    }
    (args.folder / "scorer.json").write_text(json.dumps(_rounded(scorer)) + "\n")
    found = {
        "lookups": seen.lookups,
        "candidates": len(x),
        "identical": identical,
        "slope": slope,
        "offset": offset,
        "calibration": table,
        "mix": [round(float(share), 5) for share in mix],
    }
    (args.folder / "calibration.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _rounded(value: Any) -> Any:
    """Six digits are enough, and a third of the bytes."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    calibrate(parser.parse_args())
