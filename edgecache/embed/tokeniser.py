"""Texts and pairs of them as the tokens of a model: its own `tokenizer.json`, nothing cut and nothing padded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgecache.embed.base import Pair, TokenIds
from edgecache.errors import EmbedError


class Tokeniser:
    """The tokeniser in `folder`, for single texts."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _open(folder)
        self.vocabulary: int = self._tokenizer.get_vocab_size()

    def __call__(self, texts: Sequence[str]) -> list[TokenIds]:
        """The tokens of each text; raises EmbedError for one that is not Unicode (a lone surrogate).

        One at a time: `encode_batch` would start a thread for every core.
        """
        try:
            return [self._tokenizer.encode(text).ids for text in texts]
        except (TypeError, ValueError) as error:
            raise _not_unicode() from error


class PairTokeniser:
    """The tokeniser in `folder`, for pairs: `[CLS] a [SEP] b [SEP]`."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _open(folder)
        # Who writes `[SEP]` into a question means those letters: it must not move the border between the texts.
        self._tokenizer.encode_special_tokens = True
        self.separator: int = self._tokenizer.token_to_id("[SEP]")

    def __call__(self, texts: Sequence[Pair]) -> list[TokenIds]:
        """The tokens of each pair; raises EmbedError for what is not Unicode."""
        try:
            return [self._tokenizer.encode(*pair).ids for pair in texts]
        except (TypeError, ValueError) as error:
            raise _not_unicode() from error


def _open(folder: Path) -> Any:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # The file of all-MiniLM-L6-v2 cuts at 128 tokens: texts with one long prefix would become one vector.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _not_unicode() -> EmbedError:
    return EmbedError("the text cannot be tokenised: it is not valid Unicode")
