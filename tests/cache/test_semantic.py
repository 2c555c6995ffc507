import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecache.cache.semantic import SemanticTier
from edgecache.errors import StoreError
from edgecache.store.epochs import Kind, Selector
from edgecache.store.schema import key_of
from edgecache.store.vectors import VectorIndex

CHILD = Path(__file__).parent / "child_fills.py"


async def fill(shelf, make_entry, make_vector, questions, **fields) -> list[int]:
    return [await shelf.tier.store(make_entry(q, **fields), make_vector(q)) for q in questions]


async def test_another_wording_finds_the_stored_question_with_its_similarity(
    open_shelf, make_entry, make_key, make_vector
) -> None:
    shelf = await open_shelf()
    await fill(shelf, make_entry, make_vector, [f"question {i}" for i in range(30)])
    near = await shelf.tier.neighbours(make_key("question 7~"), make_vector("question 7~reworded"), 3)
    assert near[0][0].text == "question 7"
    similarities = [similarity for _, similarity in near]
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] == pytest.approx(
        float(make_vector("question 7") @ make_vector("question 7~reworded")), abs=2e-3
    )
    assert shelf.tier.drift() == 0


@pytest.mark.parametrize("flat_max", [5, 4096], ids=["coded", "flat"])
async def test_a_search_never_returns_another_scopes_answer(
    open_shelf, make_entry, make_key, make_vector, flat_max
) -> None:
    shelf = await open_shelf(flat_max=flat_max)
    for tenant in ("acme", "other"):
        await fill(shelf, make_entry, make_vector, [f"question {i}" for i in range(20)], tenant=tenant)
    for tenant in ("acme", "other"):
        near = await shelf.tier.neighbours(make_key("x", tenant), make_vector("question 3"), 64)
        assert len(near) == 20
        assert {entry.tenant for entry, _ in near} == {tenant}
    assert await shelf.tier.neighbours(make_key("x", "third"), make_vector("question 3"), 8) == []


async def test_an_index_that_lies_about_scopes_is_not_believed(open_shelf, make_entry, make_key, make_vector) -> None:
    shelf = await open_shelf()
    [entry_id] = await fill(shelf, make_entry, make_vector, ["secret"], tenant="other")
    await shelf.index.add(entry_id, make_key("x").scope, make_vector("secret"))
    assert await shelf.tier.neighbours(make_key("x"), make_vector("secret"), 8) == []


async def test_a_purged_neighbourhood_does_not_hide_what_lies_behind_it(
    open_shelf, make_entry, make_key, make_vector
) -> None:
    shelf = await open_shelf()
    await fill(shelf, make_entry, make_vector, [f"same~{'x' * i}" for i in range(1, 40)], tags=("bad",))
    await fill(shelf, make_entry, make_vector, ["something else"])
    await shelf.store.purge(Selector(Kind.TAG, "bad"))
    near = await shelf.tier.neighbours(make_key("same"), make_vector("same"), 4)
    assert [entry.text for entry, _ in near] == ["something else"]
    assert shelf.index.count == 1


async def test_replaced_and_deleted_answers_leave_the_index(open_shelf, make_entry, make_key, make_vector) -> None:
    shelf = await open_shelf()
    first, second = await fill(shelf, make_entry, make_vector, ["why", "why"])
    assert shelf.index.count == 1
    near = await shelf.tier.neighbours(make_key("why"), make_vector("why"), 8)
    assert [entry.id for entry, _ in near] == [second]
    await shelf.store.purge(Selector(Kind.ENTRY, str(second)))
    await shelf.tier.follow()
    assert first != second
    assert shelf.index.count == 0
    assert shelf.tier.drift() == 0


async def test_answers_replaced_while_they_are_being_indexed_leave_nothing_behind(
    open_shelf, make_entry, make_vector
) -> None:
    shelf = await open_shelf()
    await asyncio.gather(*(shelf.tier.store(make_entry("why"), make_vector("why")) for _ in range(50)))
    await shelf.tier.follow()
    assert shelf.index.count == shelf.store.stats().vectors == 1


class LateIndex(VectorIndex):
    """A vector index that adds when it is let."""

    gate: asyncio.Event

    async def add(self, entry_id, scope, vector) -> None:
        await self.gate.wait()
        await super().add(entry_id, scope, vector)


async def test_an_answer_removed_between_commit_and_indexing_is_not_left_in_the_index(
    open_shelf, make_entry, make_vector, tmp_path
) -> None:
    shelf = await open_shelf()
    index = LateIndex(shelf.settings, dimension=shelf.index.dimension)
    index.gate = asyncio.Event()
    tier = SemanticTier(shelf.store, index, embedder="e", path=tmp_path / "other")
    storing = asyncio.gather(tier.store(make_entry("why"), make_vector("why")))
    async with asyncio.timeout(10):
        while shelf.store.get(1) is None:
            await asyncio.sleep(0)
    await shelf.store.delete([1])
    await tier.follow()
    index.gate.set()
    assert await storing == [1]
    assert index.count == 0
    index.close()


async def test_lookups_and_fills_at_once_do_not_disturb_each_other(
    open_shelf, make_entry, make_key, make_vector
) -> None:
    shelf = await open_shelf(flat_max=100)
    questions = [f"question {i}" for i in range(400)]

    async def look(start: int) -> None:
        for i in range(start, 400, 3):
            near = await shelf.tier.neighbours(make_key("x"), make_vector(questions[i]), 3)
            assert all(entry.tenant == "acme" for entry, _ in near)

    await asyncio.gather(
        fill(shelf, make_entry, make_vector, questions[:200]),
        fill(shelf, make_entry, make_vector, questions[200:]),
        *(look(start) for start in range(3)),
    )
    assert shelf.tier.drift() == 0
    assert shelf.index.count == 400


async def test_an_answer_without_a_vector_is_stored_for_identical_requests_only(
    open_shelf, make_entry, make_key, make_vector
) -> None:
    shelf = await open_shelf()
    await shelf.tier.store(make_entry("why"), None)
    assert shelf.store.find(make_key("why").digest) is not None
    assert await shelf.tier.neighbours(make_key("why"), make_vector("why"), 8) == []


async def test_a_held_answer_is_found_by_meaning_once_it_is_let_in(
    open_shelf, make_entry, make_key, make_vector
) -> None:
    shelf = await open_shelf()
    entry_id = await shelf.tier.store(make_entry("question", writer="k1", held="second-sighting"), None)
    assert await shelf.tier.neighbours(make_key("x"), make_vector("question~y"), 3) == []
    held = shelf.tier.earlier(make_key("question"))
    assert (held.id, held.held) == (entry_id, "second-sighting")
    assert await shelf.tier.release(held, make_vector("question"), limit=0)
    [(entry, _)] = await shelf.tier.neighbours(make_key("x"), make_vector("question~y"), 3)
    assert (entry.id, entry.held) == (entry_id, "")
    assert not await shelf.tier.release(held, make_vector("question"), limit=0)
    assert shelf.tier.drift() == 0
    shelf.close()
    again = await open_shelf()
    assert len(await again.tier.neighbours(make_key("x"), make_vector("question~y"), 3)) == 1


async def test_an_answer_purged_in_flight_is_neither_stored_nor_indexed(open_shelf, make_entry, make_vector) -> None:
    shelf = await open_shelf()
    token = shelf.store.epoch()
    await shelf.store.purge(Selector(Kind.ALL))
    with pytest.raises(StoreError, match="purged"):
        await shelf.tier.store(make_entry("why"), make_vector("why"), token=token)
    assert shelf.index.count == 0


async def test_an_index_that_is_gone_costs_the_meaning_and_not_the_answer(
    open_shelf, make_entry, make_key, make_vector
) -> None:
    shelf = await open_shelf()
    shelf.index.close()
    await shelf.tier.store(make_entry("why"), make_vector("why"))
    assert shelf.store.find(make_key("why").digest) is not None
    assert shelf.tier.drift() == 1


async def test_the_recall_of_a_large_scope_can_be_checked(open_shelf, make_entry, make_vector) -> None:
    shelf = await open_shelf(flat_max=50)
    await fill(shelf, make_entry, make_vector, [f"question {i}~{'x' * j}" for i in range(30) for j in range(1, 4)])
    seen = await shelf.tier.check_recall(50)
    assert seen.checked == 50
    assert seen.ratio > 0.9


# ---------------------------------------------------------------------------------------------- start and stop


async def test_a_start_after_a_clean_stop_uses_the_snapshot(open_shelf, make_entry, make_key, make_vector) -> None:
    shelf = await open_shelf()
    await fill(shelf, make_entry, make_vector, [f"question {i}" for i in range(100)])
    await shelf.tier.save()
    shelf.close()
    again = await open_shelf()
    assert again.origin == "snapshot"
    assert again.index.count == 100
    near = await again.tier.neighbours(make_key("x"), make_vector("question 5"), 1)
    assert near[0][0].text == "question 5"


async def test_what_changed_after_the_snapshot_is_made_up_for(open_shelf, make_entry, make_key, make_vector) -> None:
    shelf = await open_shelf()
    ids = await fill(shelf, make_entry, make_vector, [f"question {i}" for i in range(20)])
    await shelf.tier.save()
    await shelf.store.delete(ids[:5])
    await fill(shelf, make_entry, make_vector, ["question 7", "later"])
    shelf.close()
    again = await open_shelf()
    assert again.origin == "snapshot"
    assert again.tier.drift() == 0
    assert np.array_equal(np.sort(await again.index.ids()), again.store.vector_ids())
    near = await again.tier.neighbours(make_key("x"), make_vector("later"), 1)
    assert near[0][0].text == "later"


@pytest.mark.parametrize("harm", ["missing", "cut", "flipped", "empty"])
async def test_without_a_sound_snapshot_the_index_is_rebuilt(
    open_shelf, make_entry, make_key, make_vector, tmp_path, harm
) -> None:
    shelf = await open_shelf()
    await fill(shelf, make_entry, make_vector, [f"question {i}" for i in range(50)])
    await shelf.tier.save()
    shelf.close()
    path = tmp_path / "index.snapshot"
    whole = path.read_bytes()
    harmed = {"cut": whole[:-100], "flipped": whole[:200] + b"\xff" + whole[201:], "empty": b""}
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(harmed[harm])
    again = await open_shelf()
    assert again.origin == "rebuild"
    assert again.tier.drift() == 0
    near = await again.tier.neighbours(make_key("x"), make_vector("question 5"), 1)
    assert near[0][0].text == "question 5"


async def test_a_changed_embedder_never_matches_old_vectors(open_shelf, make_entry, make_key, make_vector) -> None:
    shelf = await open_shelf()
    await fill(shelf, make_entry, make_vector, ["why"])
    await shelf.tier.save()
    shelf.close()
    again = await open_shelf(embedder="another")
    assert again.index.count == again.store.stats().vectors == 0
    assert await again.tier.neighbours(make_key("why"), make_vector("why"), 8) == []
    assert again.store.find(make_key("why").digest) is not None


async def test_a_damaged_vector_is_left_out_of_a_rebuild(open_shelf, make_entry, make_vector, tmp_path) -> None:
    shelf = await open_shelf()
    ids = await fill(shelf, make_entry, make_vector, ["a", "b", "c"])
    db = shelf.store._db
    with db.env.begin(write=True) as txn:
        record = bytearray(txn.get(key_of(ids[1]), db=db.vectors))
        record[-1] ^= 1
        txn.put(key_of(ids[1]), bytes(record), db=db.vectors)
    shelf.close()
    again = await open_shelf()
    assert sorted((await again.index.ids()).tolist()) == [ids[0], ids[2]]
    assert again.store.suspects() == [ids[1]]


async def test_a_repair_adds_what_is_missing_and_drops_what_is_too_much(open_shelf, make_entry, make_vector) -> None:
    shelf = await open_shelf()
    ids = await fill(shelf, make_entry, make_vector, ["a", "b", "c"])
    await shelf.index.discard(np.array([ids[0]]))
    await shelf.index.add(999, b"x" * 16, make_vector("nobody"))
    assert await shelf.tier.repair() == 2
    assert sorted((await shelf.index.ids()).tolist()) == ids
    assert await shelf.tier.repair() == 0


async def test_snapshots_saved_at_once_do_not_disturb_each_other(open_shelf, make_entry, make_vector) -> None:
    shelf = await open_shelf()
    await fill(shelf, make_entry, make_vector, ["a", "b"])
    assert await asyncio.gather(*(shelf.tier.save() for _ in range(5))) == [2] * 5


@pytest.mark.parametrize("acknowledged", [40, 300])
async def test_a_kill_loses_nothing_acknowledged_and_brings_nothing_purged_back(
    open_shelf, make_key, make_vector, tmp_path, acknowledged
) -> None:
    child = subprocess.Popen([sys.executable, CHILD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline().split() for _ in range(acknowledged)]
    os.kill(child.pid, signal.SIGKILL)
    # What was acknowledged before the kill arrived counts too; a line cut in half was not acknowledged.
    rest = child.stdout.read()
    lines += [line.split() for line in rest.splitlines() if line.endswith(".")]
    child.wait()
    child.stdout.close()

    held: dict[str, tuple[int, str]] = {}
    purged: set[int] = set()
    newest = 0
    for kind, number, question, tag, _ in lines:
        if kind == "purge":
            gone = [q for q, (_, t) in held.items() if t == tag]
            purged |= {held.pop(q)[0] for q in gone}
        else:
            held[question] = (int(number), tag)
        newest = max(newest, int(number))
    assert {"put", "purge"} == {line[0] for line in lines}

    shelf = await open_shelf()
    assert shelf.store.epoch() >= newest
    changed: dict[str, list[tuple[str, bool]]] = {}
    for question, (entry_id, tag) in held.items():
        found = shelf.store.find(make_key(question).digest)
        if found is None or found.id != entry_id:
            changed.setdefault(question.partition("-")[0], []).append((tag, found is None))
        else:
            assert found.body == b"answer to " + question.encode()
    # Each worker had at most one operation that was committed and not acknowledged: a put, or the purge of one tag.
    for seen in changed.values():
        assert len(seen) == 1 or set(seen) == {(seen[0][0], True)}
    assert all(shelf.store.get(entry_id) is None for entry_id in purged)
    assert shelf.tier.drift() == 0
    assert np.array_equal(np.sort(await shelf.index.ids()), shelf.store.vector_ids())


async def test_candidates_too_far_away_are_left_out_but_the_nearest_is_always_told(
    open_shelf, make_entry, make_key, make_vector
) -> None:
    shelf = await open_shelf()
    await fill(shelf, make_entry, make_vector, [f"question {i}" for i in range(30)])
    everything = await shelf.tier.neighbours(make_key("x"), make_vector("question 7"), 8)
    near = await shelf.tier.neighbours(make_key("x"), make_vector("question 7"), 8, least=0.9)
    none = await shelf.tier.neighbours(make_key("x"), make_vector("something else"), 8, least=2.0)
    assert len(everything) == 8
    assert [entry.text for entry, _ in near] == ["question 7"]
    assert len(none) == 1
