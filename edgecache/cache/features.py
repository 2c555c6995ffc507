"""What tells two questions apart, as numbers for the scorer. Pure; judges nothing.

Each looks at something that an embedder is poor at, in some tenths of a millisecond a pair. The first three are the two
models' own words; `docs/decisions/0008-hit-decision.md` says what else was tried.
"""

from collections.abc import Mapping, Sequence
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgecache.cache import guards, lexicon, wording
from edgecache.cache.guards import Reading
from edgecache.types import Candidate, GuardWord

Matrix = NDArray[np.float32]

NAMES: Final = (
    "logit",  # the pair verifier's word
    "similarity",
    "distance",  # -log(1 - similarity): tells 0.97 from 0.99
    "numbers",
    "negation",
    "entities",
    "symbols",
    "order",
    "question_word",  # how for why
    "time_words",  # only one asks about now
)
"""The columns, in order."""

_ASKING: Final = frozenset(
    {"how", "why", "what", "when", "where", "who", "which", "whose", "is", "are", "can", "do", "does", "should"}
)
_UNASKED: Final = -8.0
"""Stands for the logit of a candidate that the verifier was not asked about."""


def compare(
    question: str, candidates: Sequence[Candidate], logits: Mapping[int, float]
) -> tuple[Matrix, list[tuple[GuardWord, ...]]]:
    """One row a candidate, shape (candidates, features), and what the guards said of each."""
    ours = guards.read(question)
    rows = []
    words = []
    for candidate in candidates:
        said, row = own(question, ours, candidate.text)
        words.append(said)
        rows.append([*models(candidate.similarity, logits.get(candidate.entry_id, _UNASKED)), *row])
    return np.array(rows, dtype=np.float32).reshape(len(rows), len(NAMES)), words


def models(similarity: float, logit: float) -> list[float]:
    """The features that come from the two models."""
    return [logit, similarity, -log(max(1.0 - similarity, 1e-4))]


def own(question: str, ours: Reading, stored: str) -> tuple[tuple[GuardWord, ...], list[float]]:
    """What the guards say of a pair, and the features that come from its words alone."""
    theirs = guards.read(stored)
    said = guards.words(ours, theirs)
    return said, [
        *(0.0 if word.passed else 1.0 for word in said),
        float(_asking(ours) != _asking(theirs)),
        float(wording.is_time_sensitive(question) != wording.is_time_sensitive(stored)),
    ]


def _asking(reading: Reading) -> str | None:
    return next((lexicon.stem(word) for word in reading.words if word in _ASKING), None)
