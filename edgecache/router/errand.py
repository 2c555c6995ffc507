"""One request on its way upstream: what it needs, what has been tried for it, and what it holds until it is over."""

from collections.abc import Callable, Hashable
from typing import Protocol

import msgspec

from edgecache.config import ServiceLevel
from edgecache.errors import EdgeCacheError
from edgecache.router.demand import Demand
from edgecache.router.limits import Reservation
from edgecache.router.routes import Leg
from edgecache.router.traffic import Slot
from edgecache.types import Account, Attempt, Call


class Open(Protocol):
    """An attempt, which may have ended."""

    record: Attempt

    def end(self, outcome: str) -> None:
        """Book it as `outcome`, unless it is booked."""
        ...


class Errand(msgspec.Struct, eq=False):
    """A request and its owner's books. Whoever opens one closes it, whatever happens.

    `level` is what its class is promised; `legs` the models to try. `slot` is the place that was taken for the attempt
    to come; `tried` the upstreams that failed, by model; `unknown` why a model cannot be chosen for; `let_go` is
    called with the account at the end.
    """

    call: Call
    demand: Demand
    level: ServiceLevel
    account: Account
    legs: tuple[Leg, ...]
    reservation: Reservation | None = None
    slot: Slot | None = None
    runs: list[Open] = []
    tried: dict[str, set[str]] = {}
    unknown: dict[str, EdgeCacheError] = {}
    let_go: Callable[[Account], None] | None = None
    again: bool = False
    hedged: bool = False
    closed: bool = False

    @property
    def group(self) -> Hashable:
        """What all have in common who can be served by the same upstreams: where one finds no room, none does."""
        needs = self.demand
        return (
            self.legs,
            needs.residency,
            needs.features,
            needs.lora,
            needs.gpu,
            needs.gpu_memory,
            needs.hops > 0,
            needs.function,
        )

    def left(self, now: float) -> float:
        """Seconds to its deadline."""
        return self.demand.due - now

    def failed(self, name: str, model: str) -> None:
        """The upstream is not to be asked for `model` any more."""
        self.tried.setdefault(model, set()).add(name)

    def put_back(self) -> None:
        """The place that was taken is not needed."""
        if self.slot is not None:
            self.slot.leave()
            self.slot = None

    def close(self) -> None:
        """Give back all that is held: the slot, attempts that nobody ended, what was reserved of limits and budget."""
        if self.closed:
            return
        self.closed = True
        try:
            self.put_back()
            for run in self.runs:
                run.end("cancelled")
            if self.reservation is not None:
                records = [run.record for run in self.runs]
                tokens = sum(record.prompt_tokens + record.completion_tokens for record in records)
                self.reservation.settle(tokens, sum(record.cost for record in records))
        finally:
            if self.let_go is not None:
                self.let_go(self.account)
