"""What an embedder is to the rest of the program, and what a batcher asks of whatever it runs."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

TokenIds: TypeAlias = Sequence[int]
"""One text as the embedder's own tokens, special ones included."""

Vector: TypeAlias = NDArray[np.float32]
"""One text as `dimension` numbers, of length 1: the inner product of two is their cosine similarity."""

Matrix: TypeAlias = NDArray[np.float32]
"""One vector a row."""


class Pair(NamedTuple):
    """Two texts that are judged together."""

    one: str
    other: str


Text_contra = TypeVar("Text_contra", bound=str | Pair, contravariant=True)


class Engine(Protocol[Text_contra]):
    """Turns texts, or pairs of them, into rows of numbers, which for none depend on its batch mates.

    Called by one thread at a time.
    """

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def dimension(self) -> int:
        """Numbers in a row."""
        ...

    @property
    def window(self) -> int:
        """The most tokens of one text or pair; nothing is ever cut to fit."""
        ...

    def tokenise(self, texts: Sequence[Text_contra]) -> list[TokenIds]:
        """The tokens of each text, however many; raises EmbedError for a text that cannot be tokenised."""
        ...

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        """A row for each of `batch`, each 1 … `window` tokens long; raises EmbedError, and nothing else."""
        ...


class Embedder(Engine[str], Protocol):
    """Turns texts into vectors; clients ask for it by its name."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever vectors may: model, digest of its weights, precision. Part of every cache key."""
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
