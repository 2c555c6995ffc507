"""Embedders that run on torch: the short forward of `bert` on CPU, sentence-transformers for everything else."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

from edgecache import config
from edgecache.embed import bert, manifest
from edgecache.embed.base import Matrix, TokenIds
from edgecache.embed.tokeniser import Tokeniser
from edgecache.errors import ConfigError, EmbedError

Forward: TypeAlias = Callable[[Sequence[TokenIds]], Matrix]

_HALF = {"cuda": "fp16", "cpu": "bf16"}


def load(settings: config.Embed, model: manifest.Model) -> "TorchEmbedder":
    """Find, verify and load `model` for the device that `settings` ask for; raises ConfigError.

    Sets the number of torch's threads, which the whole process shares.
    """
    device = find_device(settings.device)
    folder = manifest.locate(model, Path(settings.path) if settings.path else None)
    manifest.verify(model, folder)
    torch.set_num_threads(settings.threads)
    precision = _precision(model, device)
    return TorchEmbedder(model, folder, device=device, precision=precision, max_tokens=settings.max_batch_tokens)


def find_device(asked: str) -> str:
    """The device to run on: `cpu` or `cuda`. Raises ConfigError where CUDA is asked for and there is none."""
    cuda = torch.cuda.is_available()
    if asked == "cuda" and not cuda:
        raise ConfigError("embed.device: `cuda` asked for, but torch finds no CUDA device; use `auto` or `cpu`")
    return "cuda" if cuda and asked != "cpu" else "cpu"


def _precision(model: manifest.Model, device: str) -> str:
    """Half precision where the device gains from it and the manifest says how far it is off."""
    half = _HALF[device]
    gains = device == "cuda" or (model.forward == "bert" and bert.has_bf16_units())
    return half if gains and half in model.tolerance else "fp32"


class TorchEmbedder:
    """A model of the manifest, loaded."""

    def __init__(
        self, model: manifest.Model, folder: Path, *, device: str, precision: str, max_tokens: int = 8192
    ) -> None:
        """Load the verified files of `folder`. `max_tokens`, padding included, go through one forward pass."""
        self.name = model.name
        self.fingerprint = f"{model.name}:{model.digest[:16]}:{precision}"
        self.dimension = model.dimension
        self.window = model.window
        self.tolerance = model.tolerance[precision]
        self.device = device
        self.precision = precision
        self.tokenise = Tokeniser(folder)
        self.vocabulary = self.tokenise.vocabulary
        own = model.forward == "bert" and device == "cpu"
        self._forward: Forward = (
            bert.Bert(folder, precision) if own else _Library(folder, device, precision, max_tokens)
        )

    def encode(self, batch: Sequence[TokenIds]) -> Matrix:
        """The vectors of `batch`; raises EmbedError for whatever torch raises (CUDA out of memory, unknown token)."""
        try:
            return self._forward(batch)
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            raise EmbedError(f"the embedder failed: {type(error).__name__}: {error}") from error


class _Library:
    """sentence-transformers' own modules, on token ids."""

    def __init__(self, folder: Path, device: str, precision: str, max_tokens: int) -> None:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - seconds to import
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

        disable_progress_bar()
        self._model: Any = SentenceTransformer(str(folder), device=device, local_files_only=True)
        if precision == "fp16":
            self._model.half()
        self._device = device
        self._max_tokens = max_tokens

    def __call__(self, batch: Sequence[TokenIds]) -> Matrix:
        lengths = [len(text) for text in batch]
        order = sorted(range(len(batch)), key=lengths.__getitem__)
        with torch.inference_mode():
            parts = bert.parts(lengths, order, self._max_tokens)
            found = torch.cat([self._pass([batch[i] for i in part]) for part in parts])
            vectors = torch.empty_like(found)
            vectors[torch.tensor(order)] = found
            matrix: Matrix = vectors.numpy()
        return matrix

    def _pass(self, texts: Sequence[TokenIds]) -> Any:
        longest = max(map(len, texts))
        # Padding is masked, so the token it is made of does not matter.
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=self._device)
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts], device=self._device)
        out = self._model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
        return torch.nn.functional.normalize(out.float(), dim=1).cpu()
