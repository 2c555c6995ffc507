"""The texts that wait for their turn: put in on the event loop, taken out by the engine thread.

Two queues: lookups, whose callers give up within the deadline, and patient work (`/v1/embeddings`, fills), which gets
a share of every pass, so that it neither holds lookups up nor starves.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgecache.embed.base import Matrix, TokenIds, Vector
from edgecache.errors import EmbedError, EmbedTimeout

_PATIENT_SHARE = 4
"""Patient work gets one token in a pass for so many of the budget."""


class Request:
    """What one caller waits for: a row of numbers for each of its texts, or pairs of them."""

    __slots__ = ("future", "items", "matrix", "missing", "patient", "tokens")

    def __init__(self, future: asyncio.Future[None], texts: Sequence[Any], dimension: int, *, patient: bool) -> None:
        self.future = future
        self.patient = patient
        self.matrix: Matrix = np.empty((len(texts), dimension), dtype=np.float32)
        self.missing = len(texts)
        self.tokens = 0
        self.items = [Item(self, position, text) for position, text in enumerate(texts)]

    def fail(self, error: EmbedError) -> None:
        """Wake the caller with `error`, unless it has its answer."""
        if not self.future.done():
            self.future.set_exception(error)

    def expire(self) -> None:
        """Its time is up."""
        self.fail(EmbedTimeout("no result within the deadline"))

    def fill(self, item: "Item", vector: Vector) -> None:
        """Take the row of one text; the last one wakes the caller."""
        self.matrix[item.position] = vector
        self.tokens += len(item.ids)
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            self.future.set_result(None)


class Item:
    """One text, in any form that the engine reads. Once read it has its tokens, or the error why it has no row.

    `row` is its place in the pass.
    """

    __slots__ = ("error", "ids", "position", "request", "row", "text")

    def __init__(self, request: Request, position: int, text: Any) -> None:
        self.request = request
        self.position = position
        self.text = text
        self.ids: TokenIds = ()
        self.row = 0
        self.error: EmbedError | None = None


Read: TypeAlias = Callable[[Item], int]
"""Gives an item its tokens or its error; returns what it takes of the budget."""

_Queue: TypeAlias = dict[Item, None]
"""An ordered set: the engine takes from it, and a caller that gives up takes its own texts out."""


class Waiting:
    """Both queues and the bell that wakes the engine."""

    def __init__(self) -> None:
        self._lookups: _Queue = {}
        self._patient: _Queue = {}
        self._bell = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._lookups) + len(self._patient)

    def ahead(self, *, patient: bool) -> int:
        """How many texts a new request would find in its queue."""
        return len(self._queue(patient=patient))

    def put(self, request: Request) -> None:
        """Queue the texts of `request`."""
        with self._bell:
            self._queue(patient=request.patient).update(dict.fromkeys(request.items))
            self._bell.notify()

    def forget(self, request: Request) -> None:
        """Take out what still waits of `request`: its caller has given up."""
        queue = self._queue(patient=request.patient)
        with self._bell:
            for item in request.items:
                queue.pop(item, None)

    def close(self) -> None:
        """Tell the engine to stop."""
        with self._bell:
            self._closed = True
            self._bell.notify()

    def drain(self) -> list[Item]:
        """Take everything."""
        with self._bell:
            items = [*self._lookups, *self._patient]
            self._lookups.clear()
            self._patient.clear()
        return items

    def wait(self) -> bool:
        """Block the engine until there is something to take; False once closed."""
        with self._bell:
            while not (self._lookups or self._patient or self._closed):
                self._bell.wait()
            return not self._closed

    def take(self, budget: int, read: Read) -> list[Item]:
        """The texts of the next pass: lookups up to `budget` tokens, patient work up to its share on top.

        Lookups newest first. It changes nothing until more waits than one pass takes; then the oldest are nearly out
        of time, and to serve them in order would make every caller late.
        """
        lookups = self._take(self._lookups, budget, read, newest=True)
        return lookups + self._take(self._patient, max(1, budget // _PATIENT_SHARE), read, newest=False)

    def _take(self, queue: _Queue, budget: int, read: Read, *, newest: bool) -> list[Item]:
        taken: list[Item] = []
        tokens = 0
        while tokens < budget and (item := self._peek(queue, newest=newest)) is not None:
            cost = read(item)  # outside the lock: it tokenises
            if taken and tokens + cost > budget:
                break
            with self._bell:
                if item not in queue:
                    continue  # its caller has given up meanwhile
                del queue[item]
            taken.append(item)
            tokens += cost
        return taken

    def _peek(self, queue: _Queue, *, newest: bool) -> Item | None:
        with self._bell:
            return next(reversed(queue) if newest else iter(queue), None)

    def _queue(self, *, patient: bool) -> _Queue:
        return self._patient if patient else self._lookups
