"""What is committed is what training writes, and the card says the same."""

import json
import re
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from edgecache.router.complexity import Complexity
from models.complexity.data import Question
from models.complexity.fit import Judge, auc, learn
from models.complexity.train import Part, evaluate, model, nested, plot

FOLDER = Path(__file__).parents[3] / "models" / "complexity"


def points(svg: str) -> list[float]:
    """Where the markers of a plot are."""
    found = re.findall(r'<use xlink:href="#\w+" x="([\d.]+)" y="([\d.]+)"', svg)
    return [float(each) for pair in found for each in pair]


class Letters:
    """An embedder whose vectors say nothing of the text but the sum of its tokens. Four words are its window."""

    name, dimension, window = "letters", 26, 4

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        return [[crc32(word.encode()) for word in text.split()] for text in texts]

    def encode(self, batch: list[list[int]]) -> np.ndarray:
        rng = np.random.default_rng(0)
        rows = np.stack([rng.standard_normal(26) + np.array([sum(ids) % 7] * 26) for ids in batch])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def questions(count: int, seed: int) -> list[Question]:
    rng = np.random.default_rng(seed)
    return [
        Question(f"word{n} word{n * 7}", f"s{n % 12}", float(rng.random() < 0.7), float(rng.random() < 0.8))
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads((FOLDER / "evaluation.json").read_text())


def test_questions_that_the_embedder_refuses_are_left_out_and_counted() -> None:
    part = Part([*questions(20, 0), Question("one two three four five", "s", 1.0, 1.0)], Letters())
    assert (len(part.small), part.left_out) == (20, 1)
    assert len(part.x) == len(part.subjects) == len(part.length) == 20


def test_labels_without_a_pattern_teach_nothing() -> None:
    part = Part(questions(1200, 1), Letters())
    assert auc(part.small, nested(part.x, part, 10.0)) < 0.55


def test_training_writes_what_the_router_reads_and_what_the_plot_shows() -> None:
    part = Part(questions(600, 2), Letters())
    judge = learn(part.x, part.small, part.subjects, 10.0)
    read = Complexity.decode(json.dumps(model(judge, "letters")).encode(), "letters", 26)
    assert isinstance(judge, Judge)
    for row, said in zip(part.x, judge(part.x), strict=True):
        assert read.probability(row.astype(np.float32)) == pytest.approx(said, abs=1e-3)
    others = {name: Part(questions(80, 3), Letters()) for name in ("gsm8k", "mt_bench")}
    drawn = plot(evaluate(part, others, judge))
    assert drawn.startswith("<svg")
    assert "predicted probability" in drawn


def test_the_committed_plot_is_of_the_committed_figures(committed: dict[str, Any]) -> None:
    shown = (FOLDER / "calibration.svg").read_text()
    assert len(points(shown)) > 20
    assert points(shown) == pytest.approx(points(plot(committed)), abs=1.0)


def test_the_card_has_the_committed_figures(committed: dict[str, Any]) -> None:
    card = (FOLDER / "README.md").read_text()
    for benchmark in ("mmlu", "gsm8k", "mt_bench"):
        for name in ("classifier", "length"):
            said = committed[benchmark][name]
            line = f"{said['auc']:.3f} ± {said['auc_error']:.3f} | {said['auc_within_subjects']:.3f}"
            assert f"| {line} | {said['brier']:.3f} | {said['ece']:.3f} |" in card, (benchmark, name)
    for least, said in committed["mmlu"]["classifier"]["routed"].items():
        assert f"| {least} | {said['share']:.1%} | {said['small']:.1%} | {said['large']:.1%}" in card, least
        assert f"| {100 * said['loss']:.1f} | {100 * said['random_loss']:.1f} |" in card, least
    shipped = json.loads((FOLDER / "model.json").read_text())
    assert f"{shipped['high']:.2f}" in card
