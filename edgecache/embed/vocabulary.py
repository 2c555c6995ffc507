"""Counting tokens as a served model counts them: by its own `tokenizer.json`. Nothing is embedded here."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from edgecache import config
from edgecache.errors import ConfigError


class Vocabulary:
    """The tokeniser of one served model. May be used by several threads at a time."""

    def __init__(self, path: str) -> None:
        """Read `path`, a `tokenizer.json`; takes up to a second. Raises ConfigError where it cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_buffer(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"upstream.model.tokenizer: {path}: {error}") from error
        # A file may say to cut or to fill up texts: the tokens that the model is sent are wanted, all of them.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        """Tokens in `text`, without special ones: those belong to the chat template. About 0.4 ms a KB."""
        sound = text.encode("utf-8", "replace").decode()  # a lone surrogate, from a function's own request
        return len(self._tokenizer.encode(sound, add_special_tokens=False))


def read(upstreams: Iterable[config.Upstream]) -> dict[str, Vocabulary]:
    """The vocabulary of each model that `upstreams` name one for, by the model's name.

    Each file is read once; where upstreams disagree about a model, the first one's is taken. Takes up to a second a
    file: not for the event loop. Raises ConfigError.
    """
    files: dict[str, Vocabulary] = {}
    found: dict[str, Vocabulary] = {}
    for model in (model for upstream in upstreams for model in upstream.model):
        if model.tokenizer is None or model.name in found:
            continue
        if model.tokenizer not in files:
            files[model.tokenizer] = Vocabulary(model.tokenizer)
        found[model.name] = files[model.tokenizer]
    return found
