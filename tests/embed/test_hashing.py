import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgecache.embed.hashing import HashingEmbedder


def vectors(*texts: str) -> np.ndarray:
    embedder = HashingEmbedder()
    return embedder.encode(embedder.tokenise(texts))


@given(st.lists(st.text(max_size=80), min_size=1, max_size=5))
def test_every_text_has_a_vector_of_length_one(texts: list[str]) -> None:
    found = vectors(*texts)
    assert found.shape == (len(texts), 384)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_vector_does_not_depend_on_its_batch_mates(text: str, mate: str) -> None:
    assert np.array_equal(vectors(text)[0], vectors(mate, text)[1])


def test_a_lone_surrogate_is_a_character_like_any_other() -> None:
    assert np.isfinite(vectors("\ud800")).all()


def test_case_and_punctuation_do_not_matter_but_words_and_their_order_do() -> None:
    plain, loud, other, turned = vectors("who beat Ali", "WHO beat Ali?!", "who beat Bob", "Ali beat who")
    assert plain @ loud > 0.999
    assert plain @ other < 0.8
    assert plain @ turned < 0.9


def test_the_fingerprint_tells_dimensions_apart() -> None:
    assert HashingEmbedder(256).fingerprint != HashingEmbedder(384).fingerprint
    assert HashingEmbedder(256).encode([[1, 2]]).shape == (1, 256)
