"""One upstream fetch a key: identical requests that miss at the same time share the first one's answer.

A flight belongs to no client. It reads the upstream as long as somebody listens and is cancelled, its upstream
connection included, when the last listener leaves. Listeners that come late get the bytes from the start. Who leads is
bound by the deadline that the flight was opened with; who joins brings one of its own, and only stops listening then.

Memory is bounded: nothing is read further ahead of the foremost listener than `_AHEAD` bytes, and an answer that grows
beyond what may be kept takes no more listeners and drops each part once all have had it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from edgecache.errors import ClientError, Overloaded, UpstreamDied, UpstreamError, UpstreamTimeout
from edgecache.tasks import Tasks
from edgecache.types import Entry
from edgecache.upstream.meter import Usage
from edgecache.wire import sse

if TYPE_CHECKING:
    from edgecache.router.answer import RoutedAnswer

_AHEAD = 1024 * 1024
_SETTLE = 5.0
_LATER = 0.01
"""Seconds before the copy is made. Nobody waits for it, but a client that asks again at once would wait behind it: at
one connection it cost the next request half a millisecond. Until then the flight itself answers who asks the same."""


@dataclass(slots=True)
class Transcript:
    """What the upstream said: the body of a JSON answer, once it is over, or the events of a stream.

    `ended` = it ended well.

    `usage` is what it took, once it is over; `small` = a small model has answered in place of the one asked for.
    """

    status: int = 0
    content_type: str = "application/json"
    upstream: str = ""
    streaming: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    lifetime: float | None = None
    body: bytes = b""
    events: list[bytes] = field(default_factory=list)
    ended: bool = False
    usage: Usage | None = None
    small: bool = False


Open = Callable[[], Awaitable["RoutedAnswer"]]
"""Sends the request upstream; raises UpstreamError, ClientError or Overloaded before the first byte."""
Land = Callable[[Transcript], Awaitable[Entry | None]]
"""Keeps a copy of a finished answer; returns the stored entry, or None if it may not be kept."""


class Flight:
    """One upstream answer in progress and those who listen to it."""

    def __init__(
        self,
        open_: Open,
        land: Land,
        tasks: Tasks,
        closed: Callable[[], None],
        *,
        shape: Hashable = None,
        keep: int = 0,
    ) -> None:
        """`closed` is called when nobody may join any more; only listeners of the same `shape` can use the bytes.

        Answers of up to `keep` bytes land.
        """
        self.shape = shape
        self.transcript = Transcript()
        self.entry: Entry | None = None
        self.error: UpstreamError | ClientError | Overloaded | None = None
        self.over = False
        self.landed = asyncio.Event()
        self._open = open_
        self._land = land
        self._close = closed
        self._keep = keep
        self._kept = keep > 0
        self._parts: list[bytes] = []
        self._first = 0
        self._listeners: set[Listener] = set()
        self._size = 0
        self._foremost = 0
        self._complete = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._task = tasks.spawn(self._run(), name="flight")

    @property
    def parts(self) -> int:
        """How many parts have arrived."""
        return self._first + len(self._parts)

    def since(self, number: int) -> list[bytes]:
        """The parts from `number` on."""
        return self._parts[number - self._first :]

    def listen(self, left: float = inf) -> "Listener":
        """One more listener, who must be closed; `left` are the seconds to its own deadline."""
        listener = Listener(self, left)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: "Listener") -> None:
        """One listener fewer; without any, an unfinished answer is of no use to anybody."""
        self._listeners.discard(listener)
        if not self._listeners:
            self._room.set()  # whoever waited for a reader waits for nobody now
        if not self._listeners and not self.over and not self._complete:
            self._close()
            self._task.cancel()

    def changed(self) -> Awaitable[object]:
        """To wait for the next part of a stream, or the end."""
        return self._changed.wait()

    def advance(self, position: int) -> None:
        """A listener has taken `position` bytes; the upstream may be read on."""
        if position > self._foremost:
            self._foremost = position
            self._room.set()
        if not self._kept and self._listeners:
            had = min(listener.number for listener in self._listeners) - self._first
            if had > 0:
                del self._parts[:had]
                self._first += had

    async def _run(self) -> None:
        try:
            await self._read()
            if self.transcript.ended and self._kept and self.transcript.status == 200:
                await asyncio.sleep(_LATER)
                self.entry = await self._land(self.transcript)
        finally:
            self._close()
            self.landed.set()

    async def _read(self) -> None:
        try:
            answer = await self._open()
            try:
                await self._pump(answer)
            finally:
                await answer.aclose()
                self.transcript.usage = answer.usage
        except (UpstreamError, ClientError, Overloaded) as error:  # nobody serves the model, or can take it now
            self.error = error
        finally:
            if not self.transcript.ended and self.error is None:
                self.error = UpstreamDied("the request was abandoned")
            self.over = True
            self._notify()

    async def _pump(self, answer: "RoutedAnswer") -> None:
        script = self.transcript
        script.status, script.content_type = answer.status, answer.content_type
        script.upstream, script.streaming, script.headers = answer.upstream, answer.streaming, answer.headers
        script.lifetime, script.small = answer.lifetime, answer.small
        if answer.streaming:
            async for chunk in answer.chunks():
                self._complete = self._complete or _ends_answer(chunk.events)
                self._note(chunk.events, sum(map(len, chunk.events)))
                await self._append(chunk.visible)
        else:
            script.body = await answer.read()  # no part of it is of use to anybody: they are told of the end
            self._note([], len(script.body))
        script.lifetime = answer.lifetime  # a stream that another upstream has continued is not kept
        script.ended = True

    def _note(self, events: list[bytes], size: int) -> None:
        """Keep what arrived for the copy, unless there is to be none, or it would be too large."""
        if not self._kept:
            return
        self._keep -= size
        if self._keep >= 0:
            self.transcript.events.extend(events)
        else:
            self._kept = False
            self.transcript.events.clear()
            self._close()

    async def _append(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._size += len(part)
            self._notify()
            if self._size == len(part):
                await asyncio.sleep(0)  # the first byte goes out before more is read
        while self._size - self._foremost > _AHEAD and self._listeners:
            self._room.clear()
            await self._room.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _ends_answer(events: list[bytes]) -> bool:
    """Whether the last event says that nothing follows: clients hang up on it before the upstream does."""
    if not events:
        return False
    return sse.data(events[-1]) == b"[DONE]" or sse.event_name(events[-1]) == "response.completed"


class Listener(AsyncIterator[bytes]):
    """One client's view of a flight: an iterator over the bytes of a stream, which raises what the flight ended with.

    What has not ended by the listener's own deadline raises UpstreamTimeout, or UpstreamDied once it has had some.
    """

    def __init__(self, flight: Flight, left: float = inf) -> None:
        self.flight = flight
        self.number = 0
        self._due = inf if left == inf else asyncio.get_running_loop().time() + left
        self._position = 0
        self._closed = False

    async def head(self) -> Transcript:
        """Wait for a JSON answer, or the first byte of a stream; raises what the upstream failed with if none comes."""
        while not self.flight.parts and not self.flight.over:
            await self._in_time(self.flight.changed())
        if not self.flight.parts and self.flight.error is not None:
            raise self.flight.error
        return self.flight.transcript

    @property
    def late(self) -> bool:
        """Whether its deadline has passed."""
        return self._due < inf and asyncio.get_running_loop().time() >= self._due

    async def __anext__(self) -> bytes:
        """All bytes that have come since the last call, at least one."""
        flight = self.flight
        if self.late and not flight.over:
            raise self._missed()
        while self.number == flight.parts:
            if flight.over:
                if flight.error is not None:
                    raise flight.error
                raise StopAsyncIteration
            await self._in_time(flight.changed())
        fresh = flight.since(self.number)
        self.number += len(fresh)
        part = fresh[0] if len(fresh) == 1 else b"".join(fresh)
        self._position += len(part)
        flight.advance(self._position)
        return part

    async def landed(self) -> Entry | None:
        """Wait for the end; the stored entry, or None if the answer could not be kept."""
        self.flight.advance(2**63)
        await self._in_time(self.flight.landed.wait())
        return self.flight.entry

    async def aclose(self) -> None:
        """Stop listening."""
        if not self._closed:
            self._closed = True
            self.flight.leave(self)

    async def _in_time(self, event: Awaitable[object]) -> None:
        """Wait for `event`, until the deadline at the latest."""
        if self._due == inf:
            await event
            return
        try:
            async with asyncio.timeout_at(self._due):
                await event
        except TimeoutError:
            raise self._missed() from None

    def _missed(self) -> UpstreamError:
        name = self.flight.transcript.upstream or "the upstream"
        if self.number:
            return UpstreamDied(f"{name} did not end its answer by the deadline")
        return UpstreamTimeout(f"{name} did not answer by the deadline")


class Flights:
    """The flights that may be joined, by key."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._open: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(
        self, open_: Open, land: Land, *, key: Hashable = None, shape: Hashable = None, keep: int = 0
    ) -> Listener:
        """Begin a flight; with a `key`, others may join it until it has landed. `keep` as in `Flight`."""

        def closed() -> None:
            if key is not None and self._open.get(key) is flight:
                del self._open[key]

        flight = Flight(open_, land, self._tasks, closed, shape=shape, keep=keep)
        if key is not None:
            self._open[key] = flight
        return flight.listen()

    async def settle(self) -> None:
        """Wait for the copies of answers that have ended, at most `_SETTLE` seconds."""
        landings = [flight.landed.wait() for flight in self._open.values() if flight.over]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*landings), _SETTLE)

    def join(self, key: Hashable, left: float = inf) -> Listener | None:
        """Listen to the flight of `key`, if there is one, for `left` seconds at most."""
        flight = self._open.get(key)
        return flight.listen(left) if flight is not None else None
