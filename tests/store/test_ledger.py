import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache import config
from edgecache.clock import ManualClock
from edgecache.errors import StoreError
from edgecache.store.ledger import DAY, LedgerStore
from edgecache.store.records import Record, key_of
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Attempt, Purpose

CHILD = Path(__file__).with_name("child_ledger.py")
MIDNIGHT = 1_700_006_400.0
Open = Callable[..., LedgerStore]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(MIDNIGHT + 3600)


@pytest.fixture
def open_ledger(tmp_path: Path, clock: ManualClock, metrics: Metrics) -> Iterator[Open]:
    opened: list[LedgerStore] = []

    def make(**changed: Any) -> LedgerStore:
        sync = changed.pop("sync", False)
        made = LedgerStore(
            tmp_path / "ledger", config.Ledger(**{"flush": 60.0} | changed), clock=clock, metrics=metrics, sync=sync
        )
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def record(at: float, name: str = "r", cost: float = 0.0, **fields: Any) -> Record:
    return Record(at, name, **{"tenant": "acme"} | fields, cost=cost)


def everything(ledger: LedgerStore, since: float = 0.0, until: float = float("inf"), limit: int = 100) -> list[Record]:
    found: list[Record] = []
    place: bytes | None = key_of(since, 0)
    while place is not None:
        page = ledger.page(place, until, limit)
        assert len(page.records) <= limit
        found += page.records
        place = page.next
    return found


def names(records: list[Record]) -> list[str]:
    return [each.request_id for each in records]


def counted(metrics: Metrics, result: str) -> float:
    return metrics.registry.get_sample_value("edgecache_ledger_records_total", {"result": result}) or 0.0


def test_records_are_there_in_the_order_of_time_after_it_was_opened_again(open_ledger: Open, metrics: Metrics) -> None:
    ledger = open_ledger(sync=True)
    attempt = Attempt("core", "core", "eu", "m", 10, 20, cost=0.5, outcome="ok")
    ledger.add(record(MIDNIGHT + 2, "later"))
    ledger.add(record(MIDNIGHT + 1, "earlier", 0.5, attempts=[attempt]))
    ledger.close()
    ledger.close()
    ledger = open_ledger()
    found = everything(ledger)
    assert names(found) == ["earlier", "later"]
    assert found[0].attempts == [attempt]
    assert counted(metrics, "written") == 2


def test_only_the_owner_can_read_it_and_nobody_else_can_open_it(open_ledger: Open, tmp_path: Path) -> None:
    open_ledger()
    assert (tmp_path / "ledger").stat().st_mode & 0o077 == 0
    with pytest.raises(StoreError, match="in use"):
        open_ledger()


def test_two_records_of_the_same_moment_are_both_kept_even_across_a_restart(open_ledger: Open) -> None:
    for number in range(3):
        ledger = open_ledger()
        ledger.add(record(MIDNIGHT, f"{number}a"))
        ledger.add(record(MIDNIGHT, f"{number}b"))
        ledger.close()
    assert names(everything(open_ledger())) == ["0a", "0b", "1a", "1b", "2a", "2b"]


@given(
    times=st.lists(st.integers(0, 50), max_size=40),
    since=st.integers(0, 50),
    length=st.integers(0, 50),
    limit=st.integers(1, 9),
)
@settings(max_examples=30, deadline=None)
def test_pages_give_exactly_the_records_of_a_span(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], since: int, length: int, limit: int
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = LedgerStore(folder, config.Ledger(), clock=ManualClock(100.0), metrics=Metrics(), sync=False)
    try:
        for time in times:
            ledger.add(record(float(time)))
        ledger.flush()
        found = [each.at for each in everything(ledger, since, since + length, limit)]
    finally:
        ledger.close()
    assert found == sorted(time for time in times if since <= time < since + length)


def test_records_reach_the_disk_without_a_flush(open_ledger: Open, metrics: Metrics) -> None:
    ledger = open_ledger(flush=0.01)
    ledger.add(record(MIDNIGHT))
    deadline = threading.Event()
    for _ in range(500):
        if counted(metrics, "written"):
            break
        deadline.wait(0.01)
    assert names(everything(ledger)) == ["r"]


def test_a_damaged_row_is_left_out_and_counted(open_ledger: Open, tmp_path: Path, metrics: Metrics) -> None:
    ledger = open_ledger()
    for number in range(3):
        ledger.add(record(MIDNIGHT + number, str(number)))
    ledger.close()
    env = lmdb.open(str(tmp_path / "ledger"), max_dbs=4)
    table = env.open_db(b"records")
    with env.begin(write=True) as txn:
        keys = list(txn.cursor(db=table).iternext(keys=True, values=False))
        row = bytearray(txn.get(keys[1], db=table))
        row[-3] ^= 1
        txn.put(keys[1], bytes(row), db=table)
    env.close()
    ledger = open_ledger()
    page = ledger.page(key_of(0.0, 0))
    assert (names(page.records), page.damaged, page.next) == (["0", "2"], 1, None)
    assert counted(metrics, "damaged") == 1


def test_a_ledger_of_another_schema_is_not_opened(open_ledger: Open, tmp_path: Path) -> None:
    open_ledger().close()
    env = lmdb.open(str(tmp_path / "ledger"), max_dbs=4)
    with env.begin(write=True) as txn:
        txn.put(b"schema", b"9", db=env.open_db(b"meta", txn=txn))
    env.close()
    for _ in range(2):  # it lets go of the folder
        with pytest.raises(StoreError, match="schema 9"):
            open_ledger()


# ---------------------------------------------------------------------------------------------- what was spent
def test_what_holders_have_spent_is_known_by_utc_day(open_ledger: Open) -> None:
    ledger = open_ledger()
    ledger.add(record(MIDNIGHT - 40 * DAY, cost=8.0))
    ledger.add(record(MIDNIGHT - 1, cost=4.0, key="k1"))
    ledger.add(record(MIDNIGHT, cost=2.0, key="k1"))
    ledger.add(record(MIDNIGHT + 5, cost=1.0))
    ledger.add(record(MIDNIGHT + 6, cost=0.5, tenant="other"))
    ledger.add(record(MIDNIGHT + 7))
    ledger.close()
    ledger = open_ledger()
    assert ledger.spent({"day": MIDNIGHT, "month": MIDNIGHT - 10 * DAY}) == {
        "day": {"acme": 3.0, "acme/k1": 2.0, "other": 0.5},
        "month": {"acme": 7.0, "acme/k1": 6.0, "other": 0.5},
    }
    assert ledger.spent({}) == {}


def test_what_the_pop_asked_of_its_own_accord_counts_against_no_budget(open_ledger: Open) -> None:
    ledger = open_ledger()
    for cost, purpose in enumerate(Purpose, 1):
        ledger.add(record(MIDNIGHT, cost=2.0**cost, purpose=purpose.value))
    ledger.flush()
    assert ledger.spent({"day": MIDNIGHT}) == {"day": {"acme": 6.0}}
    assert len(everything(ledger)) == len(Purpose)


def test_a_damaged_sum_counts_as_nothing(open_ledger: Open, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.add(record(MIDNIGHT, cost=2.0, key="k1"))
    ledger.close()
    env = lmdb.open(str(tmp_path / "ledger"), max_dbs=4)
    table = env.open_db(b"spent")
    with env.begin(write=True) as txn:
        key = next(txn.cursor(db=table).iternext(keys=True, values=False))
        txn.put(key, b"\x01" + txn.get(key, db=table)[1:], db=table)
    env.close()
    assert open_ledger().spent({"day": MIDNIGHT}) == {"day": {"acme": 0.0, "acme/k1": 2.0}}


# ---------------------------------------------------------------------------------------------- what goes
def test_records_go_after_as_many_days_as_they_are_kept(
    open_ledger: Open, clock: ManualClock, metrics: Metrics
) -> None:
    ledger = open_ledger(keep=30.0)
    ledger.add(record(clock.now(), "old", 1.0))
    ledger.flush()
    clock.advance(29 * DAY)
    ledger.add(record(clock.now(), "new", 1.0))
    ledger.flush()
    assert names(everything(ledger)) == ["old", "new"]
    clock.advance(1 * DAY + 1)
    ledger.add(record(clock.now(), "newest"))
    ledger.flush()
    assert names(everything(ledger)) == ["new", "newest"]
    assert counted(metrics, "expired") == 1
    assert ledger.spent({"all": 0.0})["all"] == {"acme": 2.0}


def test_old_records_go_at_a_start_even_if_nothing_is_added(open_ledger: Open, clock: ManualClock) -> None:
    ledger = open_ledger(keep=1.0)
    for number in range(2500):
        ledger.add(record(clock.now(), str(number), 1.0))
    ledger.close()
    clock.advance(100 * DAY)
    ledger = open_ledger(keep=1.0)
    ledger.flush()
    assert everything(ledger) == []
    assert ledger.spent({"all": 0.0}) == {"all": {}}


def test_the_oldest_go_when_the_file_is_full(open_ledger: Open, tmp_path: Path, metrics: Metrics) -> None:
    most = 2 * 1024**2
    ledger = open_ledger(max_bytes=most)
    for number in range(30_000):
        ledger.add(record(MIDNIGHT + number / 100, str(number), 1.0))
        if number % 3000 == 2999:
            ledger.flush()
    found = names(everything(ledger))
    assert found == [str(number) for number in range(30_000 - len(found), 30_000)]
    assert len(found) > 5000
    assert (tmp_path / "ledger" / "data.mdb").stat().st_size <= most
    assert (counted(metrics, "lost"), counted(metrics, "expired")) == (0, 30_000 - len(found))
    assert ledger.spent({"all": 0.0})["all"] == {"acme": 30_000.0}


def test_a_ledger_that_may_be_smaller_than_it_is_goes_on(open_ledger: Open, metrics: Metrics) -> None:
    ledger = open_ledger(max_bytes=8 * 1024**2)
    for number in range(20_000):
        ledger.add(record(MIDNIGHT + number / 100, str(number)))
    ledger.close()
    ledger = open_ledger(max_bytes=1024**2)
    for number in range(20_000, 21_000):
        ledger.add(record(MIDNIGHT + number / 100, str(number)))
    ledger.flush()
    found = names(everything(ledger))
    assert found[-1000:] == [str(number) for number in range(20_000, 21_000)]
    assert len(found) < 5000
    assert counted(metrics, "lost") == 0


# ---------------------------------------------------------------------------------------------- bad days
def test_what_cannot_be_encoded_is_lost_and_counted_and_the_rest_is_kept(open_ledger: Open, metrics: Metrics) -> None:
    ledger = open_ledger()
    ledger.add(record(MIDNIGHT, "good"))
    ledger.add(record(MIDNIGHT, "bad", prompt_tokens=2**70))
    ledger.add(record(MIDNIGHT, "a\ud800b"))
    ledger.flush()
    assert names(everything(ledger)) == ["good", "a?b"]
    assert counted(metrics, "lost") == 1


def test_a_closed_ledger_loses_records_and_refuses_to_be_read(open_ledger: Open, metrics: Metrics) -> None:
    ledger = open_ledger()
    ledger.close()
    ledger.add(record(MIDNIGHT))
    ledger.flush()
    assert counted(metrics, "lost") == 1
    with pytest.raises(StoreError, match="closed"):
        ledger.page(key_of(0.0, 0))
    with pytest.raises(StoreError, match="closed"):
        ledger.spent({"day": 0.0})


def test_a_full_disk_loses_records_until_there_is_room_again(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from edgecache import config
        from edgecache.clock import SystemClock
        from edgecache.store.ledger import LedgerStore
        from edgecache.store.records import Record, key_of
        from edgecache.telemetry.metrics import Metrics

        metrics, clock = Metrics(), SystemClock()
        ledger = LedgerStore(Path(sys.argv[1]), config.Ledger(flush=60.0), clock=clock, metrics=metrics)

        def add(name):
            ledger.add(Record(clock.now(), name, "acme" * 30, key="k" * 60))

        def counted(result):
            return metrics.registry.get_sample_value("edgecache_ledger_records_total", {"result": result}) or 0

        add("first")
        ledger.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, resource.RLIM_INFINITY))
        tried = 1
        while not counted("lost"):
            for _ in range(200):
                add("more")
            ledger.flush()
            tried += 200
        assert counted("written") + counted("lost") == tried, "each record is written or lost"
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        add("last")
        ledger.flush()
        page = ledger.page(key_of(0.0, 0), limit=10**6)
        assert len(page.records) == counted("written") and page.damaged == 0
        print(page.records[0].request_id, page.records[-1].request_id)
        ledger.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), tmp_path / "ledger"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["first", "last"], done.stderr
    assert done.stderr.count("records of the usage ledger are lost") == 1


@pytest.mark.parametrize("acknowledged", [1, 5])
def test_a_kill_loses_nothing_that_was_flushed(
    tmp_path: Path, open_ledger: Open, clock: ManualClock, acknowledged: int
) -> None:
    child = subprocess.Popen([sys.executable, CHILD, tmp_path / "ledger"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(acknowledged)]
    os.kill(child.pid, signal.SIGKILL)
    lines += [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith(".\n")]
    child.wait()
    child.stdout.close()
    last = int(lines[-1].split()[0])
    ledger = open_ledger()
    found = names(everything(ledger))
    assert found == [str(number) for number in range(1, len(found) + 1)]
    assert len(found) >= last
    assert ledger.spent({"all": 0.0})["all"] == {"acme": float(len(found))}


def test_reading_goes_on_while_records_are_added_and_the_file_grows(open_ledger: Open) -> None:
    ledger = open_ledger(flush=0.001, max_bytes=64 * 1024**2)
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append(len(everything(ledger)))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20_000):
        ledger.add(record(MIDNIGHT + number / 1000, "x" * 200))
        if number % 2000 == 0:
            ledger.flush()
    ledger.flush()
    stop.set()
    reader.join()
    assert seen == sorted(seen)
    assert len(everything(ledger)) == 20_000


def test_a_folder_that_cannot_be_had_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        LedgerStore(tmp_path / "file", config.Ledger(), clock=ManualClock(), metrics=Metrics())


def test_more_than_can_wait_is_lost(open_ledger: Open, metrics: Metrics) -> None:
    ledger = open_ledger(flush=3600.0)  # nothing is written before it is asked for
    for number in range(65_536 + 10):
        ledger.add(record(MIDNIGHT, str(number)))
    ledger.flush()
    assert (counted(metrics, "lost"), counted(metrics, "written")) == (10, 65_536)
