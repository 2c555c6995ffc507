import numpy as np
import pytest

from edgecache.store import coded
from edgecache.store.coded import SEGMENT, Coded, Lists, codes_of

DIMENSION = 64


def clustered(count: int, *, seed: int = 0, dimension: int = DIMENSION) -> np.ndarray:
    """Unit vectors in clusters, as questions are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 20), dimension))
    rows = centres[rng.integers(0, len(centres), count)] + 0.4 * rng.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def near(row: np.ndarray, seed: int) -> np.ndarray:
    """Another wording: similarity about 0.95."""
    noise = np.random.default_rng(seed).standard_normal(len(row))
    moved = row + 0.33 * noise / np.linalg.norm(noise)
    return (moved / np.linalg.norm(moved)).astype(np.float32)


def filled(rows: np.ndarray) -> Coded:
    made = Coded(rows.shape[1])
    made.add(np.arange(len(rows)), rows.astype(np.float16))
    return made


def recall(index: Coded, rows: np.ndarray, step: int) -> float:
    queries = [(near(rows[i], i)) for i in range(0, len(rows), step)]
    hits = [index.search(query, 8)[0][0] == int(np.argmax(rows @ query)) for query in queries]
    return float(np.mean(hits))


def test_the_nearest_is_found_by_sign_codes_with_exact_similarities() -> None:
    rows = clustered(6000, dimension=384)
    index = filled(rows)
    assert recall(index, rows, 40) >= 0.99
    query = near(rows[5], 1)
    ids, similarities = index.search(query, 8)
    assert similarities.tolist() == pytest.approx((rows[ids] @ query).tolist(), abs=2e-3)
    assert similarities.tolist() == sorted(similarities.tolist(), reverse=True)


def test_inverted_lists_find_it_too_through_additions_and_removals() -> None:
    rows = clustered(8000, dimension=384)
    index = filled(rows[:5000])
    copies = index.building()
    index.add(np.arange(5000, 6000), rows[5000:6000].astype(np.float16))  # while the lists are being built
    index.adopt(Lists.build(*copies))
    index.add(np.arange(6000, 8000), rows[6000:].astype(np.float16))
    assert index.lists is not None
    assert index.lists.index.ntotal == 8000
    assert recall(index, rows, 80) >= 0.99
    gone = np.arange(0, 8000, 2)
    assert index.remove(gone) == 4000
    assert index.changed == 1000 + 2000 + 4000
    for i in range(0, 400, 5):
        ids, _ = index.search(near(rows[i], i), 8)
        assert len(ids) == 8
        assert not set(ids.tolist()) & set(gone.tolist())


def test_what_was_removed_and_added_again_is_found_once() -> None:
    rows = clustered(1000)
    index = filled(rows)
    index.adopt(Lists.build(*index.building()))
    index.remove(np.array([3]))
    index.add(np.array([3]), rows[3:4].astype(np.float16))
    ids, _ = index.search(rows[3], 8)
    assert ids[0] == 3
    assert len(set(ids.tolist())) == len(ids)


def test_a_neighbourhood_that_was_removed_does_not_hide_what_lies_behind_it() -> None:
    rows = clustered(3000)
    index = filled(rows)
    index.adopt(Lists.build(*index.building()))
    query = rows[0]
    nearest = np.argsort(-(rows @ query))
    index.remove(nearest[:2990])
    ids, _ = index.search(query, 8)
    assert set(ids.tolist()) <= set(nearest[2990:].tolist())
    assert len(ids) == 8


def test_removals_leave_no_trace_in_segments_and_their_room_is_used_again() -> None:
    rows = clustered(SEGMENT + 1000, dimension=8)
    index = filled(rows)
    assert len(index._segments) == 2
    assert index.remove(np.arange(0, SEGMENT, 2)) == SEGMENT // 2
    assert index.remove(np.arange(0, SEGMENT, 2)) == 0
    index.add(np.arange(0, SEGMENT, 2), rows[:SEGMENT:2].astype(np.float16))
    assert len(index._segments) == 2
    assert len(index) == len(rows)
    assert sorted(index.ids().tolist()) == list(range(len(rows)))
    seen = {}
    number = 0
    while (piece := index.piece(number)) is not None:
        seen |= dict(zip(piece[0].tolist(), piece[1], strict=True))
        number += 1
    assert all(np.array_equal(seen[i], rows[i].astype(np.float16)) for i in range(0, len(rows), 997))
    assert index.search(rows[SEGMENT + 5], 1)[0].tolist()[0] in range(len(rows))


def test_codes_of_a_stored_row_and_of_its_query_are_the_same() -> None:
    rows = np.array([[0.0, -0.0, 1.0, -1.0, 1e-9, -1e-9, 0.5, -0.5, 0.25]], np.float32)
    assert codes_of(rows.astype(np.float16)).shape == (1, 2)
    index = Coded(9)
    index.add(np.array([4]), rows.astype(np.float16))
    assert index.search(rows[0], 3)[0].tolist() == [4]


def test_exact_steps_cover_every_block_once_and_leave_out_the_query_itself() -> None:
    rows = clustered(3 * coded._BLOCK + 10, dimension=16)
    index = filled(rows)
    ids, queries = index.sample([0.0, 0.4, 0.999])
    best = np.full(3, -1.0, np.float32)
    step = 0
    while (found := index.exact_step(step, ids, queries)) is not None:
        best = np.maximum(best, found)
        step += 1
    similarities = queries @ rows.astype(np.float16).astype(np.float32).T
    similarities[np.arange(3), ids] = -1.0
    assert best.tolist() == pytest.approx(similarities.max(axis=1).tolist(), abs=1e-5)
