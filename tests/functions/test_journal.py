import asyncio
import threading
from typing import Any
from unicodedata import category

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.functions.journal import LEVELS, MAX_RING, MAX_TEXT, Filter, Journal, Record, escaped
from edgecache.wasm.base import Usage

OWNER = ("acme", "f")


@pytest.fixture
def journal():
    made = Journal(lines=10)
    yield made
    made.close()


def record(text: str = "text", **fields: Any) -> Record:
    return Record(**{"at": 1.0, "event": "log", "text": text} | fields)


def texts(journal: Journal, wanted: Filter = Filter(), **more: Any) -> list[str]:  # noqa: B008 - a constant
    return [each.text for each in journal.records(*OWNER, wanted, **more)]


async def some(tail: Any, count: int) -> list[str]:
    return [(await anext(tail)).text for _ in range(count)]


async def test_the_last_lines_are_kept_of_each_function(journal: Journal) -> None:
    for number in range(25):
        journal.publish(*OWNER, record(f"line {number}"))
    journal.publish("acme", "g", record("of g"))
    assert texts(journal) == [f"line {number}" for number in range(15, 25)]
    assert texts(journal, count=2) == ["line 23", "line 24"]
    assert texts(journal, count=0) == []
    assert [each.text for each in journal.records("acme", "g")] == ["of g"]
    assert journal.records("other", "f") == []


async def test_long_lines_are_kept_up_to_a_size() -> None:
    journal = Journal(lines=100_000)
    for number in range(1000):
        journal.publish(*OWNER, record(f"{number} " + "x" * 4000))
    kept = journal.records(*OWNER, count=10_000)
    assert 200 < len(kept) < 260
    assert sum(len(each.text) for each in kept) <= MAX_RING
    assert kept[-1].text.startswith("999 ")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain ä 漢 🙂", "plain ä 漢 🙂"),
        ('one\n{"level":"error"}', 'one\\n{"level":"error"}'),
        ("a\r\tb", "a\\r\\tb"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x00\x07\x7f\x9b", "\\x00\\x07\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b\u200bc\ufeff", "a\\u2028b\\u200bc\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\ue0041"),
    ],
)
def test_what_acts_on_a_terminal_or_breaks_a_line_is_escaped(text: str, clean: str) -> None:
    assert escaped(text) == clean


@given(st.text(max_size=300), st.integers(40, 200))
def test_a_clean_text_is_one_line_of_bounded_length_that_can_be_encoded(text: str, limit: int) -> None:
    clean = escaped(text, limit)
    assert len(clean) <= limit
    assert "C" not in {category(char)[0] for char in clean}
    assert not {category(char) for char in clean} & {"Zl", "Zp"}
    assert len(clean.splitlines()) <= 1
    clean.encode()
    assert escaped(clean, limit) == clean


def test_a_long_text_is_cut_and_says_how_long_it_was() -> None:
    clean = escaped("x" * 10_000)
    assert len(clean) == MAX_TEXT
    assert clean.endswith("x… (10000 characters)")
    assert escaped("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert len(escaped("\n" * MAX_TEXT)) == MAX_TEXT


async def test_ids_and_names_are_cleaned_too(journal: Journal) -> None:
    journal.publish(*OWNER, record("t\n", request_id="a\nb" + "x" * 500, phase="hit\x1b", outcome="ok\r"))
    (kept,) = journal.records(*OWNER)
    assert kept.text == "t\\n"
    assert kept.request_id.startswith("a\\nbx")
    assert len(kept.request_id) == 128
    assert (kept.phase, kept.outcome) == ("hit\\x1b", "ok\\r")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), "abcd"),
        (Filter(level="warn"), "bd"),
        (Filter(level="error"), "d"),
        (Filter(events=("call",)), "cd"),
        (Filter(phase="hit"), "ad"),
        (Filter(outcome="trap"), "d"),
        (Filter(version=2), "bd"),
        (Filter(search="SLOW"), "b"),
        (Filter(request_id="req-1"), "ac"),
        (Filter(version=2, phase="hit"), "d"),
        (Filter(sample=0.0), ""),
    ],
)
async def test_filters_narrow(journal: Journal, wanted: Filter, found: str) -> None:
    journal.publish(*OWNER, record("a", phase="hit", version=1, request_id="req-1"))
    journal.publish(*OWNER, record("b was slow", level="warn", version=2, request_id="req-2"))
    journal.publish(*OWNER, record("c", event="call", outcome="ok", phase="miss", version=1, request_id="req-1"))
    journal.publish(*OWNER, record("d", event="call", level="error", outcome="trap", phase="hit", version=2))
    assert "".join(text[0] for text in texts(journal, wanted)) == found


@given(st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_a_level_wants_itself_and_what_is_graver(least, level) -> None:
    assert Filter(level=least).wants(record(level=level)) == (LEVELS.index(level) >= LEVELS.index(least))


def test_a_sample_takes_all_records_of_a_request_or_none() -> None:
    wanted, chosen = Filter(sample=0.25), 0
    for number in range(1000):
        answers = {wanted.wants(record(f"{number} {part}", request_id=f"req-{number}")) for part in range(3)}
        assert len(answers) == 1
        chosen += answers.pop()
    assert 190 < chosen < 310


async def test_a_tail_gets_what_is_published_from_any_thread(journal: Journal) -> None:
    journal.publish(*OWNER, record("before"))
    with journal.subscribe(*OWNER, Filter(level="warn")) as tail:

        def work() -> None:
            for number in range(100):
                journal.publish(*OWNER, record(f"{number}", level="error" if number % 2 else "info"))

        thread = threading.Thread(target=work)
        thread.start()
        found = await some(tail, 50)
        thread.join()
    assert found == [f"{number}" for number in range(1, 100, 2)]


async def test_a_tail_that_cannot_follow_loses_records_and_is_told_how_many(journal: Journal) -> None:
    with journal.subscribe(*OWNER, capacity=3) as tail:
        for number in range(10):
            journal.publish(*OWNER, record(f"{number}"))
        await asyncio.sleep(0)
        assert await some(tail, 4) == ["0", "1", "2", "7 records lost: they came faster than they were read"]
        journal.publish(*OWNER, record("again"))
        assert await some(tail, 1) == ["again"]


async def test_each_tail_has_its_own_place_and_one_that_is_closed_gets_nothing_more(journal: Journal) -> None:
    one, other = journal.subscribe(*OWNER), journal.subscribe(*OWNER, Filter(search="b"))
    journal.publish(*OWNER, record("a"))
    journal.publish(*OWNER, record("b"))
    assert await some(one, 2) == ["a", "b"]
    assert await some(other, 1) == ["b"]
    one.close()
    one.close()
    journal.publish(*OWNER, record("more b"))
    assert await some(other, 1) == ["more b"]
    assert [each async for each in one] == []
    other.close()


async def test_forgetting_a_function_and_closing_end_its_tails(journal: Journal) -> None:
    journal.publish(*OWNER, record("gone"))
    tail = journal.subscribe(*OWNER)
    reader = asyncio.ensure_future(anext(tail, None))  # noqa: TID251 - a reader that waits
    await asyncio.sleep(0)
    journal.forget(*OWNER)
    assert await reader is None
    assert journal.records(*OWNER) == []
    journal.forget(*OWNER)
    last = journal.subscribe(*OWNER)
    journal.close()
    assert [each async for each in last] == []


def test_a_tail_whose_loop_has_ended_disturbs_nobody() -> None:
    journal = Journal(lines=10)

    async def follow() -> None:
        journal.subscribe(*OWNER)

    asyncio.run(follow())
    journal.publish(*OWNER, record("one"))
    journal.publish(*OWNER, record("two"))
    assert texts(journal) == ["one", "two"]


async def test_many_threads_publish_and_nothing_is_lost() -> None:
    journal = Journal(lines=10_000)

    def work() -> None:
        for number in range(500):
            journal.publish(*OWNER, record(f"{number}"))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.records(*OWNER, count=10_000)) == 3000


def test_a_record_is_small_as_json() -> None:
    kept = record(usage=Usage(cpu=0.001, wall=0.002, host_calls=3, memory=65536), version=2)
    assert msgspec.json.decode(msgspec.json.encode(kept)) == {
        "at": 1.0,
        "event": "log",
        "text": "text",
        "version": 2,
        "usage": {"cpu": 0.001, "wall": 0.002, "host_calls": 3, "memory": 65536},
    }
