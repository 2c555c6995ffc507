"""From features to risks: the file is read or refused, the arithmetic is that of the file."""

import json
from typing import Any

import numpy as np
import pytest

from edgecache.cache import features
from edgecache.cache.scorer import Scorer
from edgecache.errors import ConfigError

WIDTH = len(features.NAMES)


def content(**changes: Any) -> dict[str, Any]:
    """One unit that looks at the logit alone: the higher it is, the lower the risk."""
    weights = [[-0.5]] + [[0.0]] * (WIDTH - 1)
    return {
        "format": 1,
        "names": list(features.NAMES),
        "mean": [0.0] * WIDTH,
        "scale": [1.0] * WIDTH,
        "low": [-10.0] * WIDTH,
        "high": [10.0] * WIDTH,
        "members": [{"hidden": weights, "bias": [0.0], "out": [4.0], "shift": 0.5}] * 2,
        "slope": 2.0,
        "offset": -1.0,
        "clear": 0.65,
        "identical": 0.001,
    } | changes


def rows(*logits: float) -> np.ndarray:
    made = np.zeros((len(logits), WIDTH), np.float32)
    made[:, 0] = logits
    return made


def test_the_arithmetic_is_that_of_the_file() -> None:
    scorer = Scorer.decode(json.dumps(content()).encode())
    expected = 2.0 * (4.0 * np.tanh(-1.0) + 0.5) - 1.0
    assert scorer.log_odds(rows(2.0))[0] == pytest.approx(expected, rel=1e-5)
    assert scorer.risks(rows(2.0))[0] == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-5)
    assert (scorer.clear, scorer.identical) == (0.65, 0.001)


def test_features_beyond_what_was_seen_in_training_are_taken_at_the_border() -> None:
    scorer = Scorer.decode(json.dumps(content()).encode())
    assert scorer.risks(rows(1e6, 10.0))[0] == scorer.risks(rows(10.0))[0]


def test_a_candidate_is_scored_the_same_beside_others() -> None:
    scorer = Scorer.decode(json.dumps(content()).encode())
    assert scorer.risks(rows(0.3, -4.0, 2.0))[1] == pytest.approx(scorer.risks(rows(-4.0))[0])


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", json.dumps(content(extra=1)).encode()])
def test_what_is_no_scorer_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Scorer.decode(data)


@pytest.mark.parametrize("changes", [{"format": 2}, {"names": ["logit"]}])
def test_another_version_is_refused_with_what_to_do(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="make verifier"):
        Scorer.decode(json.dumps(content(**changes)).encode())
