from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgecache.embed.hashing import HashingEmbedder
from edgecache.quality.signals import Logits, Neighbours, Vectors

TEXTS = ("where is the bus", "the bus is where", "why is it late", "late it is why", "a b c d")


def test_vectors_are_in_order_and_kept_on_disk(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    found = Vectors(embedder, tmp_path).of(TEXTS)
    for row, text in zip(found, TEXTS, strict=True):
        np.testing.assert_array_equal(row, embedder.encode(embedder.tokenise([text]))[0])
    (file,) = tmp_path.iterdir()
    np.save(file, found + 1)
    again = Vectors(embedder, tmp_path)
    np.testing.assert_array_equal(again.of(TEXTS), found + 1)
    np.testing.assert_array_equal(again.of(TEXTS[3:1:-1]), (found + 1)[3:1:-1])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_text_is_embedded_once() -> None:
    steps: list[int] = []
    vectors = Vectors(HashingEmbedder(), None, lambda _what, _done, total: steps.append(total))
    vectors.of(TEXTS[:3])
    vectors.of([*TEXTS, *TEXTS])
    vectors.of(TEXTS)
    assert steps == [3, 2]


@pytest.mark.parametrize("many", [3, 40, 700])
def test_neighbours_are_those_of_brute_force(many: int) -> None:
    rows = np.random.default_rng(many).normal(size=(many, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = Neighbours.among(rows, depth=5)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -2)
    for i in range(many):
        best = np.argsort(-scores[i], kind="stable")[: min(5, many - 1)]
        assert found.ids[i].tolist() == best.tolist()
        np.testing.assert_allclose(found.similarities[i], scores[i][best])


def test_neighbours_of_the_first_rows_only() -> None:
    rows = np.eye(6, 4, dtype=np.float32)
    assert len(Neighbours.among(rows, 2, depth=3).ids) == 2


def test_a_pair_is_asked_once_whatever_its_order_and_run(tmp_path: Path, engine) -> None:
    logits = Logits(TEXTS, engine, "e:1", tmp_path)
    assert logits.of(0, [1])[1] == logits.of(1, [0])[0]
    assert engine.pairs == 1
    logits.save()
    again = Logits((*TEXTS[::-1], "more"), engine, "e:1", tmp_path)
    assert again.of(4, [3])[3] == pytest.approx(logits.of(0, [1])[1])
    assert engine.pairs == 1
    Logits(TEXTS, engine, "e:2", tmp_path).of(0, [1])
    assert engine.pairs == 2


def test_what_others_saved_meanwhile_is_kept(tmp_path: Path, engine) -> None:
    one, other = Logits(TEXTS, engine, "e", tmp_path), Logits(TEXTS, engine, "e", tmp_path)
    one.want([(0, 1)])
    other.want([(2, 3)])
    one.save()
    other.save()
    asked = engine.pairs
    both = Logits(TEXTS, engine, "e", tmp_path)
    both.want([(0, 1), (3, 2)])
    assert engine.pairs == asked


def test_a_pair_that_is_too_long_has_no_logit(engine) -> None:
    logits = Logits(("word " * 100, "word"), engine)
    assert logits.of(0, [1]) == {}


def test_without_a_verifier_there_are_no_logits() -> None:
    assert Logits(TEXTS, None).of(0, [1, 2]) == {}


def test_who_keeps_the_same_at_once_does_not_read_halves(tmp_path: Path) -> None:
    texts = TEXTS * 400  # embedded soon, and then much to write
    rows = Vectors(HashingEmbedder()).of(texts)

    def kept(turn: int) -> bool:
        return bool((Vectors(HashingEmbedder(), tmp_path / str(turn // 8)).of(texts) == rows).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(kept, range(80)))
    assert not list(tmp_path.glob("*/*.tmp"))
