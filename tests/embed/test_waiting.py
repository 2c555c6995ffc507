import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.embed.waiting import Item, Request, Waiting
from edgecache.errors import EmbedError, EmbedTimeout


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def request(loop: asyncio.AbstractEventLoop, *texts: str, patient: bool = False) -> Request:
    return Request(loop.create_future(), texts, 4, patient=patient)


def letters(item: Item) -> int:
    """One token a letter."""
    return len(str(item.text))


def texts(items: list[Item]) -> list[str]:
    return [str(item.text) for item in items]


def test_lookups_fill_the_budget_and_patient_work_its_share_on_top(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting()
    waiting.put(request(loop, *["p"] * 50, patient=True))
    for _ in range(20):
        waiting.put(request(loop, "l"))
    assert texts(waiting.take(16, letters)) == ["l"] * 16 + ["p"] * 4
    assert (waiting.ahead(patient=False), waiting.ahead(patient=True), len(waiting)) == (4, 46, 50)


def test_the_newest_lookup_goes_first_and_the_oldest_patient_text(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting()
    for text in ("a", "b", "c"):
        waiting.put(request(loop, text))
        waiting.put(request(loop, text.upper(), patient=True))
    assert texts(waiting.take(2, letters)) == ["c", "b", "A"]


def test_a_text_larger_than_the_budget_goes_alone(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting()
    waiting.put(request(loop, "small"))
    waiting.put(request(loop, "x" * 100))
    assert texts(waiting.take(10, letters)) == ["x" * 100]
    assert texts(waiting.take(10, letters)) == ["small"]


def test_what_a_caller_gave_up_is_not_taken(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting()
    gone, stays = request(loop, "gone", "gone too", patient=True), request(loop, "stays", patient=True)
    waiting.put(gone)
    waiting.put(stays)
    waiting.forget(gone)
    assert texts(waiting.take(100, letters)) == ["stays"]


def test_a_caller_may_give_up_while_its_text_is_read(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting()
    gone = request(loop, "gone")
    waiting.put(gone)

    def read(item: Item) -> int:
        waiting.forget(item.request)
        return 1

    assert waiting.take(100, read) == []


def test_the_engine_sleeps_until_there_is_work_and_leaves_when_closed(loop: asyncio.AbstractEventLoop) -> None:
    waiting, woken = Waiting(), []

    def engine() -> None:
        while waiting.wait():
            woken.extend(texts(waiting.take(10, letters)))
            taken.set()

    taken = threading.Event()
    thread = threading.Thread(target=engine)
    thread.start()
    waiting.put(request(loop, "work"))
    assert taken.wait(5)
    waiting.close()
    thread.join(5)
    assert not thread.is_alive()
    assert woken == ["work"]


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=6))),
    st.integers(4, 40),
    st.data(),
)
def test_every_text_is_taken_once_unless_given_up(
    groups: list[tuple[bool, list[str]]], budget: int, data: st.DataObject
) -> None:
    with closing(asyncio.new_event_loop()) as loop:
        requests = [request(loop, *group, patient=patient) for patient, group in groups]
    waiting = Waiting()
    for each in requests:
        waiting.put(each)
    gone = [each for each in requests if data.draw(st.booleans())]
    for each in gone:
        waiting.forget(each)
    taken: list[Item] = []
    while len(waiting):
        part = waiting.take(budget, letters)
        lookups = [letters(item) for item in part if not item.request.patient]
        assert sum(lookups) <= budget or len(lookups) == 1
        taken += part
    assert len(taken) == len(set(taken))
    assert set(taken) == {item for each in requests if each not in gone for item in each.items}


def test_drain_leaves_nothing(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting()
    waiting.put(request(loop, "a"))
    waiting.put(request(loop, "b", patient=True))
    assert texts(waiting.drain()) == ["a", "b"]
    assert len(waiting) == 0


def test_the_first_outcome_of_a_request_stands(loop: asyncio.AbstractEventLoop) -> None:
    late, failed = request(loop, "a"), request(loop, "a")
    late.expire()
    late.fill(late.items[0], late.matrix[0])
    with pytest.raises(EmbedTimeout):
        late.future.result()
    failed.fail(EmbedError("first"))
    failed.fail(EmbedError("second"))
    with pytest.raises(EmbedError, match="first"):
        failed.future.result()
