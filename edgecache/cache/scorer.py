"""The last step of the score: features to the calibrated probability that a stored answer is wrong. Pure numpy.

A few small networks, averaged, whose weights and calibration `models/verifier/calibrate.py` fits and writes.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgecache.cache import features
from edgecache.errors import ConfigError

Array = NDArray[np.float32]

FORMAT: Final = 1


class _Member(msgspec.Struct, frozen=True):
    """One hidden layer: `hidden` has shape (features, units), the others (units,)."""

    hidden: list[list[float]]
    bias: list[float]
    out: list[float]
    shift: float


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    names: tuple[str, ...]
    mean: list[float]
    scale: list[float]
    low: list[float]
    high: list[float]
    members: list[_Member]
    slope: float
    offset: float
    clear: float
    identical: float


class Scorer:
    """Risks of candidates from their features."""

    def __init__(self, file: _File) -> None:
        self._mean, self._scale = np.array(file.mean, np.float32), np.array(file.scale, np.float32)
        self._low, self._high = np.array(file.low, np.float32), np.array(file.high, np.float32)
        self._hidden = np.stack([np.array(member.hidden, np.float32) for member in file.members])
        self._bias = np.stack([np.array(member.bias, np.float32) for member in file.members])[:, None]
        self._out = np.stack([np.array(member.out, np.float32) for member in file.members])[:, :, None]
        self._shift = np.array([member.shift for member in file.members], np.float32)
        self._slope, self._offset = file.slope, file.offset
        self.clear = file.clear
        """Similarity below which the verifier need not be asked: such a candidate is never served."""
        self.identical = file.identical
        """Risk of a candidate in the same words."""

    @classmethod
    def decode(cls, data: bytes) -> "Scorer":
        """The scorer that `data`, the content of `scorer.json`, describes. Raises ConfigError."""
        try:
            file = msgspec.json.decode(data, type=_File)
        except msgspec.DecodeError as error:
            raise ConfigError(f"the verifier's scorer.json cannot be read: {error}") from error
        if file.format != FORMAT or file.names != features.NAMES:
            raise ConfigError("the verifier's scorer.json is of another version: train it again (make verifier)")
        return cls(file)

    def log_odds(self, rows: Array) -> Array:
        """Calibrated log-odds of a wrong answer, for rows of shape (candidates, features)."""
        x = (np.clip(rows, self._low, self._high) - self._mean) / self._scale
        units = np.tanh(x @ self._hidden + self._bias)
        raw = (units @ self._out)[:, :, 0].mean(0) + self._shift.mean()
        odds: Array = self._slope * raw + self._offset
        return odds

    def risks(self, rows: Array) -> list[float]:
        """The probability of a wrong answer for each row."""
        return [float(risk) for risk in 1.0 / (1.0 + np.exp(-self.log_odds(rows).astype(np.float64)))]
