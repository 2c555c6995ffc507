"""Train and judge the estimate of complexity, and write its weights, its figures and its calibration plot.

`--data` is a checkout of https://github.com/lm-sys/RouteLLM. MMLU is learned from; every figure on MMLU is of subjects
that neither the line nor its calibration had seen. GSM8K and MT-Bench are never learned from.
"""

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from edgecache import config, embed
from edgecache.embed.base import Embedder
from models.complexity import data
from models.complexity.data import Question
from models.complexity.fit import (
    Floats,
    Judge,
    Words,
    auc,
    auc_error,
    auc_within,
    bins,
    brier,
    ece,
    folds,
    learn,
    routed,
)

RIDGE = 10.0
"""The best of 3, 10, 30 and 100 by the area under the curve on held-out subjects; 3 to 30 differ by 0.005."""
_LEASTS = (0.7, 0.75, 0.8, 0.9)
_BATCH = 32
_DRAWN = 50
"""Questions of the smallest group in the plot."""


class Part:
    """The questions of one benchmark that the embedder takes, as columns."""

    def __init__(self, questions: Sequence[Question], embedder: Embedder) -> None:
        tokens = embedder.tokenise([each.text for each in questions])
        # Longer ones have no vector at this POP either.
        fitting = sorted(
            (at for at, ids in enumerate(tokens) if len(ids) <= embedder.window), key=lambda at: len(tokens[at])
        )
        vectors = [
            embedder.encode([tokens[at] for at in fitting[start : start + _BATCH]])
            for start in range(0, len(fitting), _BATCH)
        ]
        kept = [questions[at] for at in fitting]
        self.left_out = len(questions) - len(kept)
        self.x: Floats = np.concatenate(vectors).astype(np.float64)
        self.small: Floats = np.array([each.small for each in kept])
        self.large: Floats = np.array([each.large for each in kept])
        self.subjects: Words = np.array([each.subject for each in kept])
        self.length: Floats = np.log([[len(each.text)] for each in kept])


def nested(x: Floats, part: Part, ridge: float) -> Floats:
    """Probabilities by judges that had seen the row's subject neither in learning nor in calibration."""
    p = np.empty(len(part.small))
    for out in folds(part.subjects, 10, 0):
        p[out] = learn(x[~out], part.small[~out], part.subjects[~out], ridge, count=5, seed=1)(x[out])
    return p


def figures(part: Part, p: Floats) -> dict[str, Any]:
    """What the probabilities `p` are worth on `part`."""
    return {
        "auc": (area := auc(part.small, p)),
        "auc_error": auc_error(part.small, area),
        "auc_within_subjects": auc_within(part.small, p, part.subjects),
        "brier": brier(part.small, p),
        "ece": ece(part.small, p),
        "mean": float(p.mean()),
        "routed": {str(least): routed(p, least, part.small, part.large) for least in _LEASTS},
        "bins": bins(part.small, p),
    }


def evaluate(mmlu: Part, others: Mapping[str, Part], judge: Judge) -> dict[str, Any]:
    """The figures of the classifier and of the two that it has to beat, on each benchmark."""
    by_length = learn(mmlu.length, mmlu.small, mmlu.subjects, 1e-6)
    said: dict[str, Any] = {"mmlu": _about(mmlu)}
    said["mmlu"] |= {
        "classifier": figures(mmlu, nested(mmlu.x, mmlu, RIDGE)),
        "length": figures(mmlu, nested(mmlu.length, mmlu, 1e-6)),
        "constant": figures(mmlu, np.full(len(mmlu.small), mmlu.small.mean())),
    }
    for name, part in others.items():
        said[name] = _about(part) | {
            "classifier": figures(part, judge(part.x)),
            "length": figures(part, by_length(part.length)),
            "constant": figures(part, np.full(len(part.small), mmlu.small.mean())),
        }
    return said


def _about(part: Part) -> dict[str, Any]:
    return {
        "questions": len(part.small),
        "too_long": part.left_out,
        "small": float(part.small.mean()),
        "large": float(part.large.mean()),
    }


def model(judge: Judge, embedder: str) -> dict[str, Any]:
    """The content of `model.json`, as `edgecache.router.complexity` reads it."""
    line, calibration = judge
    return {
        "format": 1,
        "embedder": embedder,
        "dimension": len(line.weights),
        "weights": [round(float(weight), 5) for weight in line.weights],
        "bias": round(line.bias, 5),
        "slope": round(calibration.slope, 5),
        "offset": round(calibration.offset, 5),
        "low": round(calibration.low, 4),
        "high": round(calibration.high, 4),
    }


def plot(evaluation: Mapping[str, Any]) -> str:
    """Predicted against observed, as SVG."""
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "edgecache"}
    with rc_context(style):
        file = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        draw(evaluation).savefig(file, format="svg", metadata=metadata)
    text = file.getvalue()
    return text[text.index("<svg") :]


def draw(evaluation: Mapping[str, Any]) -> Figure:
    """The figure of `plot`: a point for each group of at least `_DRAWN` questions."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":")
    for name, label in (("mmlu", "MMLU, unseen subjects"), ("gsm8k", "GSM8K"), ("mt_bench", "MT-Bench")):
        said = evaluation[name]
        points = [each for each in said["classifier"]["bins"] if each[2] >= _DRAWN]
        if name == "mt_bench":  # one point is all that its few questions give
            points = [(said["classifier"]["mean"], said["small"], said["questions"])]
        axes.plot([each[0] for each in points], [each[1] for each in points], marker="o", markersize=4, label=label)
    axes.set(xlabel="predicted probability", ylabel="share that the small model answered well")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def main(folder: Path, out: Path) -> None:
    """Learn from the data in `folder`; write `model.json`, `evaluation.json` and `calibration.svg` into `out`."""
    embedder = embed.open_embedder(config.Embed(verifier=""))
    mmlu = Part(data.mmlu(folder), embedder)
    others = {"gsm8k": Part(data.gsm8k(folder), embedder), "mt_bench": Part(data.mt_bench(folder), embedder)}
    print(f"{len(mmlu.small)} questions to learn from", flush=True)
    judge = learn(mmlu.x, mmlu.small, mmlu.subjects, RIDGE)
    evaluation = _rounded(evaluate(mmlu, others, judge))
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.json").write_text(json.dumps(model(judge, embedder.name)) + "\n")
    (out / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n")
    (out / "calibration.svg").write_text(plot(evaluation))
    print(json.dumps(evaluation, indent=1))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a checkout of lm-sys/RouteLLM")
    parser.add_argument("--out", type=Path, default=Path("models/complexity"))
    given = parser.parse_args()
    main(given.data, given.out)
