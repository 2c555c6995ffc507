import math
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecache.errors import ConfigError
from edgecache.router.complexity import Complexity

SHIPPED = Path(__file__).parents[2] / "models" / "complexity" / "model.json"
FILE = {
    "format": 1,
    "embedder": "tiny",
    "dimension": 2,
    "weights": [1.0, -2.0],
    "bias": 0.5,
    "slope": 2.0,
    "offset": -0.25,
    "low": 0.1,
    "high": 0.9,
}


def made(**changes: object) -> bytes:
    return msgspec.json.encode(FILE | changes)


def vector(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def test_the_probability_is_that_of_the_calibrated_line() -> None:
    judge = Complexity.decode(made(), "tiny", 2)
    odds = 2.0 * (0.6 * 1.0 + 0.3 * -2.0 + 0.5) - 0.25
    assert judge.probability(vector(0.6, 0.3)) == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-6)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_probability_stays_where_calibration_was_seen_to_hold(x: float, y: float) -> None:
    assert 0.1 <= Complexity.decode(made(), "tiny", 2).probability(vector(x, y)) <= 0.9


def test_the_bounds_are_reached() -> None:
    judge = Complexity.decode(made(), "tiny", 2)
    assert judge.probability(vector(100, 0)) == 0.9
    assert judge.probability(vector(-100, 0)) == 0.1


@pytest.mark.parametrize(("embedder", "dimension"), [("other", 2), ("tiny", 3)])
def test_vectors_of_another_embedder_are_refused(embedder: str, dimension: int) -> None:
    with pytest.raises(ConfigError, match="is for vectors of tiny"):
        Complexity.decode(made(), embedder, dimension)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        made(extra=1),
        made(weights="x"),
        made(format=2),
        made(weights=[1.0]),
        made(low=0.95),
        made(high=1.5),
    ],
)
def test_a_file_that_is_not_one_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="complexity estimate"):
        Complexity.decode(data, "tiny", 2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json"):
        Complexity.read(tmp_path / "none.json", "tiny", 2)


def test_what_is_shipped_fits_the_embedder_that_is_shipped() -> None:
    judge = Complexity.read(SHIPPED, "all-MiniLM-L6-v2", 384)
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((200, 384)).astype(np.float32)
    said = [judge.probability(row / np.linalg.norm(row)) for row in drawn]
    assert judge.low <= min(said) < max(said) <= judge.high
    assert 0.7 < judge.high < 0.9, "the card says that nothing surer than this was seen to hold"


def test_an_estimate_takes_microseconds() -> None:
    judge = Complexity.read(SHIPPED, "all-MiniLM-L6-v2", 384)
    zero = np.zeros(384, np.float32)
    took = []
    for _ in range(200):
        began = time.perf_counter()
        judge.probability(zero)
        took.append(time.perf_counter() - began)
    assert min(took) < 20e-6
