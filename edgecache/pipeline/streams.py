"""Streams that functions change: one event after the other as they pass, or the whole answer once it has been gathered.

The flight behind a stream, and the copy that is kept of it, stay as they are.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import cast

from edgecache.functions.placing import INLINE_BYTES
from edgecache.types import Call, Reply
from edgecache.wire import answers, sse
from edgecache.wire.sse import EventSplitter

EVENT_STREAM = "text/event-stream; charset=utf-8"

Change = Callable[[bytes, int], Awaitable[bytes]]
"""What becomes of the data of an event, and the number of that event, from 0."""


def in_form(call: Call, body: bytes) -> tuple[str, bytes]:
    """Content type and bytes of the whole answer `body` in the form that `call` asked for."""
    if not call.stream:
        return "application/json", body
    return EVENT_STREAM, answers.render_stream(call.endpoint, body, include_usage=call.include_usage)


async def in_form_later(call: Call, body: bytes) -> tuple[str, bytes]:
    """The same, in a thread where that takes long."""
    if call.stream and len(body) > INLINE_BYTES:
        return await asyncio.to_thread(in_form, call, body)
    return in_form(call, body)


class Events:
    """Changes the events of one stream; what is no event with JSON in it stays."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._splitter = EventSplitter()
        self._number = 0

    async def feed(self, received: bytes) -> bytes:
        """The events that `received` completes, changed."""
        return b"".join([await self._changed(event) for event in self._splitter.feed(received)])

    async def end(self) -> bytes:
        """What came after the last whole event, changed if it is one but for the blank line: many readers take it."""
        return await self._changed(self._splitter.rest)

    async def _changed(self, event: bytes) -> bytes:
        data = sse.data(event)
        if data is None or data == b"[DONE]":
            return event
        number, self._number = self._number, self._number + 1
        made = await self._change(data, number)
        return event if made is data else sse.frame(made, sse.event_name(event) or None)


class Changed(AsyncIterator[bytes]):
    """A stream whose events are changed as they pass. Raises what `chunks` and `change` raise."""

    def __init__(self, chunks: AsyncIterator[bytes], change: Change) -> None:
        self._chunks = chunks
        self._events = Events(change)
        self._over = False

    async def __anext__(self) -> bytes:
        while not self._over:
            received = await anext(self._chunks, None)
            if received is None:
                self._over = True
                made = await self._events.end()
            else:
                made = await self._events.feed(received)
            if made:
                return made
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop listening."""
        await close(self._chunks)


class Resumed(AsyncIterator[bytes]):
    """A stream of which `head` was taken already."""

    def __init__(self, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._head = head
        self._chunks = chunks

    async def __anext__(self) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Stop listening."""
        await close(self._chunks)


async def close(chunks: AsyncIterator[bytes]) -> None:
    """Close the chunks of a Reply, which promise to have an `aclose`."""
    await cast("AsyncGenerator[bytes, None]", chunks).aclose()


async def gather(call: Call, reply: Reply, limit: int) -> bytes | None:
    """The whole answer in `reply`, as JSON; None where it is no answer, or a stream of more than `limit` bytes.

    A stream that was gathered stands whole in `reply.body` then; one that is too long goes on as it came.
    """
    if reply.chunks is not None and not await _gathered(reply, reply.chunks, limit):
        return None
    if not reply.content_type.startswith("text/event-stream"):
        return reply.body
    if len(reply.body) > INLINE_BYTES:
        return await asyncio.to_thread(_assembled, call, reply.body)
    return _assembled(call, reply.body)


def _assembled(call: Call, events: bytes) -> bytes | None:
    whole = answers.assembled(call.endpoint, EventSplitter().feed(events))
    return whole if isinstance(whole, bytes) else None


async def _gathered(reply: Reply, chunks: AsyncIterator[bytes], limit: int) -> bool:
    head = bytearray()
    try:
        async for part in chunks:
            head += part
            if len(head) > limit:
                reply.chunks = Resumed(bytes(head), chunks)
                return False
    except BaseException:
        await close(chunks)
        raise
    await close(chunks)
    reply.chunks, reply.body = None, bytes(head)
    return True
