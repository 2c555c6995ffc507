"""What an embedder is to the rest of the program."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

TokenIds: TypeAlias = Sequence[int]
"""One text as the embedder's own tokens, special ones included."""

Vector: TypeAlias = NDArray[np.float32]
"""One text as `dimension` numbers, of length 1: the inner product of two is their cosine similarity."""

Matrix: TypeAlias = NDArray[np.float32]
"""One vector a row."""


class Embedder(Protocol):
    """Turns texts into vectors. Called by one thread at a time; what it returns does not depend on batch mates."""

    @property
    def name(self) -> str:
        """The model's name, as clients ask for it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever vectors may: model, digest of its weights, precision. Part of every cache key."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        ...

    @property
    def window(self) -> int:
        """The most tokens of one text; nothing is ever cut to fit."""
        ...

    @property
    def vocabulary(self) -> int:
        """Token ids are in 0 … vocabulary - 1."""
        ...

    @property
    def tolerance(self) -> float:
        """How far a similarity may be from that of the model in full precision."""
        ...

    @property
    def device(self) -> str:
        """Where it runs: `cpu`, `cuda`."""
        ...

    @property
    def precision(self) -> str:
        """What it computes in: `fp32`, `bf16`, `fp16`."""
        ...

    def tokenise(self, texts: Sequence[str]) -> list[TokenIds]:
        """The tokens of each text, however many; raises EmbedError for a text that cannot be tokenised."""
        ...

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        """The vectors of `batch`, each text 1 … `window` tokens long; raises EmbedError, and nothing else."""
        ...
