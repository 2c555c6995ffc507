"""Streams that are changed on their way, and streams that are gathered."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import UpstreamDied
from edgecache.pipeline.streams import Changed, Events, Resumed, gather, in_form, in_form_later
from edgecache.types import CacheInfo, CacheStatus, Reply
from edgecache.wire import sse
from tests.conftest import call, read

EVENTS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    b": a comment\n\n",
    b'event: note\ndata: {"choices":[{"index":0,"delta":{"content":"b"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    sse.DONE,
]
ASKED = call({"messages": [{"role": "user", "content": "x"}], "stream": True})


class Chunks(AsyncIterator[bytes]):
    """Bytes as they come from a flight."""

    def __init__(self, parts: Sequence[bytes], error: Exception | None = None) -> None:
        self.parts = list(parts)
        self.error = error
        self.closed = False

    async def __anext__(self) -> bytes:
        if self.parts:
            return self.parts.pop(0)
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


def streamed(chunks: Chunks) -> Reply:
    return Reply(200, CacheInfo(CacheStatus.MISS), content_type="text/event-stream", chunks=chunks)


async def shout(data: bytes, _number: int) -> bytes:
    return data.replace(b'"a"', b'"A"').replace(b'"b"', b'"B"')


async def same(data: bytes, _number: int) -> bytes:
    return data


async def test_events_are_changed_and_keep_their_names_and_what_is_no_event_with_data_stays() -> None:
    changed = Changed(Chunks(EVENTS), shout)
    found = [part async for part in changed]
    assert found == [EVENTS[0].replace(b'"a"', b'"A"'), EVENTS[1], EVENTS[2].replace(b'"b"', b'"B"'), *EVENTS[3:]]


async def test_events_are_numbered_without_comments_and_end() -> None:
    numbers: list[int] = []

    async def note(data: bytes, number: int) -> bytes:
        numbers.append(number)
        return data

    await Events(note).feed(b"".join(EVENTS))
    assert numbers == [0, 1, 2]


@given(st.data())
async def test_however_it_arrives_an_unchanged_stream_is_the_same_bytes(data: st.DataObject) -> None:
    whole = b"".join(EVENTS) + b"data: rest without an end"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parts = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    changed = Changed(Chunks(parts), same)
    assert b"".join([part async for part in changed]) == whole


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_the_last_event_is_changed_too_if_no_blank_line_ends_it(end: str) -> None:
    changed = Changed(Chunks([EVENTS[0], EVENTS[2].rstrip() + end.encode()]), shout)
    found = [part async for part in changed]
    assert found == [EVENTS[0].replace(b'"a"', b'"A"'), EVENTS[2].replace(b'"b"', b'"B"')]


async def test_what_a_change_of_the_last_event_raises_is_raised_and_the_event_is_not_sent() -> None:
    async def refuse(_data: bytes, _number: int) -> bytes:
        raise UpstreamDied("refused")

    changed = Changed(Chunks([EVENTS[0].rstrip()]), refuse)
    with pytest.raises(UpstreamDied):
        await anext(changed)
    assert [part async for part in changed] == []


async def test_an_upstream_that_dies_is_told_after_what_came_and_its_listener_is_closed() -> None:
    chunks = Chunks(EVENTS[:1], UpstreamDied("gone"))
    changed = Changed(chunks, same)
    assert await anext(changed) == EVENTS[0]
    with pytest.raises(UpstreamDied):
        await anext(changed)
    await changed.aclose()
    assert chunks.closed


async def test_a_stream_that_was_never_read_is_closed_all_the_same() -> None:
    chunks = Chunks(EVENTS)
    await Changed(chunks, same).aclose()
    assert chunks.closed


async def test_a_stream_is_gathered_to_the_answer_that_it_says() -> None:
    chunks = Chunks(EVENTS)
    reply = streamed(chunks)
    whole = await gather(ASKED, reply, 10_000)
    assert whole is not None
    assert b'"content":"ab"' in whole
    assert (reply.chunks, reply.body, chunks.closed) == (None, b"".join(EVENTS), True)


async def test_what_stands_whole_already_is_taken_as_it_is() -> None:
    reply = Reply(200, CacheInfo(CacheStatus.MISS), body=b'{"choices":[]}')
    assert await gather(call("x"), reply, 1) == b'{"choices":[]}'
    rendered = Reply(200, CacheInfo(CacheStatus.MISS), content_type="text/event-stream", body=b"".join(EVENTS))
    assert b'"content":"ab"' in (await gather(ASKED, rendered, 1) or b"")


async def test_a_stream_that_is_too_long_goes_on_as_it_came() -> None:
    chunks = Chunks(EVENTS)
    reply = streamed(chunks)
    assert await gather(ASKED, reply, 60) is None
    assert not chunks.closed
    assert await read(reply) == b"".join(EVENTS)
    assert chunks.closed


async def test_what_is_no_stream_of_answers_is_not_gathered() -> None:
    reply = streamed(Chunks([b"data: hello\n\n", sse.DONE]))
    assert await gather(ASKED, reply, 1000) is None
    assert reply.body == b"data: hello\n\ndata: [DONE]\n\n"


async def test_a_stream_that_dies_while_it_is_gathered_is_closed() -> None:
    chunks = Chunks(EVENTS[:1], UpstreamDied("gone"))
    with pytest.raises(UpstreamDied):
        await gather(ASKED, streamed(chunks), 1000)
    assert chunks.closed


async def test_a_resumed_stream_begins_with_what_was_taken() -> None:
    assert [part async for part in Resumed(b"a", Chunks([b"b", b"c"]))] == [b"a", b"b", b"c"]


def test_an_answer_takes_the_form_that_was_asked_for() -> None:
    body = b'{"id":"1","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"x"}}]}'
    assert in_form(call("x"), body) == ("application/json", body)
    content_type, events = in_form(ASKED, body)
    assert content_type.startswith("text/event-stream")
    assert events.endswith(sse.DONE)


def answer(words: str) -> bytes:
    message = {"role": "assistant", "content": words}
    return json.dumps({"id": "1", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}).encode()


@pytest.mark.parametrize(("length", "elsewhere"), [(10, False), (70_000, True)])
async def test_a_large_answer_becomes_a_stream_and_is_gathered_while_others_go_on(length: int, elsewhere: bool) -> None:
    others: list[str] = []
    asyncio.get_running_loop().call_soon(others.append, "rendered")
    content_type, events = await in_form_later(ASKED, answer("x" * length))
    assert bool(others) is elsewhere
    assert (content_type, events) == in_form(ASKED, answer("x" * length))
    await asyncio.sleep(0)
    others.clear()
    asyncio.get_running_loop().call_soon(others.append, "gathered")
    whole = await gather(ASKED, streamed(Chunks([events])), 1_000_000)
    assert bool(others) is elsewhere
    assert b'"%b"' % (b"x" * length) in (whole or b"")
