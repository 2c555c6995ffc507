from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache import config
from edgecache.errors import StoreCorrupt, StoreError
from edgecache.store import snapshot
from edgecache.store.vectors import VectorIndex

DIMENSION = 16


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, DIMENSION)).astype(np.float16)


def scope(number: int) -> bytes:
    return number.to_bytes(16, "little")


@pytest.fixture
async def index():
    made = VectorIndex(config.Store(flat_max=100), dimension=DIMENSION, rng=Random(0))
    vectors = rows(320)
    await made.add_rows([(scope(0), np.arange(300), vectors[:300])])
    await made.add_rows([(scope(i), np.array([300 + i]), vectors[300 + i : 301 + i]) for i in range(1, 20)])
    yield made
    made.close()


def read(path: Path, embedder: str = "e", dimension: int = DIMENSION) -> dict[int, tuple[bytes, bytes]]:
    pieces = snapshot.load(path, embedder=embedder, dimension=dimension)
    return {
        entry_id: (where, row.tobytes())
        for where, ids, vectors in pieces
        for entry_id, row in zip(ids.tolist(), vectors, strict=True)
    }


async def test_what_was_saved_is_loaded(index, tmp_path) -> None:
    path = tmp_path / "new" / "index.snapshot"
    assert await snapshot.save(index, path, embedder="e") == 319
    found = read(path)
    vectors = rows(320)
    assert found == {i: (scope(0), vectors[i].tobytes()) for i in range(300)} | {
        300 + i: (scope(i), vectors[300 + i].tobytes()) for i in range(1, 20)
    }
    assert [p.name for p in path.parent.iterdir()] == ["index.snapshot"]
    assert path.stat().st_mode & 0o077 == 0


async def test_an_empty_index_has_a_snapshot_too(tmp_path) -> None:
    empty = VectorIndex(config.Store(), dimension=DIMENSION)
    assert await snapshot.save(empty, tmp_path / "s", embedder="e") == 0
    assert read(tmp_path / "s") == {}
    empty.close()


async def test_a_snapshot_of_another_embedder_or_dimension_is_refused(index, tmp_path) -> None:
    await snapshot.save(index, tmp_path / "s", embedder="e")
    for embedder, dimension in [("other", DIMENSION), ("e", 32)]:
        with pytest.raises(StoreError, match="the snapshot is of"):
            read(tmp_path / "s", embedder, dimension)


def test_a_missing_or_strange_file_is_a_store_error(tmp_path) -> None:
    with pytest.raises(StoreError):
        read(tmp_path / "none")
    for content in (b"", b"x", bytes(1000)):
        (tmp_path / "s").write_bytes(content)
        with pytest.raises(StoreCorrupt):
            read(tmp_path / "s")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
async def test_nothing_of_a_damaged_snapshot_is_loaded(index, tmp_path, data) -> None:
    path = tmp_path / "s"
    await snapshot.save(index, path, embedder="e")
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    with pytest.raises(StoreCorrupt):
        next(snapshot.load(path, embedder="e", dimension=DIMENSION))


async def test_a_save_that_fails_keeps_the_older_snapshot(index, tmp_path) -> None:
    path = tmp_path / "s"
    await snapshot.save(index, path, embedder="e")
    before = path.read_bytes()
    (tmp_path / "s.tmp").mkdir()  # where the new one would be written
    with pytest.raises(StoreError):
        await snapshot.save(index, path, embedder="e")
    assert path.read_bytes() == before
