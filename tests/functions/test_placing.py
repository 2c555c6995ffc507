"""Where calls may run."""

from typing import Any

import pytest

from edgecache.config.tree import Functions
from edgecache.errors import Fault
from edgecache.functions.grants import isolated
from edgecache.functions.manifest import Allow, Manifest, Quotas
from edgecache.functions.placing import INLINE, PROCESS, THREAD, Place
from edgecache.functions.tally import OK
from edgecache.functions.versions import Version
from edgecache.telemetry.metrics import Metrics
from edgecache.wasm.base import Kind, Usage

QUICK = Usage(cpu=0.0001, wall=0.0002)
SLOW = Usage(cpu=0.003, wall=0.003)


def version(kind: Kind = Kind.CORE, tenant: str = "acme", **manifest: Any) -> Version:
    return Version(
        tenant=tenant,
        name="f",
        number=1,
        digest="d",
        artefact="a",
        kind=kind,
        size=1,
        manifest=Manifest(name="f", **manifest),
        created=0.0,
    )


def place(found: Version, calls: int = 20, usage: Usage = QUICK, **settings: Any) -> Place:
    made = Place(found, Functions(**settings), Metrics())
    for _ in range(calls):
        made.book(THREAD, OK, usage.wall, usage)
    return made


def test_a_version_has_to_show_that_it_is_quick_first() -> None:
    assert not place(version(), calls=19).inline
    assert place(version()).inline
    assert place(version()).where == INLINE
    assert place(version(Kind.COMPONENT)).inline


@pytest.mark.parametrize(
    "found",
    [
        version(Kind.SCRIPT),
        version(Kind.COMMAND),
        version(allow=Allow(kv=("shop",))),
        version(allow=Allow(fetch=("https://example.com",))),
        version(allow=Allow(llm=("*",))),
        version(allow=Allow(cache=True)),
        version(isolation="process"),
    ],
    ids=lambda found: f"{found.kind} {found.manifest.allow} {found.manifest.isolation}",
)
def test_what_waits_takes_long_or_runs_elsewhere_never_runs_on_the_loop(found: Version) -> None:
    assert not place(found).inline


def test_the_operator_may_want_none_on_the_loop() -> None:
    assert not place(version(), inline=0.0).inline
    assert not place(version(), inline=0.00005).inline


def test_a_slow_call_in_a_thread_says_little_but_half_of_them_do() -> None:
    made = place(version())
    made.book(THREAD, OK, 0.003, SLOW)
    assert made.inline
    for _ in range(30):
        made.book(THREAD, OK, 0.003, SLOW)
    assert not made.inline


def test_slow_calls_on_the_loop_end_it_for_a_while() -> None:
    made = place(version())
    for number in range(100):
        assert made.inline
        made.book(INLINE, OK, 0.003, SLOW if number % 20 == 0 else QUICK)
    assert not made.inline
    for _ in range(512):
        assert not made.inline
        made.book(THREAD, OK, 0.0002, QUICK)
    assert made.inline


def test_what_reading_the_answer_takes_counts_on_the_loop_and_waiting_does_not() -> None:
    reads, waits = place(version()), place(version())
    waited = Usage(cpu=QUICK.cpu, wall=0.003)
    for number in range(100):
        odd = number % 20 == 0
        reads.book(INLINE, OK, 0.003 if odd else QUICK.wall, QUICK)
        waits.book(INLINE, OK, waited.wall if odd else QUICK.wall, waited if odd else QUICK)
    assert not reads.inline
    assert waits.inline


def test_answers_too_large_for_the_loop_end_it_for_a_while() -> None:
    made = place(version())
    for number in range(100):
        made.book(INLINE, OK, QUICK.wall, QUICK)
        if number % 20 == 0:
            made.overdone()
    assert not made.inline


def test_calls_that_failed_say_nothing() -> None:
    made = place(version(), calls=0)
    for _ in range(50):
        made.book(THREAD, "trap", 0.0002, None)
    assert not made.inline


def test_time_that_was_waited_for_the_processor_does_not_count() -> None:
    assert place(version(), usage=Usage(cpu=0.0001, wall=0.05)).inline


def test_a_call_on_the_loop_gets_less_time_and_never_more_than_in_a_thread() -> None:
    made = place(version())
    assert made.tight.cpu == 0.002
    assert made.limits.cpu == 0.05
    assert made.tight.memory == made.limits.memory
    assert place(version(limits=Quotas(cpu_ms=1))).tight.cpu == 0.001


def test_a_call_that_was_stopped_keeps_it_off_until_a_thread_has_shown_what_it_takes() -> None:
    made = place(version())
    made.suspect = True
    assert made.where == THREAD
    made.judge(None, QUICK)
    assert made.inline


@pytest.mark.parametrize(("fault", "usage"), [(None, SLOW), (Fault.CPU, None), (Fault.TRAP, None)])
def test_if_it_took_too_long_it_never_comes_back(fault: Fault | None, usage: Usage | None) -> None:
    made = place(version())
    made.suspect = True
    made.judge(fault, usage)
    made.judge(None, QUICK)
    assert not made.inline


def test_one_stop_for_its_time_anywhere_is_enough() -> None:
    made = place(version())
    made.judge(Fault.TRAP, None)
    assert made.inline
    made.judge(Fault.CPU, None)
    assert not made.inline


@pytest.mark.parametrize(
    ("found", "settings", "expected"),
    [
        (version(), {}, False),
        (version(isolation="process"), {}, True),
        (version(), {"isolation": "process"}, True),
        (version(), {"untrusted": ("acme",)}, True),
        (version(tenant="other"), {"untrusted": ("acme",)}, False),
    ],
)
def test_isolation_is_the_operators_word_or_its_own_wish(found: Version, settings: Any, expected: bool) -> None:
    assert isolated(found.tenant, found.manifest, Functions(**settings)) is expected
    assert Place(found, Functions(**settings), Metrics()).where == (PROCESS if expected else THREAD)
