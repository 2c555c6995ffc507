"""Flights, driven by hand: the upstream of these tests says a part when told to."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest

from edgecache.errors import UpstreamDied, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from edgecache.pipeline.coalesce import Flights, Listener, Transcript
from edgecache.tasks import Tasks
from edgecache.types import Endpoint, Entry
from edgecache.upstream.answer import Chunk
from edgecache.upstream.meter import Usage


@dataclass
class HandDriven:
    """An upstream answer whose parts arrive when the test says so."""

    streaming: bool = True
    status: int = 200
    content_type: str = "text/event-stream"
    upstream: str = "hand"
    lifetime: float | None = None
    small: bool = False
    usage: Usage | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: asyncio.Queue[bytes | UpstreamError | None] = field(default_factory=asyncio.Queue)
    taken: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def chunks(self) -> AsyncIterator[Chunk]:
        while (part := await self.parts.get()) is not None:
            if isinstance(part, UpstreamError):
                raise part
            self.taken += 1
            yield Chunk(visible=part, events=[part])

    async def read(self) -> bytes:
        return b"".join([chunk.visible async for chunk in self.chunks()])

    async def aclose(self) -> None:
        self.closed.set()

    def say(self, *parts: bytes | UpstreamError | None) -> None:
        for part in parts:
            self.parts.put_nowait(part)


class Stage:
    """Flights over one hand-driven answer, and what has landed."""

    def __init__(self, answer: HandDriven) -> None:
        self.tasks = Tasks()
        self.flights = Flights(self.tasks)
        self.answer = answer
        self.opened = 0
        self.landings: list[Transcript] = []
        self.may_land = asyncio.Event()
        self.may_land.set()

    async def open(self) -> HandDriven:
        self.opened += 1
        return self.answer

    async def land(self, script: Transcript) -> Entry | None:
        await self.may_land.wait()
        self.landings.append(script)
        return ENTRY

    def start(self, key: object = "key", keep: int = 10_000_000):
        return self.flights.start(self.open, self.land, key=key, shape="stream", keep=keep)


ENTRY = Entry("t", "", "m", b"s" * 16, b"d" * 32, None, Endpoint.CHAT, b"{}", 0.0, 1.0, id=7)


@pytest.fixture
async def stage():
    made = Stage(HandDriven())
    yield made
    await made.tasks.close()


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def whole(listener: Listener) -> bytes:
    return b"".join([part async for part in listener])


async def test_the_bytes_pass_through_as_they_come(stage: Stage) -> None:
    listener = stage.start()
    stage.answer.say(b"one")
    assert await anext(listener) == b"one"
    stage.answer.say(b"two", None)
    assert [part async for part in listener] == [b"two"]
    await listener.aclose()


async def test_identical_requests_share_one_fetch_and_latecomers_hear_it_from_the_start(stage: Stage) -> None:
    first = stage.start()
    stage.answer.say(b"one", b"two")
    await settle()
    late = stage.flights.join("key")
    assert late is not None
    stage.answer.say(b"three", None)
    assert await whole(late) == await whole(first) == b"onetwothree"
    assert stage.opened == 1


async def test_an_answer_that_ended_well_lands_and_is_given_to_those_who_wait_for_it(stage: Stage) -> None:
    listener = stage.start()
    stage.answer.say(b"one", None)
    assert await listener.landed() == ENTRY
    (script,) = stage.landings
    assert (script.events, script.ended, script.upstream) == ([b"one"], True, "hand")


async def test_a_json_answer_is_told_once_it_is_over_to_those_who_come_later_too(stage: Stage) -> None:
    stage.answer.streaming = False
    first = stage.start()
    stage.answer.say(b"one")
    await settle()
    late = stage.flights.join("key")
    assert late is not None
    stage.answer.say(b"two", None)
    for listener in (first, late):
        script = await listener.head()
        assert (script.body, script.ended) == (b"onetwo", True)
        await listener.aclose()
    assert stage.opened == 1
    assert await first.landed() == ENTRY


async def test_a_flight_may_be_joined_until_it_has_landed(stage: Stage) -> None:
    stage.may_land.clear()
    listener = stage.start()
    stage.answer.say(b"one", None)
    assert await whole(listener) == b"one"
    await listener.aclose()
    late = stage.flights.join("key")
    assert late is not None
    assert await whole(late) == b"one"
    stage.may_land.set()
    await late.landed()
    await settle()
    assert stage.flights.join("key") is None


async def test_a_stream_that_dies_raises_after_its_last_bytes_and_never_lands(stage: Stage) -> None:
    listener = stage.start()
    stage.answer.say(b"one", UpstreamDied("cut"))
    assert await anext(listener) == b"one"
    with pytest.raises(UpstreamDied, match="cut"):
        await anext(listener)
    assert await listener.landed() is None
    assert stage.landings == []


async def test_an_upstream_that_cannot_be_reached_fails_every_listener_at_the_head(stage: Stage) -> None:
    async def refuse() -> HandDriven:
        raise UpstreamUnreachable("refused")

    one = stage.flights.start(refuse, stage.land, key="key")
    two = stage.flights.join("key")
    assert two is not None
    for listener in (one, two):
        with pytest.raises(UpstreamUnreachable):
            await listener.head()


async def test_the_upstream_is_let_go_at_once_when_the_last_listener_leaves(stage: Stage) -> None:
    one = stage.start()
    two = stage.flights.join("key")
    assert two is not None
    stage.answer.say(b"one")
    await one.head()
    await one.aclose()
    await settle()
    assert not stage.answer.closed.is_set()
    await two.aclose()
    await asyncio.wait_for(stage.answer.closed.wait(), 5)
    assert stage.flights.join("key") is None
    assert stage.landings == []


@pytest.mark.parametrize(
    "end",
    [b"data: [DONE]\n\n", b'event: response.completed\ndata: {"type":"response.completed"}\n\n'],
    ids=["done", "responses"],
)
async def test_a_client_that_hangs_up_on_the_last_event_does_not_lose_the_copy(stage: Stage, end: bytes) -> None:
    listener = stage.start()
    stage.answer.say(end)
    await anext(listener)
    await listener.aclose()
    stage.answer.say(None)
    await listener.landed()
    assert len(stage.landings) == 1


async def test_closing_a_listener_twice_counts_once(stage: Stage) -> None:
    one, two = stage.start(), stage.flights.join("key")
    assert two is not None
    await one.aclose()
    await one.aclose()
    stage.answer.say(b"one", None)
    assert await whole(two) == b"one"


async def test_the_upstream_is_not_read_far_ahead_of_a_slow_client(stage: Stage) -> None:
    listener = stage.start()
    stage.answer.say(*[b"x" * 400_000] * 8, None)
    await settle()
    assert stage.answer.taken == 3
    assert len(await whole(listener)) == 3_200_000


async def test_an_answer_too_large_to_keep_passes_in_bounded_memory_and_takes_no_more_listeners(stage: Stage) -> None:
    listener = stage.start(keep=1_000_000)
    stage.answer.say(*[b"x" * 400_000] * 8)
    taken = 0
    while taken < 3_200_000:
        taken += len(await anext(listener))
        assert sum(map(len, listener.flight.since(0))) <= 1_600_000
    assert stage.flights.join("key") is None
    assert listener.flight.transcript.events == []
    stage.answer.say(None)
    assert await listener.landed() is None
    assert stage.landings == []


async def test_what_is_not_to_be_kept_is_dropped_once_all_have_had_it(stage: Stage) -> None:
    one = stage.start(keep=0)
    two = one.flight.listen()
    stage.answer.say(b"one", b"two", None)
    assert await whole(one) == b"onetwo"
    assert one.flight.since(0) != []
    assert await whole(two) == b"onetwo"
    assert one.flight.since(one.flight.parts) == []
    assert await one.landed() is None


async def test_flights_without_a_key_are_private(stage: Stage) -> None:
    stage.start(key=None)
    assert len(stage.flights) == 0
    assert stage.flights.join(None) is None


async def test_an_answer_that_was_refused_is_not_shared_with_those_who_ask_later(stage: Stage) -> None:
    stage.answer.status, stage.answer.streaming = 429, False
    listener = stage.start()
    stage.answer.say(b"busy", None)
    assert (await listener.head()).body == b"busy"
    await listener.landed()
    assert stage.flights.join("key") is None
    assert stage.landings == []


async def test_a_flight_that_waits_for_a_reader_is_not_left_hanging_when_the_last_one_leaves(stage: Stage) -> None:
    listener = stage.start()
    stage.answer.say(b"x" * 2_000_000 + b"data: [DONE]\n\n", None)
    await listener.head()
    await settle()
    await listener.aclose()
    await asyncio.wait_for(listener.flight.landed.wait(), 5)
    assert stage.answer.closed.is_set()


# ---------------------------------------------------------------------------------------------- deadlines
async def test_who_joins_waits_no_longer_than_its_own_deadline(stage: Stage) -> None:
    first = stage.start()
    late = stage.flights.join("key", 0.02)
    assert late is not None
    with pytest.raises(UpstreamTimeout, match="by the deadline"):
        await late.head()
    assert late.late
    await late.aclose()
    stage.answer.say(b"one", None)
    assert await whole(first) == b"one"
    assert await first.landed() == ENTRY


async def test_a_stream_is_cut_for_the_one_whose_deadline_it_is_and_goes_on_for_the_others(stage: Stage) -> None:
    first = stage.start()
    late = stage.flights.join("key", 0.05)
    patient = stage.flights.join("key", 60.0)
    assert late is not None
    assert patient is not None
    stage.answer.say(b"one")
    assert await anext(late) == b"one"
    with pytest.raises(UpstreamDied, match="hand did not end its answer by the deadline"):
        await anext(late)
    await late.aclose()
    stage.answer.say(b"two", None)
    assert await whole(patient) == await whole(first) == b"onetwo"
    assert stage.opened == 1


async def test_parts_that_keep_coming_carry_nobody_past_a_deadline(stage: Stage) -> None:
    first = stage.start()
    late = stage.flights.join("key", 0.0)
    assert late is not None
    stage.answer.say(b"one")
    assert await anext(first) == b"one"
    with pytest.raises(UpstreamTimeout):
        await anext(late)
    await late.aclose()


async def test_what_has_ended_in_time_may_be_read_later(stage: Stage) -> None:
    first = stage.start()
    late = stage.flights.join("key", 0.0)
    assert late is not None
    stage.answer.say(b"one", None)
    await first.landed()
    assert late.late
    assert await whole(late) == b"one"


async def test_the_entry_is_not_waited_for_past_a_deadline(stage: Stage) -> None:
    stage.may_land.clear()
    first = stage.start()
    late = stage.flights.join("key", 0.02)
    assert late is not None
    stage.answer.say(b"one", None)
    with pytest.raises(UpstreamTimeout):
        await late.landed()
    await late.aclose()
    stage.may_land.set()
    assert await first.landed() == ENTRY
