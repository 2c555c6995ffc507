"""Who is next of those that wait in one class of service: tenants share by weight, each in its own order. Pure.

Start-time fair queueing (Goyal, Vin and Cheng 1996). Requests that need the same (a group) share what frees for them by
weight and work. Groups may need the same upstreams too, so which group comes first is settled by the same rule.
"""

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

import msgspec

_REMEMBERED = 1024


class Ticket(msgspec.Struct, kw_only=True, eq=False):
    """A place in a line. `work` is what the request is expected to cost, in tokens; `number` is given by the line."""

    tenant: str
    group: Hashable
    weight: float
    work: float
    number: int = 0


T = TypeVar("T", bound=Ticket)


class Shares:
    """Virtual time, and how far each tenant has been paid for in it. Being idle earns nothing."""

    def __init__(self) -> None:
        self._now = 0.0
        self._paid: dict[str, float] = {}

    def start(self, tenant: str) -> float:
        """When the next request of `tenant` starts; the least is next."""
        return max(self._now, self._paid.get(tenant, 0.0))

    def charge(self, tenant: str, work: float) -> None:
        """A request of `tenant` is served; `work` is what it costs by the tenant's weight."""
        self._now = self.start(tenant)
        if len(self._paid) >= _REMEMBERED:  # what is forgotten is one request a tenant at most
            self._paid.clear()
        self._paid[tenant] = self._now + work


class _Group(Generic[T]):
    """Those of one line that need the same, by tenant."""

    def __init__(self) -> None:
        self.shares = Shares()
        self.count = 0
        self.weight = 0.0
        self.tenants: dict[str, dict[int, T]] = {}
        self._weights: dict[str, float] = {}

    def add(self, ticket: T) -> None:
        if ticket.tenant not in self.tenants:
            self.tenants[ticket.tenant] = {}
            self._weights[ticket.tenant] = ticket.weight
            self.weight += ticket.weight
        self.tenants[ticket.tenant][ticket.number] = ticket
        self.count += 1

    def remove(self, ticket: T) -> None:
        tickets = self.tenants[ticket.tenant]
        del tickets[ticket.number]
        self.count -= 1
        if not tickets:
            del self.tenants[ticket.tenant]
            self.weight -= self._weights.pop(ticket.tenant)

    def first(self) -> T:
        heads = (next(iter(tickets.values())) for tickets in self.tenants.values())
        return min(heads, key=lambda ticket: (self.shares.start(ticket.tenant), ticket.number))


class Line(Generic[T]):
    """The line of one class. All but `first` take the same time however many wait."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, _Group[T]] = {}
        self._tickets: dict[int, T] = {}
        self._shares = Shares()
        self._number = 0

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, ticket: T) -> bool:
        return self._tickets.get(ticket.number) is ticket

    def count(self, group: Hashable) -> int:
        """How many of `group` wait."""
        found = self._groups.get(group)
        return found.count if found is not None else 0

    def ahead(self, group: Hashable, tenant: str, weight: float) -> float:
        """How many of `group` would be served before a newcomer of `tenant`, all requests being alike."""
        found = self._groups.get(group)
        if found is None:
            return 0.0
        own = found.tenants.get(tenant)
        weights = found.weight if own else found.weight + weight
        return min(found.count, (len(own or ()) + 1) * weights / weight - 1)

    def add(self, ticket: T) -> None:
        """Last of its tenant."""
        self._number += 1
        ticket.number = self._number
        self._tickets[ticket.number] = ticket
        self._groups.setdefault(ticket.group, _Group()).add(ticket)

    def remove(self, ticket: T) -> None:
        """Out of the line, which must have it, as if it had never been in."""
        del self._tickets[ticket.number]
        group = self._groups[ticket.group]
        group.remove(ticket)
        if not group.count:
            del self._groups[ticket.group]
        if not self._tickets:
            self._shares = Shares()

    def serve(self, ticket: T) -> None:
        """Out of the line, and its tenant has had its work done."""
        work = ticket.work / ticket.weight
        self._groups[ticket.group].shares.charge(ticket.tenant, work)
        self._shares.charge(ticket.tenant, work)
        self.remove(ticket)

    def first(self, blocked: Collection[Hashable] = ()) -> T | None:
        """Who is next, without the groups `blocked`. Takes time by the tenants in the others."""
        heads = [group.first() for name, group in self._groups.items() if name not in blocked]
        return min(heads, key=lambda ticket: (self._shares.start(ticket.tenant), ticket.number), default=None)

    def newest(self) -> T:
        """Who came last."""
        return next(reversed(self._tickets.values()))
