from pathlib import Path

import pytest

from edgecache.embed.base import Pair
from edgecache.embed.tokeniser import PairTokeniser, Tokeniser
from edgecache.errors import EmbedError

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def tokeniser(minilm: Path) -> Tokeniser:
    return Tokeniser(minilm)


@pytest.fixture(scope="module")
def pairs(minilm: Path) -> PairTokeniser:
    return PairTokeniser(minilm)


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


def test_a_pair_is_one_text_with_a_border(pairs: PairTokeniser) -> None:
    assert pairs([Pair("hello", "world"), Pair("", "")]) == [[101, 7592, 102, 2088, 102], [101, 102, 102]]
    assert pairs.separator == 102


def test_a_border_that_somebody_wrote_is_letters(pairs: PairTokeniser, tokeniser: Tokeniser) -> None:
    ((first, *between, last),) = pairs([Pair("a [SEP] b", "c [CLS]")])
    assert (first, last) == (101, 102)
    assert between.count(102) == 1
    assert 101 not in between
    assert tokeniser(["a [SEP]"])[0].count(102) == 2, "the embedder's vectors stay as they are everywhere else"


def test_a_pair_that_is_not_unicode_is_an_embed_error(pairs: PairTokeniser) -> None:
    with pytest.raises(EmbedError, match="Unicode"):
        pairs([Pair("fine", "\ud800")])
