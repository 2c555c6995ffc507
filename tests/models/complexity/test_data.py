"""What is read of RouteLLM's data: no options, and the right verdicts."""

import csv
import json
from pathlib import Path

import pytest

from models.complexity.data import LARGE, SMALL, gsm8k, mmlu, mt_bench


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with two subjects, one sum and three open questions."""
    evals = tmp_path / "routellm" / "evals"
    write(
        evals / "mmlu" / "responses" / "mmlu_anatomy.csv",
        ['What is a bone?\nA. An "organ"\nB. A gas\nC. Water\nD. Air\nAnswer:', "True", "False"],
    )
    write(evals / "mmlu" / "responses" / "mmlu_law.csv", ["Is it A. or B?\nA. A\nB. B\nAnswer:", "False", "True"])
    write(evals / "gsm8k" / "gsm8k_responses.csv", ["Two and two?", "True", "True"])
    (evals / "mt_bench").mkdir()
    questions = [{"question_id": n, "category": "math", "turns": [f"first {n}", "second"]} for n in (1, 2, 3)]
    judgements = [
        *({"question_id": n, "model": LARGE, "score": 9, "turn": 1} for n in (1, 2)),
        {"question_id": 1, "model": SMALL, "score": 8, "turn": 1},
        {"question_id": 2, "model": SMALL, "score": 7, "turn": 1},
        {"question_id": 2, "model": SMALL, "score": 10, "turn": 2},
    ]
    for name, rows in (("question", questions), ("judgements", judgements)):
        (evals / "mt_bench" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def write(path: Path, row: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", SMALL, LARGE], row])


def test_a_question_comes_without_its_options(folder: Path) -> None:
    assert [each.text for each in mmlu(folder)] == ["What is a bone?", "Is it A. or B?"]


def test_each_file_is_a_subject_with_the_verdict_of_either_model(folder: Path) -> None:
    assert [each[1:] for each in mmlu(folder)] == [("anatomy", 1.0, 0.0), ("law", 0.0, 1.0)]
    assert [tuple(each) for each in gsm8k(folder)] == [("Two and two?", "gsm8k", 1.0, 1.0)]


def test_an_open_question_is_answered_well_within_a_point_of_the_large_model_in_the_first_turn(folder: Path) -> None:
    assert [tuple(each) for each in mt_bench(folder)] == [("first 1", "math", 1.0, 1.0), ("first 2", "math", 0.0, 1.0)]
