"""Text to vectors: what an embedder is, those there are, and the thread that runs one. Importing it loads no torch."""

from pathlib import Path

from edgecache import config
from edgecache.embed import manifest
from edgecache.embed.base import Embedder
from edgecache.embed.hashing import HashingEmbedder


def open_embedder(settings: config.Embed, manifest_path: Path | None = None) -> Embedder:
    """The embedder that `settings` ask for, loaded and verified. Takes seconds: not for the event loop.

    `manifest_path` is the file that names the models, by default `manifest.default_path()`. Raises ConfigError for an
    unknown model, missing or altered weights, or a device that is not there.
    """
    if settings.model == "hashing":
        return HashingEmbedder()
    from edgecache.embed import sentence_transformer  # noqa: PLC0415 - torch, only where it is used

    path = manifest_path or manifest.default_path()
    return sentence_transformer.load(settings, manifest.find(manifest.read(path), settings.model))
