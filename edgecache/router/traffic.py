"""The requests of this POP that are in progress, by upstream, as the board shows them.

The counts are kept here, by name: a reload puts another board in place, with other rows, while requests go on.
"""

from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from edgecache.clock import Clock
from edgecache.router.board import Board


class HasBoard(Protocol):
    """Where the board of the moment is: the pool."""

    @property
    def board(self) -> Board:
        """The board of the upstreams there are now."""
        ...


@dataclass(slots=True)
class _Count:
    """What is in progress at one upstream; `unanswered` has when each was sent, the oldest first."""

    inflight: int = 0
    unanswered: dict["Slot", float] = field(default_factory=dict)


class Traffic:
    """Who is where. A slot is taken when an upstream is chosen, so that the next choice sees it."""

    def __init__(self, pool: HasBoard, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    def enter(self, name: str, tokens: float, *, stream: bool) -> "Slot":
        """One more request at upstream `name`, which will take about so many `tokens` of its rate.

        Only a `stream` has a first token to wait for: of an answer that comes whole, nobody sees when it began.
        """
        slot = Slot(self, name, tokens)
        count = self._counts.get(name)
        if count is None:
            count = self._counts[name] = _Count()
        count.inflight += 1
        if stream:
            count.unanswered[slot] = self._clock.monotonic()
        self._show(name, count, tokens, waited=stream)
        return slot

    def answered(self, slot: "Slot") -> None:
        """Its first token has come."""
        count = self._counts.get(slot.name)
        if count is not None and count.unanswered.pop(slot, None) is not None:
            self._show(slot.name, count, waited=True)

    def leave(self, slot: "Slot", tokens: float) -> None:
        """It is over, and took `tokens`."""
        count = self._counts[slot.name]
        count.inflight -= 1
        waited = count.unanswered.pop(slot, None) is not None
        self._show(slot.name, count, tokens - slot.tokens, waited=waited)
        if not count.inflight:
            del self._counts[slot.name]

    def _show(self, name: str, count: _Count, tokens: float = 0.0, *, waited: bool) -> None:
        """`waited`: the one it is about was or is unanswered. Where nobody is, the board says so already."""
        board = self._pool.board
        row = board.row.get(name)
        if row is None:  # taken out of the configuration meanwhile
            return
        board.inflight[row] = count.inflight
        if waited or count.unanswered:
            board.unanswered[row] = len(count.unanswered)
            board.oldest[row] = next(iter(count.unanswered.values()), inf)
        if tokens:
            board.room[row] -= tokens


class Slot:
    """One request's place at an upstream. Whoever holds it leaves, once; leaving again does nothing."""

    __slots__ = ("_left", "_traffic", "name", "tokens")

    def __init__(self, traffic: Traffic, name: str, tokens: float) -> None:
        self.name = name
        self.tokens = tokens
        self._traffic = traffic
        self._left = False

    def answered(self) -> None:
        """The first token has come."""
        if not self._left:
            self._traffic.answered(self)

    def leave(self, tokens: float = 0.0) -> bool:
        """Give the place free; `tokens` were taken. Whether it was still held."""
        if self._left:
            return False
        self._left = True
        self._traffic.leave(self, tokens)
        return True
