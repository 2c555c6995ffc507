import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecache import config
from edgecache.errors import StoreError, StoreFull
from edgecache.store.database import Database
from edgecache.store.schema import key_of
from edgecache.store.writer import GROUP, MAX_QUEUED_BYTES, Batch, Writer

SETTINGS = config.Store(sync=False, initial_map_bytes=1024**2, max_bytes=8 * 1024**2)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path, SETTINGS)
    yield database
    database.close()


@pytest.fixture
def batches() -> list[Batch]:
    """The batches committed so far."""
    return []


@pytest.fixture
def writer(db: Database, batches: list[Batch]) -> Iterator[Writer]:
    made = Writer(db, 0, batches.append)
    yield made
    made.close()


def put(size: int) -> Callable[[Batch], int]:
    def run(batch: Batch) -> int:
        entry_id = batch.next_id()
        batch.txn.put(key_of(entry_id), bytes(size), db=batch.db.entries)
        return entry_id

    return run


def nothing(batch: Batch) -> None:
    """An empty operation, or nobody who wants to know of a commit."""


def remove(entry_id: int) -> Callable[[Batch], bool]:
    return lambda batch: batch.remove(entry_id)


def stored(db: Database) -> int:
    with db.lock, db.env.begin() as txn:
        return int(txn.stat(db.entries)["entries"])


async def test_what_queues_during_a_commit_shares_the_next_one(writer: Writer, batches: list[Batch]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(batch: Batch) -> None:
        begun.set()
        go_on.wait(10)

    first = asyncio.gather(writer.submit(hold))
    await asyncio.to_thread(begun.wait, 10)
    rest = asyncio.gather(*(writer.submit(put(10), size=10) for _ in range(GROUP + 6)))
    await asyncio.sleep(0)
    go_on.set()
    await first
    assert await rest == list(range(1, GROUP + 7))
    assert [batch.last_id for batch in batches] == [0, GROUP, GROUP + 6]


async def test_an_operation_that_refuses_does_not_take_its_group_along(writer: Writer, db: Database) -> None:
    def refuse(batch: Batch) -> None:
        raise StoreError("no")

    results = await asyncio.gather(
        writer.submit(put(1), size=1), writer.submit(refuse), writer.submit(put(1), size=1), return_exceptions=True
    )
    assert [str(result) for result in results] == ["1", "no", "2"]
    assert stored(db) == 2


async def test_the_map_grows_while_it_is_written_and_read(writer: Writer, db: Database) -> None:
    before = db.map_bytes()
    stop = threading.Event()
    reads: list[int] = []

    def read() -> None:
        while not stop.is_set():
            reads.append(stored(db))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        await asyncio.gather(*(writer.submit(put(3000), size=3000) for _ in range(30)))
    stop.set()
    reader.join()
    assert db.map_bytes() > before
    assert stored(db) == 900
    assert reads == sorted(reads)


async def fill_up(writer: Writer) -> int:
    count = 0
    while True:
        try:
            await writer.submit(put(100_000), size=100_000)
        except StoreFull:
            return count
        count += 1


async def test_at_the_budget_puts_fail_and_removals_go_on(writer: Writer, db: Database, tmp_path: Path) -> None:
    count = await fill_up(writer)
    assert count > 50
    assert writer.refused
    results = await asyncio.gather(
        writer.submit(put(100_000), size=100_000), writer.submit(remove(1)), return_exceptions=True
    )
    assert isinstance(results[0], StoreFull)
    assert results[1] is True
    assert stored(db) == count - 1
    assert (tmp_path / "data.mdb").stat().st_size <= SETTINGS.max_bytes


async def test_space_kept_for_removals_is_there_when_puts_have_none_and_is_not_left_to_them(
    writer: Writer, db: Database
) -> None:
    await fill_up(writer)
    await writer.submit(put(110_000))  # counts as a removal, and is larger than any
    assert db.put_limit < db.map_bytes() < SETTINGS.max_bytes
    with pytest.raises(StoreFull):
        await writer.submit(put(100_000), size=100_000)


async def test_a_full_store_can_be_emptied_and_filled_again(writer: Writer, db: Database) -> None:
    count = await fill_up(writer)
    for entry_id in range(1, count + 1):
        assert await writer.submit(remove(entry_id))
    assert stored(db) == 0
    await writer.submit(nothing)  # pages freed by one commit can be used from the next but one
    for _ in range(count // 2):
        await writer.submit(put(100_000), size=100_000)


async def test_ids_of_a_failed_commit_are_given_again_because_nobody_saw_them(writer: Writer) -> None:
    count = await fill_up(writer)
    assert writer.last_id == count


async def test_a_caller_that_gave_up_does_not_disturb_the_others(writer: Writer, db: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(batch: Batch) -> None:
        begun.set()
        go_on.wait(10)

    first = asyncio.gather(writer.submit(hold))
    await asyncio.to_thread(begun.wait, 10)
    async with asyncio.timeout(10):
        given_up = asyncio.gather(writer.submit(put(1), size=1))
        waiting = asyncio.gather(writer.submit(put(1), size=1))
        await asyncio.sleep(0)
        given_up.cancel()
        go_on.set()
        await first
        assert await waiting == [2]
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert stored(db) == 2


async def test_more_than_can_be_written_is_refused_at_once_and_the_room_comes_back(writer: Writer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(batch: Batch) -> None:
        begun.set()
        go_on.wait(10)

    first = asyncio.gather(writer.submit(hold, size=MAX_QUEUED_BYTES))
    await asyncio.to_thread(begun.wait, 10)
    with pytest.raises(StoreError, match="cannot keep up"):
        await writer.submit(put(1), size=1)
    go_on.set()
    await first
    assert await writer.submit(put(1), size=1) == 1


async def test_closing_commits_what_is_queued_and_refuses_what_comes_after(db: Database) -> None:
    writer = Writer(db, 0, nothing)
    queued = asyncio.gather(*(writer.submit(put(1), size=1) for _ in range(200)))
    await asyncio.sleep(0)
    writer.close()
    assert len(await queued) == stored(db) == 200
    with pytest.raises(StoreError, match="closed"):
        await writer.submit(put(1), size=1)


def test_a_loop_that_is_gone_loses_the_word_but_not_the_write(db: Database) -> None:
    writer = Writer(db, 0, nothing)
    begun, go_on = threading.Event(), threading.Event()

    def hold(batch: Batch) -> Any:
        begun.set()
        go_on.wait(10)
        return put(1)(batch)

    async def leave() -> None:
        waiting = asyncio.gather(writer.submit(hold, size=1))
        await asyncio.to_thread(begun.wait, 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(leave())
    go_on.set()
    writer.close()
    assert stored(db) == 1
