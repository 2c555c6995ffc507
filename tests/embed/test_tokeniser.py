import pytest

from edgecache.embed import manifest
from edgecache.embed.tokeniser import Tokeniser
from edgecache.errors import EmbedError

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    return Tokeniser(manifest.locate(manifest.find(manifest.read(manifest.default_path()), "all-MiniLM-L6-v2")))


def test_texts_become_word_pieces_between_the_special_tokens(tokeniser: Tokeniser) -> None:
    assert tokeniser(["Hello world", ""]) == [[101, 7592, 2088, 102], [101, 102]]
    assert tokeniser.vocabulary == 30522


def test_nothing_is_cut_or_padded(tokeniser: Tokeniser) -> None:
    long, short = tokeniser(["hello " * 700, "hello"])
    assert len(long) == 702
    assert len(short) == 3


def test_what_is_not_unicode_is_an_embed_error(tokeniser: Tokeniser) -> None:
    with pytest.raises(EmbedError, match="Unicode"):
        tokeniser(["\ud800"])
