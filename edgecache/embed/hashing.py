"""An embedder without a model: identical words, identical vector.

For tests of other parts, for development without torch, and for a POP that wants `semantic` hits on reordered white
space, case and punctuation only. It knows no synonyms; do not judge the cache by it.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np

from edgecache.embed.base import Matrix, TokenIds, Vector

_WORD = re.compile(r"\w+")


class HashingEmbedder:
    """Signed feature hashing of words and pairs of neighbouring words (Weinberger et al. 2009), scaled to length 1."""

    name = "hashing"
    window = 512
    vocabulary = 2**32
    tolerance = 0.0
    device = "cpu"
    precision = "fp32"

    def __init__(self, dimension: int = 384) -> None:
        self.dimension = dimension
        self.fingerprint = f"hashing:1:{dimension}"

    def tokenise(self, texts: Sequence[str]) -> list[TokenIds]:
        """A 32-bit hash for each word, case ignored; a text without words is one token."""
        return [
            [crc32(word.encode("utf-8", "surrogatepass")) for word in _WORD.findall(text.casefold())] or [crc32(b"")]
            for text in texts
        ]

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        """One row a text."""
        return np.stack([self._vector(ids) for ids in batch])

    def _vector(self, ids: TokenIds) -> Vector:
        features = [*ids, *(crc32(f"{a} {b}".encode()) for a, b in pairwise(ids))]
        vector: Vector = np.zeros(self.dimension, dtype=np.float32)
        for feature in features:
            vector[feature % self.dimension] += 1.0 if feature >> 31 else -1.0
        if not vector.any():  # every feature met its opposite
            vector[0] = 1.0
        return vector / np.linalg.norm(vector)
