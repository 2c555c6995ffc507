"""Questions, and whether a small and a large model answered them rightly: RouteLLM's evaluation data (Apache-2.0).

https://github.com/lm-sys/RouteLLM keeps what Mixtral 8x7B Instruct and GPT-4 Turbo (1106) said to MMLU (57 subjects),
GSM8K and MT-Bench. None of it is kept here.
"""

import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

SMALL, LARGE = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
_OPTIONS = re.compile(r"\nA\. ")
_ENOUGH = 1.0
"""Points of ten by which the judge may have liked the small model's answer less, for it to be good enough."""


class Question(NamedTuple):
    """One question. `subject` is what is held out together; `small`, `large`: 1 = answered rightly."""

    text: str
    subject: str
    small: float
    large: float


def mmlu(folder: Path) -> list[Question]:
    """MMLU without its options: who asks a model does not send four answers along."""
    found = []
    for path in sorted((folder / "routellm/evals/mmlu/responses").glob("mmlu_*.csv")):
        found += [_question(row, path.stem.removeprefix("mmlu_")) for row in _rows(path)]
    return found


def gsm8k(folder: Path) -> list[Question]:
    """School arithmetic in words."""
    return [_question(row, "gsm8k") for row in _rows(folder / "routellm/evals/gsm8k/gsm8k_responses.csv")]


def mt_bench(folder: Path) -> list[Question]:
    """Open questions: the first turns. Right = scored at most a point below the large model by the judge, GPT-4."""
    base = folder / "routellm/evals/mt_bench"
    scores: dict[tuple[int, str], list[float]] = defaultdict(list)
    for said in _lines(base / "judgements.jsonl"):
        if said["turn"] == 1:
            scores[said["question_id"], said["model"]].append(said["score"])
    found = []
    for asked in _lines(base / "question.jsonl"):
        small, large = (scores[asked["question_id"], model] for model in (SMALL, LARGE))
        if small and large:
            enough = sum(small) / len(small) >= sum(large) / len(large) - _ENOUGH
            found.append(Question(asked["turns"][0], asked["category"], float(enough), 1.0))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _question(row: dict[str, str], subject: str) -> Question:
    text = row["prompt"]
    options = _OPTIONS.search(text)
    asked = text[: options.start()] if options else text
    return Question(asked, subject, float(row[SMALL] == "True"), float(row[LARGE] == "True"))
