import asyncio
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from edgecache import config
from edgecache.errors import StoreError
from edgecache.store.coded import Coded
from edgecache.store.flat import Flat
from edgecache.store.vectors import VectorIndex

DIMENSION = 128
ONE, TWO = b"1" * 16, b"2" * 16

OpenIndex = Callable[..., VectorIndex]


def clustered(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 20), DIMENSION))
    rows = centres[rng.integers(0, len(centres), count)] + 0.4 * rng.standard_normal((count, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def piece(scope: bytes, rows: np.ndarray, start: int = 1) -> tuple[bytes, Any, Any]:
    return scope, np.arange(start, start + len(rows)), rows.astype(np.float16)


@pytest.fixture
def open_index() -> Iterator[OpenIndex]:
    opened: list[VectorIndex] = []

    def make(**settings: Any) -> VectorIndex:
        index = VectorIndex(config.Store(**settings), dimension=DIMENSION, rng=Random(1))
        opened.append(index)
        return index

    yield make
    for index in opened:
        index.close()


async def test_the_nearest_come_first_with_their_cosine(open_index) -> None:
    index = open_index()
    rows = clustered(50)
    for i, row in enumerate(rows):
        await index.add(i + 1, ONE, row)
    found = await index.search(ONE, rows[7], 5)
    assert found[0].entry_id == 8
    assert found[0].similarity == pytest.approx(1.0, abs=2e-3)
    assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
    assert index.count == 50


@pytest.mark.parametrize("flat_max", [10, 4096], ids=["coded", "flat"])
async def test_a_search_never_leaves_its_scope(open_index, flat_max) -> None:
    index = open_index(flat_max=flat_max)
    rows = clustered(200)
    await index.add_rows([piece(ONE, rows[:100], 1), piece(TWO, rows[100:], 101)])
    for row in rows:
        assert all(n.entry_id <= 100 for n in await index.search(ONE, row, 100))
        assert all(n.entry_id > 100 for n in await index.search(TWO, row, 100))
    assert await index.search(b"3" * 16, rows[0], 5) == []


async def test_an_id_that_is_here_is_not_added_again_and_a_removed_one_is_gone(open_index) -> None:
    index = open_index()
    rows = clustered(3)
    await index.add(1, ONE, rows[0])
    await index.add(1, ONE, rows[1])
    await index.add_rows([piece(ONE, rows, 1)])
    assert index.count == 3
    assert await index.remove([(1, ONE), (2, TWO), (9, ONE)]) == 1
    assert [n.entry_id for n in await index.search(ONE, rows[0], 5)] != [1]
    assert await index.remove([(2, ONE), (3, ONE)]) == 2
    assert index.count == 0
    assert await index.search(ONE, rows[0], 5) == []
    assert await index.remove([]) == 0


async def test_a_scope_climbs_the_ladder_while_it_is_searched(open_index) -> None:
    index = open_index(flat_max=500, binary_ivf_min=2000)
    rows = clustered(4000)
    kinds = []
    for start in range(0, 4000, 250):
        await index.add_rows([piece(ONE, rows[start : start + 250], start + 1)])
        partition = index._scopes[ONE]
        kinds.append((type(partition), getattr(partition, "lists", None) is not None))
        found = await index.search(ONE, rows[start], 3)
        assert found[0].entry_id == start + 1
    await index.settled()
    assert kinds[0] == (Flat, False)
    assert kinds[2] == (Coded, False)
    partition = index._scopes[ONE]
    assert isinstance(partition, Coded)
    assert partition.lists is not None
    hits = [(await index.search(ONE, rows[i], 1))[0].entry_id == i + 1 for i in range(0, 4000, 40)]
    assert np.mean(hits) == 1.0


async def test_lists_are_built_again_after_many_changes(open_index) -> None:
    index = open_index(flat_max=100, binary_ivf_min=1000)
    rows = clustered(2000)
    await index.add_rows([piece(ONE, rows[:1000])])
    await index.settled()
    first = index._scopes[ONE].lists
    await index.add_rows([piece(ONE, rows[1000:], 1001)])
    await index.settled()
    assert index._scopes[ONE].lists is not first
    assert index._scopes[ONE].lists.size == 2000


async def test_searches_and_changes_at_once_do_not_disturb_each_other(open_index) -> None:
    index = open_index(flat_max=200, binary_ivf_min=1500)
    rows = clustered(3000)
    await index.add_rows([piece(ONE, rows[:1000])])

    async def add() -> None:
        for i in range(1000, 3000):
            await index.add(i + 1, ONE, rows[i])

    async def remove() -> None:
        for i in range(500):
            await index.remove([(i + 1, ONE)])

    async def search() -> None:
        for i in range(500, 1000):
            found = await index.search(ONE, rows[i], 3)
            assert found[0].entry_id == i + 1

    await asyncio.gather(add(), remove(), search(), search())
    await index.settled()
    assert index.count == 2500
    assert sorted((await index.ids()).tolist()) == list(range(501, 3001))


async def test_the_recall_of_real_looking_vectors_is_confirmed_and_nothing_changes(open_index) -> None:
    index = open_index(flat_max=500)
    await index.add_rows([piece(ONE, clustered(5000))])
    seen = await index.check_recall(300)
    assert seen.checked > 200
    assert seen.ratio >= 0.99
    assert isinstance(index._scopes[ONE], Coded)


async def test_a_scope_whose_sign_bits_do_not_carry_goes_down_to_the_exact_rung(open_index) -> None:
    # All components positive: every sign code is the same, so codes cannot tell any two vectors apart.
    index = open_index(flat_max=500)
    rows = np.abs(clustered(3000)) + 0.5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    await index.add_rows([piece(ONE, rows), piece(TWO, clustered(3000), 10_000)])
    seen = await index.check_recall(300)
    assert seen.ratio < 0.99
    assert isinstance(index._scopes[ONE], Flat)
    assert isinstance(index._scopes[TWO], Coded)
    assert index.count == 6000
    assert (await index.search(ONE, rows[17], 1))[0].entry_id == 18
    await index.add_rows([piece(ONE, clustered(10, seed=5), 50_000)])
    assert isinstance(index._scopes[ONE], Flat), "it stays there"


async def test_bad_lists_are_given_up_before_the_codes_are(open_index) -> None:
    index = open_index(flat_max=500, binary_ivf_min=1000)
    rows = np.abs(clustered(3000)) + 0.5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    await index.add_rows([piece(ONE, rows)])
    await index.settled()
    await index.check_recall(300)
    assert isinstance(index._scopes[ONE], Coded)
    assert index._scopes[ONE].lists is None
    await index.check_recall(300)
    assert isinstance(index._scopes[ONE], Flat)


async def test_recall_of_nothing_is_whole(open_index) -> None:
    assert (await open_index().check_recall(10)).ratio == 1.0


async def test_ids_without_scopes_can_be_discarded(open_index) -> None:
    index = open_index(flat_max=50)
    await index.add_rows([piece(ONE, clustered(100)), piece(TWO, clustered(10), 101)])
    assert await index.discard(np.array([1, 50, 101, 999])) == 3
    assert index.count == 107


async def test_pieces_are_everything_whatever_the_rung(open_index) -> None:
    index = open_index(flat_max=50)
    rows = clustered(400)
    await index.add_rows([piece(ONE, rows[:300]), piece(TWO, rows[300:350], 301)])
    await index.add_rows([piece(bytes([i]) * 16, rows[350 + i : 351 + i], 351 + i) for i in range(50)])
    seen = {}
    async for pieces in index.pieces():
        for _, ids, vectors in pieces:
            seen |= dict(zip(ids.tolist(), vectors, strict=True))
    assert sorted(seen) == list(range(1, 401))
    assert all(np.array_equal(seen[i + 1], rows[i].astype(np.float16)) for i in range(400))


async def test_a_vector_of_another_dimension_and_a_closed_index_are_store_errors(open_index) -> None:
    index = open_index()
    await index.add(1, ONE, clustered(1)[0])
    for vector in (np.ones(3, np.float32), np.ones((1, DIMENSION), np.float32)):
        with pytest.raises(StoreError, match="dimension 128"):
            await index.search(ONE, vector, 1)
        with pytest.raises(StoreError, match="dimension 128"):
            await index.add(2, ONE, vector)
    index.close()
    with pytest.raises(StoreError, match="index failed"):
        await index.search(ONE, clustered(1)[0], 1)
