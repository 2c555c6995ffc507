import asyncio
from contextlib import suppress

import numpy as np
import pytest

from edgecache.cache.evict import Sweeper
from edgecache.errors import StoreFull
from edgecache.store.epochs import Kind, Selector
from edgecache.store.rows import Mark
from edgecache.store.schema import key_of
from edgecache.tasks import Tasks

GRACE = 100.0


def sweeper_of(shelf, tier=True) -> Sweeper:
    return Sweeper(
        shelf.store,
        shelf.tier if tier else None,
        shelf.clock,
        shelf.settings,
        grace=GRACE,
        metrics=shelf.metrics,
    )


def evicted(shelf, reason: str) -> float:
    return shelf.metrics.registry.get_sample_value("edgecache_cache_evictions_total", {"reason": reason}) or 0.0


async def test_the_expired_go_once_their_grace_is_over(open_shelf, make_entry, make_vector) -> None:
    shelf = await open_shelf()
    now = shelf.clock.now()
    for name, expires in [("old", now - GRACE - 1), ("grace", now - GRACE + 1), ("fresh", now + 1)]:
        await shelf.tier.store(make_entry(name, expires=expires), make_vector(name))
    assert await sweeper_of(shelf).sweep() == 1
    assert evicted(shelf, "expired") == 1
    assert [shelf.store.find(make_entry(name).digest) is None for name in ("old", "grace", "fresh")] == [
        True,
        False,
        False,
    ]
    assert shelf.index.count == 2
    assert shelf.tier.drift() == 0


async def test_the_purged_go_and_the_soft_purged_stay(open_shelf, make_entry, make_vector) -> None:
    shelf = await open_shelf()
    for name in ("hard", "soft", "kept"):
        await shelf.tier.store(make_entry(name, tags=(name,)), make_vector(name))
    await shelf.store.purge(Selector(Kind.TAG, "hard"))
    await shelf.store.purge(Selector(Kind.TAG, "soft"), soft=True)
    assert await sweeper_of(shelf).sweep() == 1
    assert evicted(shelf, "purged") == 1
    assert shelf.store.stats().entries == shelf.index.count == 2


async def test_the_damaged_go_whether_met_or_not(open_shelf, make_entry, make_vector) -> None:
    shelf = await open_shelf()
    ids = [await shelf.tier.store(make_entry(name), make_vector(name)) for name in ("met", "unmet", "kept")]
    db = shelf.store._db
    with db.env.begin(write=True) as txn:
        for entry_id in ids[:2]:
            record = bytearray(txn.get(key_of(entry_id), db=db.entries))
            record[-1] ^= 1
            txn.put(key_of(entry_id), bytes(record), db=db.entries)
    assert shelf.store.find(make_entry("met").digest) is None
    assert await sweeper_of(shelf).sweep() == 2
    assert evicted(shelf, "corrupt") == 2
    assert shelf.store.stats().entries == shelf.index.count == 1
    assert shelf.store.suspects() == []


async def test_a_large_store_is_swept_a_stretch_at_a_time(open_shelf, make_entry) -> None:
    shelf = await open_shelf()
    entries = [make_entry(str(i), expires=1.0, body=b"") for i in range(16_600)]
    for start in range(0, len(entries), 500):
        await asyncio.gather(*(shelf.store.put(entry, None) for entry in entries[start : start + 500]))
    sweeper = sweeper_of(shelf)
    assert await sweeper.sweep() == 16_384
    assert await sweeper.sweep() == 216


async def test_purges_with_nothing_left_to_cover_are_forgotten(open_shelf, make_entry) -> None:
    shelf = await open_shelf()
    await shelf.store.put(make_entry("a", tags=("t",)), None)
    await shelf.store.purge(Selector(Kind.TAG, "t"))
    await shelf.store.put(make_entry("b", tags=("t",), expires=2e9), None)
    sweeper = sweeper_of(shelf)
    await sweeper.sweep()
    await sweeper.sweep()
    assert shelf.store.stats().purges == 1, "a fill may still be in flight"
    shelf.clock.advance(4000.0)
    await sweeper.sweep()
    assert shelf.store.stats().purges == 0
    assert shelf.store.find(make_entry("a").digest) is None
    assert shelf.store.find(make_entry("b").digest) is not None


async def test_a_purge_that_still_covers_something_is_kept(open_shelf, make_entry) -> None:
    shelf = await open_shelf()
    await shelf.store.put(make_entry("a", tags=("t",), expires=2e9), None)
    await shelf.store.purge(Selector(Kind.TAG, "t"), soft=True)
    await shelf.store.put(make_entry("later", expires=2e9), None)
    shelf.clock.advance(4000.0)
    sweeper = sweeper_of(shelf)
    await sweeper.sweep()
    await sweeper.sweep()
    assert shelf.store.stats().purges == 1
    assert shelf.store.find(make_entry("a").digest).soft_purged


async def fill(shelf, make_entry, count: int, size: int = 20_000, prefix: str = "") -> list[int]:
    return [
        await shelf.store.put(make_entry(f"{prefix}{i}", body=np.random.default_rng(i).bytes(size), expires=2e9), None)
        for i in range(count)
    ]


async def test_under_pressure_the_least_used_go_and_a_fifth_becomes_free(open_shelf, make_entry) -> None:
    shelf = await open_shelf(max_bytes=8 * 1024**2)
    ids = await fill(shelf, make_entry, 365)
    assert shelf.store.near_full
    for entry_id in ids[::5]:
        for _ in range(3):
            shelf.store.touch(entry_id)
    gone = await sweeper_of(shelf, tier=False).sweep()
    stats = shelf.store.stats()
    assert stats.used_bytes <= 0.8 * stats.limit_bytes
    assert 0 < gone == evicted(shelf, "space") < 200
    assert all(shelf.store.get(entry_id) is not None for entry_id in ids[::5])


async def test_large_answers_must_be_used_more_to_stay(open_shelf, make_entry) -> None:
    shelf = await open_shelf(max_bytes=8 * 1024**2)
    small = await fill(shelf, make_entry, 100, size=1000)
    large = await fill(shelf, make_entry, 74, size=100_000, prefix="large")
    for entry_id in small + large:
        shelf.store.touch(entry_id)
    await sweeper_of(shelf).sweep()
    assert all(shelf.store.get(entry_id) is not None for entry_id in small)
    assert any(shelf.store.get(entry_id) is None for entry_id in large)


async def test_what_expired_goes_before_anything_else_under_pressure(open_shelf, make_entry) -> None:
    shelf = await open_shelf(max_bytes=8 * 1024**2)
    late, fresh = [], []
    for i in range(365):
        expires = 2e9 if i % 3 else shelf.clock.now() - 1
        entry_id = await shelf.store.put(make_entry(str(i), body=bytes(20_000), expires=expires), None)
        (fresh if i % 3 else late).append(entry_id)
    for entry_id in late:
        shelf.store.touch(entry_id)
    assert await sweeper_of(shelf).sweep() > 20
    assert all(shelf.store.get(entry_id) is not None for entry_id in fresh)


async def test_a_store_that_refuses_takes_again_after_a_sweep_and_never_outgrows_its_budget(
    open_shelf, make_entry, make_vector, tmp_path
) -> None:
    budget = 8 * 1024**2
    shelf = await open_shelf(max_bytes=budget)
    sweeper = sweeper_of(shelf)
    refused = 0
    for i in range(600):
        size = 500 if i % 3 else 150_000
        try:
            await shelf.tier.store(make_entry(str(i), body=bytes(size), expires=2e9), make_vector(str(i)))
        except StoreFull:
            refused += 1
            await sweeper.make_room()
            await shelf.tier.store(make_entry(str(i), body=bytes(size), expires=2e9), make_vector(str(i)))
        assert (tmp_path / "store" / "data.mdb").stat().st_size <= budget
    assert refused > 3
    assert shelf.store.find(make_entry("599").digest) is not None
    assert shelf.tier.drift() == 0


async def test_an_index_that_drifted_twice_is_repaired(open_shelf, make_entry, make_vector, caplog) -> None:
    shelf = await open_shelf()
    entry_id = await shelf.tier.store(make_entry("why"), make_vector("why"))
    await shelf.index.discard(np.array([entry_id]))
    sweeper = sweeper_of(shelf)
    await sweeper.sweep()
    assert shelf.tier.drift() == 1, "it could have been a fill in progress"
    await sweeper.sweep()
    assert shelf.tier.drift() == 0
    assert "drifted" in caplog.text


@pytest.mark.slow
async def test_it_runs_until_cancelled_sweeping_and_saving_at_its_intervals(
    open_shelf, make_entry, make_vector, tmp_path
) -> None:
    shelf = await open_shelf(sweep_interval=10.0, snapshot_interval=10.0)
    await shelf.tier.store(make_entry("old", expires=1.0), make_vector("old"))
    tasks = Tasks()
    running = tasks.spawn(sweeper_of(shelf).run(), name="sweeper")
    await asyncio.sleep(0)
    shelf.clock.advance(11.0)
    async with asyncio.timeout(20):
        while shelf.store.stats().entries or not (tmp_path / "index.snapshot").exists():
            await asyncio.sleep(0.02)
    assert not running.done()
    await tasks.close()


@pytest.mark.slow
async def test_a_failing_store_does_not_end_the_sweeper(open_shelf) -> None:
    shelf = await open_shelf(sweep_interval=0.0)
    shelf.store.close()
    tasks = Tasks()
    running = tasks.spawn(sweeper_of(shelf).run(), name="sweeper")
    errors = "edgecache_cache_side_errors_total"
    async with asyncio.timeout(20):
        while not shelf.metrics.registry.get_sample_value(errors, {"step": "sweep"}):
            await asyncio.sleep(0.02)
    assert not running.done()
    await tasks.close()


async def test_a_pinned_answer_stays_when_room_is_made_and_goes_when_it_has_expired(open_shelf, make_entry) -> None:
    shelf = await open_shelf(max_bytes=4 * 1024**2)
    pinned, late = make_entry("pinned"), make_entry("late", expires=shelf.clock.now() - GRACE - 1)
    for entry in (pinned, late):
        entry_id = await shelf.tier.store(entry, None)
        await shelf.store.evidence.set_mark(Mark(entry.tenant, entry.digest, "pin", entry_id, 0.0))
    sweeper = sweeper_of(shelf)
    for number in range(600):
        with suppress(StoreFull):
            await shelf.tier.store(make_entry(str(number), body=bytes(20_000)), None)
        await sweeper.make_room()
    assert evicted(shelf, "space") > 0
    assert shelf.store.find(pinned.digest) is not None
    assert shelf.store.find(late.digest) is None
    assert shelf.store.find(make_entry("0").digest) is None
