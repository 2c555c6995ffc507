"""The pair verifier: its files found and checked, and the way to a score for what runs on the event loop."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from edgecache import config
from edgecache.clock import Clock
from edgecache.embed import bert, manifest
from edgecache.embed.base import Engine, Pair
from edgecache.embed.batcher import SAMPLE, Batches, Meters
from edgecache.embed.cross_encoder import CrossEncoder
from edgecache.embed.sentence_transformer import find_device
from edgecache.errors import ConfigError
from edgecache.telemetry.metrics import Metrics

CALIBRATION = "scorer.json"
"""What `cache.scorer` reads: what a score is worth."""
FILES = ("config.json", "model.safetensors", "tokenizer.json", CALIBRATION)


class Verification(NamedTuple):
    """A verifier that was loaded: its network, and the file that says what its scores are worth."""

    engine: CrossEncoder
    calibration: bytes
    fingerprint: str
    """Changes whenever scores may: name, digest of its files, precision."""


def load(settings: config.Embed, manifest_path: Path) -> Verification:
    """The verifier of the manifest, from `embed.verifier` or the manifest's folder; raises ConfigError.

    Sets the number of torch's threads, which the whole process shares.
    """
    device = find_device(settings.device)
    pinned = manifest.read_verifier(manifest_path)
    for name in FILES:
        if name not in pinned.sha256:
            raise ConfigError(f"{manifest_path}: [verifier.sha256] lacks `{name}`")
    folder = Path(settings.verifier) if settings.verifier else manifest_path.parent / pinned.folder
    manifest.verify(pinned, folder)
    torch.set_num_threads(settings.threads)
    precision = _precision(device)
    engine = CrossEncoder(
        pinned.name,
        folder,
        window=pinned.window,
        device=device,
        precision=precision,
        max_tokens=settings.max_batch_tokens,
    )
    calibration = (folder / CALIBRATION).read_bytes()
    return Verification(engine, calibration, f"{pinned.name}:{pinned.digest[:16]}:{precision}")


def _precision(device: str) -> str:
    """Half precision where the device gains from it."""
    if device == "cuda":
        return "fp16"
    return "bf16" if bert.has_bf16_units() else "fp32"


class Verifier(Batches[Pair]):
    """Scores pairs of questions, under the rules and the deadline of the embedder."""

    def __init__(
        self,
        engine: Engine[Pair],
        settings: config.Embed,
        metrics: Metrics,
        clock: Clock,
        *,
        turn: "threading.Lock | None" = None,  # quoted: a function until Python 3.13
    ) -> None:
        """`turn` is that of the embedder's `Batcher`, so that only one of the two computes at a time."""
        meters = Meters(metrics.verify_batch, metrics.verify_pass, metrics.verify_queue)
        super().__init__(engine, Pair(SAMPLE, SAMPLE), settings, meters, clock, what="verifier", turn=turn)

    async def logits(self, question: str, texts: Sequence[str], *, deadline: float | None = None) -> list[float]:
        """How sure the network is of `question` against each of `texts`, in log-odds before calibration.

        Within `deadline` seconds (default: `embed.deadline`); a longer one marks work that can wait for others. Raises
        EmbedTimeout (too late, queue full), TextTooLong (a pair over the window; nothing is ever cut), EmbedError.
        """
        if not texts:
            return []
        request = await self._soon([Pair(question, text) for text in texts], deadline)
        logits: list[float] = request.matrix[:, 0].tolist()
        return logits
