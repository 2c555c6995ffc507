"""What is booked of calls, and when."""

import asyncio
from typing import Any

import pytest

from edgecache.config.tree import Functions
from edgecache.errors import Fault, FunctionFault
from edgecache.functions.accounts import Accounts, Entry
from edgecache.functions.journal import Journal
from edgecache.functions.manifest import Manifest
from edgecache.functions.placing import Place
from edgecache.functions.versions import Loaded, Version
from edgecache.telemetry.metrics import Metrics
from edgecache.wasm.base import Kind, Request, Usage

USAGE = Usage(cpu=0.001, wall=0.002, host_calls=2, memory=65536)


class Observer:
    """What a registry is told of calls, and what it says of the function."""

    def __init__(self) -> None:
        self.seen: list[bool] = []
        self.deleted = False

    def observe(self, _loaded: Loaded, ok: bool) -> None:
        self.seen.append(ok)

    def keeps(self, _version: Version) -> bool:
        return not self.deleted


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
def journal() -> Journal:
    return Journal(lines=1000)


@pytest.fixture
def accounts(observer: Observer, journal: Journal) -> Accounts:
    registry: Any = observer
    return Accounts(registry, journal)


@pytest.fixture
def place() -> Place:
    return Place(version(), Functions(), Metrics())


def version() -> Version:
    return Version(
        tenant="acme",
        name="f",
        number=2,
        digest="d",
        artefact="a",
        kind=Kind.CORE,
        size=1,
        manifest=Manifest(name="f"),
        created=0.0,
    )


def entry(place: Place, fault: Fault | None = None, **more: Any) -> Entry:
    program: Any = None
    loaded = Loaded(version(), program, lambda _: None)
    request = Request("POST", "/", (), b"", 7, bytes(32))
    failed = None if fault is None else FunctionFault(fault, "why")
    return Entry(
        loaded, place, "thread", "hit", request, "req-1", 1.5, 0.002, None if failed else USAGE, failed, **more
    )


async def test_a_deleted_function_leaves_no_record(
    accounts: Accounts, journal: Journal, place: Place, observer: Observer
) -> None:
    accounts.note(entry(place))
    observer.deleted = True
    accounts.flush()
    assert journal.records("acme", "f") == []


async def test_calls_are_booked_together_a_little_later(accounts: Accounts, journal: Journal, place: Place) -> None:
    for _ in range(3):
        accounts.note(entry(place))
    assert journal.records("acme", "f") == []
    async with asyncio.timeout(5):
        while not journal.records("acme", "f"):
            await asyncio.sleep(0.01)
    assert len(journal.records("acme", "f")) == 3
    assert place.tally.outcomes == {"ok": 3}


async def test_many_calls_do_not_wait(accounts: Accounts, journal: Journal, place: Place) -> None:
    for _ in range(64):
        accounts.note(entry(place))
    assert len(journal.records("acme", "f")) == 64


async def test_a_record_says_all_that_is_needed_to_make_the_call_again(accounts, journal, place) -> None:
    accounts.note(entry(place, Fault.CPU))
    accounts.flush()
    (record,) = journal.records("acme", "f")
    assert (record.at, record.event, record.text, record.level) == (1.5, "call", "why", "error")
    assert (record.version, record.phase, record.outcome, record.request_id) == (2, "hit", "cpu", "req-1")
    assert record.data == {"now": 7, "seed": "00" * 32, "us": 2000}


@pytest.mark.parametrize(
    ("fault", "more", "told", "outcome"),
    [
        (None, {}, [True], "ok"),
        (Fault.TRAP, {}, [False], "trap"),
        (Fault.POOL, {}, [], "pool"),
        (Fault.ANSWER, {"gone": True}, [], "abandoned"),
    ],
)
async def test_only_what_is_the_functions_doing_is_held_against_it(
    accounts: Accounts, observer: Observer, place: Place, fault: Fault | None, more: Any, told: list[bool], outcome: str
) -> None:
    accounts.note(entry(place, fault, **more))
    accounts.flush()
    assert observer.seen == told
    assert place.tally.outcomes == {outcome: 1}


async def test_nothing_is_booked_twice(accounts: Accounts, journal: Journal, place: Place) -> None:
    accounts.note(entry(place))
    accounts.flush()
    accounts.flush()
    assert len(journal.records("acme", "f")) == 1
