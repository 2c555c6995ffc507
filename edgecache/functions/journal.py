"""What functions said and did: a bounded ring per function, and live tails of it. In memory only.

A record's texts come from functions and clients, so control characters are escaped and lengths are bounded before
anybody sees them. Publishing never waits: a tail that cannot follow loses records, and is told how many.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from threading import Lock
from typing import Any, Final, Literal, Self
from unicodedata import category

import msgspec

from edgecache.wasm.base import Usage

Level = Literal["trace", "debug", "info", "warn", "error"]
LEVELS: Final[tuple[Level, ...]] = ("trace", "debug", "info", "warn", "error")
Event = Literal["log", "call", "audit", "deploy", "lost"]
"""A line that the function wrote, a call of it, a host call that it made, a change of versions; records lost to a tail.
"""

MAX_TEXT: Final = 4096
"""Characters of the longest text, once escaped."""
MAX_RING: Final = 1024 * 1024
"""Characters of all texts of one function."""
_OVERHEAD: Final = 200
"""What a record counts for beside its text."""
_QUEUE: Final = 1000
"""Records that may wait for one tail."""
_SHORT: Final = 128
"""Characters of names and ids."""
_SHORTHAND: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_Owner = tuple[str, str]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. `at` is Unix time in s; `outcome` is `ok` or a fault; `data` is for programs to read."""

    at: float
    event: Event
    text: str = ""
    level: Level = "info"
    version: int = 0
    phase: str = ""
    outcome: str = ""
    request_id: str = ""
    usage: Usage | None = None
    data: Mapping[str, Any] = {}


class Filter(msgspec.Struct, frozen=True):
    """Which records are wanted; what is left empty does not narrow.

    `level` is the least one, `search` a part of the text in any case, `sample` a share of the requests: all records of
    one or none, whoever asks.
    """

    level: Level = "trace"
    events: tuple[Event, ...] = ()
    phase: str = ""
    outcome: str = ""
    version: int = 0
    search: str = ""
    request_id: str = ""
    sample: float = 1.0

    def wants(self, record: Record) -> bool:
        """Whether `record` is among them."""
        return (
            LEVELS.index(record.level) >= LEVELS.index(self.level)
            and (not self.events or record.event in self.events)
            and (not self.phase or record.phase == self.phase)
            and (not self.outcome or record.outcome == self.outcome)
            and (not self.version or record.version == self.version)
            and (not self.request_id or record.request_id == self.request_id)
            and (not self.search or self.search.casefold() in record.text.casefold())
            and (self.sample >= 1.0 or self._sampled(record))
        )

    def _sampled(self, record: Record) -> bool:
        name = record.request_id or f"{record.at} {record.text}"
        place = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
        return place < self.sample * 2.0**64


_ALL: Final = Filter()


def escaped(text: str, limit: int = MAX_TEXT) -> str:
    """`text` on one line, with nothing in it that acts on a terminal or cannot be seen, cut to `limit` characters."""
    cut = text[: limit + 1]
    if not cut.isprintable():
        cut = "".join(map(_seen, cut))
    if len(cut) <= limit:
        return cut
    note = f"… ({len(text)} characters)"
    return cut[: limit - len(note)] + note


def _seen(char: str) -> str:
    """`char`, or how it is written where it is a control, a format or an unknown character."""
    if char.isprintable() or category(char) == "Zs":
        return char
    code = ord(char)
    return _SHORTHAND.get(char) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


class Tail:
    """Records of one function as they come: `async for` until `close`, or for as long as the `with` block lasts."""

    def __init__(self, ring: "_Ring", wanted: Filter, capacity: int) -> None:
        self._ring = ring
        self._wanted = wanted
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Record] = deque()
        self._woken = asyncio.Event()
        self._closed = False
        self.lost = 0
        """Records that did not fit in the queue since the last one that was read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> "Tail":
        return self

    async def __anext__(self) -> Record:
        while not (self._waiting or self.lost):
            if self._closed:
                raise StopAsyncIteration
            self._woken.clear()
            await self._woken.wait()
        if self.lost and not self._waiting:
            return self._said()
        return self._waiting.popleft()

    def _said(self) -> Record:
        lost, self.lost = self.lost, 0
        text = f"{lost} records lost: they came faster than they were read"
        return Record(at=self._ring.latest, event="lost", level="warn", text=text, data={"lost": lost})

    def offer(self, record: Record) -> None:
        """Queue `record` if it is wanted; from any thread."""
        if self._wanted.wants(record):
            try:
                self._loop.call_soon_threadsafe(self._take, record)
            except RuntimeError:  # the loop has been closed: nobody reads any more
                self._ring.leave(self)

    def _take(self, record: Record) -> None:
        if self._closed:
            return
        if self.lost or len(self._waiting) >= self._capacity:  # after a gap nothing until it has been told
            self.lost += 1
        else:
            self._waiting.append(record)
        self._woken.set()

    def close(self) -> None:
        """End it: what is queued can still be read. A second call does nothing."""
        self._closed = True
        self._ring.leave(self)
        self._woken.set()


class _Ring:
    """The records of one function, and who follows them."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._lock = Lock()
        self._records: deque[Record] = deque()
        self._size = 0
        self._tails: tuple[Tail, ...] = ()
        self.latest = 0.0

    def add(self, record: Record) -> None:
        with self._lock:
            self._records.append(record)
            self._size += len(record.text) + _OVERHEAD
            self.latest = record.at
            while len(self._records) > self._lines or self._size > MAX_RING:
                self._size -= len(self._records.popleft().text) + _OVERHEAD
            tails = self._tails
        for tail in tails:
            tail.offer(record)

    def snapshot(self) -> list[Record]:
        with self._lock:
            return list(self._records)

    def join(self, tail: Tail) -> None:
        with self._lock:
            self._tails = (*self._tails, tail)

    def leave(self, tail: Tail) -> None:
        with self._lock:
            self._tails = tuple(each for each in self._tails if each is not tail)

    def end(self) -> None:
        for tail in self._tails:
            tail.close()


class Journal:
    """The rings of all functions. `publish` may be called from any thread, and costs a few microseconds."""

    def __init__(self, *, lines: int) -> None:
        """Args: `lines` are kept of each function, fewer if they are long."""
        self._lines = lines
        self._lock = Lock()
        self._rings: dict[_Owner, _Ring] = {}

    def publish(self, tenant: str, function: str, record: Record) -> None:
        """Keep `record` and hand it to those who follow."""
        clean = msgspec.structs.replace(
            record,
            text=escaped(record.text),
            phase=escaped(record.phase, _SHORT),
            outcome=escaped(record.outcome, _SHORT),
            request_id=escaped(record.request_id, _SHORT),
        )
        self._ring(tenant, function).add(clean)

    def records(self, tenant: str, function: str, wanted: Filter = _ALL, count: int = 1000) -> list[Record]:
        """The last `count` records that are wanted, oldest first."""
        ring = self._rings.get((tenant, function))
        found = [record for record in (ring.snapshot() if ring else ()) if wanted.wants(record)]
        return found[-count:] if count > 0 else []

    def subscribe(self, tenant: str, function: str, wanted: Filter = _ALL, *, capacity: int = _QUEUE) -> Tail:
        """Records that are wanted from now on. On the event loop."""
        ring = self._ring(tenant, function)
        tail = Tail(ring, wanted, capacity)
        ring.join(tail)
        return tail

    def forget(self, tenant: str, function: str) -> None:
        """Drop the records of a function, and end its tails. On the event loop."""
        with self._lock:
            ring = self._rings.pop((tenant, function), None)
        if ring is not None:
            ring.end()

    def close(self) -> None:
        """End all tails. On the event loop."""
        for ring in tuple(self._rings.values()):
            ring.end()

    def _ring(self, tenant: str, function: str) -> _Ring:
        ring = self._rings.get((tenant, function))
        if ring is None:
            with self._lock:
                ring = self._rings.setdefault((tenant, function), _Ring(self._lines))
        return ring
