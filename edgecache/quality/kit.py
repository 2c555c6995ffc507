"""The models of a benchmark, opened once, and the rooms that are made with them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgecache import config, embed
from edgecache.cache.scorer import Scorer
from edgecache.embed.base import Embedder, Engine, Matrix, Pair
from edgecache.errors import ConfigError
from edgecache.quality.datasets import Stream
from edgecache.quality.room import Room
from edgecache.quality.signals import Logits, Neighbours, Progress, Vectors, silent


class Kit:
    """Embedder, pair verifier and scorer; what they say is kept under `cache`. Without a verifier, `engine` is None."""

    def __init__(
        self,
        embedder: Embedder,
        cache: Path,
        progress: Progress = silent,
        *,
        engine: Engine[Pair] | None = None,
        fingerprint: str = "",
        scorer: Scorer | None = None,
    ) -> None:
        """`fingerprint` is the engine's: what it said is kept under that name."""
        self.embedder = embedder
        self.cache = cache
        self.progress = progress
        self.engine = engine
        self.scorer = scorer
        self._fingerprint = fingerprint
        self._vectors = Vectors(embedder, cache, progress)

    @classmethod
    def open(cls, settings: config.Embed, cache: Path, progress: Progress = silent) -> "Kit":
        """The models that `settings` name. Raises ConfigError for missing or altered files."""
        embedder, verification = embed.open_embedder(settings), embed.open_verifier(settings)
        if verification is None:
            return cls(embedder, cache, progress)
        return cls(
            embedder,
            cache,
            progress,
            engine=verification.engine,
            fingerprint=verification.fingerprint,
            scorer=Scorer.decode(verification.calibration),
        )

    @property
    def models(self) -> dict[str, str]:
        """Fingerprints of what takes part."""
        return {"embedder": self.embedder.fingerprint, "verifier": self._fingerprint or "none"}

    def demand_verifier(self) -> None:
        """Raise ConfigError without a verifier: figures for the default policy would be those of an exact cache."""
        if self.scorer is None:
            raise ConfigError("this needs the pair verifier: embed.verifier is empty, or embed.model is `hashing`")

    def vectors(self, texts: Sequence[str]) -> Matrix:
        """One row a text."""
        return self._vectors.of(texts)

    def logits(self, texts: Sequence[str]) -> Logits:
        """The verifier's word on pairs of `texts`."""
        return Logits(texts, self.engine, self._fingerprint, self.cache, self.progress)

    def room(self, stream: Stream, more: Sequence[str] = ()) -> Room:
        """The questions of `stream`, and `more` that are only ever entries."""
        texts = (*stream.texts, *more)
        rows = self.vectors(stream.texts)
        if more:
            rows = np.concatenate([rows, self.vectors(more)])
        found = Neighbours.among(rows, len(stream.texts), progress=self.progress)
        return Room(texts, rows, found, self.logits(texts), self.scorer)
