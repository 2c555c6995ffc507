"""Recorded questions: what a replay asks, in order of arrival, and the best that any cache could make of it.

Not for lengths and arrival times, and it asks nothing itself: see `sim.replay`.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgecache.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Question:
    """One question. Two questions have the same right answer exactly if their `set` is the same."""

    prompt: str
    set: str


def load(path: Path, limit: int | None = None) -> list[Question]:
    """The first `limit` questions (all if None) of a JSON-lines file with `prompt` and `set`, gzipped if named .gz.

    Raises ConfigError naming file and line when the file cannot be used.
    """
    found = list(islice(_read(path), limit))
    if not found:
        raise ConfigError(f"{path}: no questions in it")
    return found


def _read(path: Path) -> Iterator[Question]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _question(line, f"{path}:{number}")
    except (OSError, EOFError, UnicodeDecodeError) as error:  # a cut .gz ends in EOFError
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _question(line: str, where: str) -> Question:
    try:
        row = json.loads(line)
        prompt, name = row["prompt"], row["set"]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f'{where}: not a JSON object with "prompt" and "set"') from error
    if not isinstance(prompt, str) or not prompt or isinstance(name, dict | list):
        raise ConfigError(f'{where}: "prompt" must be text, "set" a name or number')
    return Question(prompt, str(name))


def oracle_hits(questions: Sequence[Question]) -> int:
    """How many of `questions` a cache could answer that never errs and never forgets: those whose set came before."""
    return len(questions) - len({question.set for question in questions})
