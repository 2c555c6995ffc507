import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.store.flat import Flat, best

DIMENSION = 16


def rows(ids: list[int]) -> np.ndarray:
    """Unit vectors that depend on the id alone."""
    found = np.stack([np.random.default_rng(i).standard_normal(DIMENSION) for i in ids])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def array(ids: list[int]) -> np.ndarray:
    return np.array(ids, np.int64)


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 200), max_size=80, unique=True)), max_size=8))
def test_it_holds_and_finds_what_a_dict_would_through_adds_and_removals(steps) -> None:
    flat, held = Flat(DIMENSION), {}
    for adding, ids in steps:
        if adding:
            new = [i for i in ids if i not in held]
            if new:
                flat.add(array(new), rows(new))
                held |= dict(zip(new, rows(new), strict=True))
        else:
            assert flat.remove(array(ids)) == len(held.keys() & set(ids))
            held = {i: row for i, row in held.items() if i not in ids}
        assert len(flat) == len(held)
        assert sorted(flat.ids().tolist()) == sorted(held)
        query = rows([1000])[0].astype(np.float32)
        found, similarities = flat.search(query, 5)
        exact = {i: float(row.astype(np.float32) @ query) for i, row in held.items()}
        assert sorted(similarities.tolist(), reverse=True) == similarities.tolist()
        assert similarities.tolist() == pytest.approx(sorted(exact.values(), reverse=True)[:5], abs=1e-5)
        assert [exact[i] for i in found.tolist()] == pytest.approx(similarities.tolist(), abs=1e-5)
        piece = flat.piece(0)
        assert (piece is None) == (not held)
        if piece is not None:
            assert all(np.array_equal(held[i], row) for i, row in zip(piece[0].tolist(), piece[1], strict=True))
        assert flat.piece(1) is None
        assert flat.has(7) == (7 in held)


def test_a_piece_is_a_copy() -> None:
    for count in (3, 300):
        flat = Flat(DIMENSION)
        flat.add(array(list(range(count))), rows(list(range(count))))
        ids, vectors = flat.piece(0)
        flat.remove(array([0, 1]))
        assert ids.tolist() == list(range(count))
        assert np.array_equal(vectors, rows(list(range(count))))


def test_the_best_of_many_are_sorted_and_ties_keep_their_order() -> None:
    ids, similarities = best(array([5, 6, 7, 8]), np.array([0.5, 0.9, 0.9, 0.1], np.float32), 3)
    assert ids.tolist() == [6, 7, 5]
    assert similarities.tolist() == pytest.approx([0.9, 0.9, 0.5])
    assert best(array([]), np.array([], np.float32), 3)[0].tolist() == []
