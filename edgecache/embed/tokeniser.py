"""A text as the tokens of a model: the model's own `tokenizer.json`, nothing cut and nothing padded."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from edgecache.embed.base import TokenIds
from edgecache.errors import EmbedError


class Tokeniser:
    """The tokeniser in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The file of all-MiniLM-L6-v2 cuts at 128 tokens: texts with one long prefix would become one vector.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocabulary: int = self._tokenizer.get_vocab_size()

    def __call__(self, texts: Sequence[str]) -> list[TokenIds]:
        """The tokens of each text; raises EmbedError for one that is not Unicode (a lone surrogate).

        One at a time: `encode_batch` would start a thread for every core.
        """
        try:
            return [self._tokenizer.encode(text).ids for text in texts]
        except (TypeError, ValueError) as error:
            raise EmbedError("the text cannot be tokenised: it is not valid Unicode") from error
