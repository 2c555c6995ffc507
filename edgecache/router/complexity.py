"""How likely a small model's answer is good enough, from the vector of the question. A hint: see its model card.

`models/complexity` has the weights, what they were learned from, and what they are worth. Pure but for reading a file.
"""

from math import exp
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgecache.errors import ConfigError

FORMAT: Final = 1
Vector = NDArray[np.float32]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    embedder: str
    dimension: int
    weights: list[float]
    bias: float
    slope: float
    offset: float
    low: float
    high: float


class Complexity:
    """A ridge logistic regression on a vector of length 1, its calibration (Platt), and the range where this holds."""

    def __init__(self, file: _File) -> None:
        # One product and one sum: the calibration is part of them.
        self._weights: Vector = np.array(file.weights, np.float32) * np.float32(file.slope)
        self._bias = file.slope * file.bias + file.offset
        self.low, self.high = file.low, file.high
        """No probability is outside of these: beyond, there was nothing to calibrate on."""

    @classmethod
    def read(cls, path: Path, embedder: str, dimension: int) -> "Complexity":
        """The estimate in `path`, `model.json`, for vectors of `embedder`. Raises ConfigError."""
        try:
            return cls.decode(path.read_bytes(), embedder, dimension)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error

    @classmethod
    def decode(cls, data: bytes, embedder: str, dimension: int) -> "Complexity":
        """The estimate that `data` describes, for vectors of `embedder`, which have `dimension` numbers.

        Raises ConfigError where it cannot be read, is of another version, or was trained on other vectors.
        """
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"the complexity estimate cannot be read: {error}") from error
        if file.format != FORMAT or len(file.weights) != file.dimension or not 0 <= file.low <= file.high <= 1:
            raise ConfigError("the complexity estimate is of another version: train it again (make complexity)")
        if (file.embedder, file.dimension) != (embedder, dimension):
            raise ConfigError(
                f"the complexity estimate is for vectors of {file.embedder} ({file.dimension} numbers), not of "
                f"{embedder} ({dimension}): `router.route.small` needs that embedder, or an estimate of its own"
            )
        return cls(file)

    def probability(self, vector: Vector) -> float:
        """How likely a small model answers the question with this vector well enough."""
        odds = float(self._weights @ vector) + self._bias
        # exp of a large number overflows; beyond 30 the bounds have decided.
        return min(max(1.0 / (1.0 + exp(-min(max(odds, -30.0), 30.0))), self.low), self.high)
