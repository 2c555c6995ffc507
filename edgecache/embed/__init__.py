"""Text to vectors and pairs of texts to scores: the engines there are, and the threads that run them.

Importing it loads no torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from edgecache import config
from edgecache.embed import manifest
from edgecache.embed.base import Embedder
from edgecache.embed.hashing import HashingEmbedder

if TYPE_CHECKING:
    from edgecache.embed.verifier import Verification


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


def open_verifier(settings: config.Embed, manifest_path: Path | None = None) -> "Verification | None":
    """The pair verifier that `settings` ask for, loaded and checked; None without one. Takes a second.

    There is none for `embed.verifier = ""`, nor beside the `hashing` embedder. `manifest_path` is as for
    `open_embedder`. Raises ConfigError for missing or altered files, or a device that is not there.
    """
    if settings.verifier == "" or settings.model == "hashing":
        return None
    from edgecache.embed import verifier  # noqa: PLC0415 - torch, only where it is used

    return verifier.load(settings, manifest_path or manifest.default_path())
