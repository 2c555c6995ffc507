"""Boards and offers for tests of the choice, and a small simulation of upstreams that wait, slow down and lie."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle
from math import inf
from typing import Any

from edgecache.config import Price, ServiceLevel, Upstream
from edgecache.router import few, policy, predict
from edgecache.router.affinity import Affinity
from edgecache.router.board import Board
from edgecache.router.choice import Choice
from edgecache.router.demand import Demand
from edgecache.router.offers import Offers, facts

NOW = 1000.0
LEVEL = ServiceLevel(ttft=1.0, probability=0.9, share=1.0)
RTT = 0.002


def upstream(name: str, price: float = 0.0, **settings: Any) -> Upstream:
    """An upstream; `price` is USD per million tokens, read or written."""
    return Upstream(name=name, url="http://unused", price=Price(input=price, output=price), **settings)


def market(*upstreams: Upstream) -> tuple[Board, Offers]:
    """A board with a row for each, all of them a round trip of `RTT` away, and their offers for one model."""
    board = Board([each.name for each in upstreams])
    board.rtt[:] = RTT
    for row, each in enumerate(upstreams):
        board.slots[row] = each.max_concurrency or inf
    return board, Offers("m", range(len(upstreams)), [facts(each, "m") for each in upstreams])


def choose(board: Board, offers: Offers, demand: Demand | None = None, **arguments: Any) -> Choice:
    """`policy.choose` with what most tests do not care about; of few rows in both ways, which must come to the same."""
    wanted = demand or Demand("m", prompt_tokens=100, output_tokens=10)
    given = {"near": 0.1, "most_out": 0.5, "now": NOW, "draw": lambda: 0.5, **arguments}
    level = given.pop("level", LEVEL)
    draws = Draws(given.pop("draw"))
    choice = policy.on_columns(offers, board, wanted, level, draw=draws, **given)
    if len(offers) <= few.MOST:
        again = policy.choose(offers, board, wanted, level, draw=draws.again(), **given)
        assert again == choice
    return choice


class Draws:
    """Draws that can be had once more."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._had: list[float] = []

    def __call__(self) -> float:
        self._had.append(self._draw())
        return self._had[-1]

    def again(self) -> Callable[[], float]:
        """The same numbers, and no more than there were."""
        return iter(self._had).__next__


@dataclass(slots=True, eq=False)
class Request:
    demand: Demand
    came: float
    sent: float = 0.0
    choice: Choice = field(default_factory=Choice)


@dataclass(slots=True)
class Server:
    """One upstream as it really is: `slots` run at once, the others wait. `slow` says by how much at which time."""

    first: float = 0.05
    token: float = 50e-6
    decode: float = 0.01
    slots: int = 64
    noise: float = 0.2
    slow: Callable[[float], float] = lambda _: 1.0
    running: int = 0
    queue: list[Request] = field(default_factory=list)
    read: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Seen:
    """A request that was served: how long it `waited` for room before it was `sent`, `ttft` is the time since."""

    sent: float
    row: int
    ttft: float
    choice: Choice
    waited: float = 0.0


class Fleet:
    """Requests that arrive at random, `rate` a second, are chosen for and learned from; the rest is arithmetic.

    `upstreams` are what the configuration says of `servers`. A request that none has room for waits, first come first
    served, until one of those in progress ends. `robin` gives them out in turn instead of choosing.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        rate: float,
        *,
        seed: int = 1,
        upstreams: Sequence[Upstream] | None = None,
        scrape: Callable[[Board, Sequence[Server], float], None] | None = None,
        demand: Callable[[random.Random], Demand] | None = None,
        level: ServiceLevel = LEVEL,
        robin: bool = False,
    ) -> None:
        self.board, self.offers = market(*(upstreams or [upstream(f"u{row}") for row in range(len(servers))]))
        self.seen: list[Seen] = []
        self.refused: list[Choice] = []
        self._servers, self._rate, self._scrape, self._level = servers, rate, scrape, level
        self._random = random.Random(seed)
        self._demand = demand or (
            lambda draw: Demand("m", prompt_tokens=draw.randrange(50, 2000), output_tokens=60.0, stream=True)
        )
        self._affinity = Affinity()
        self._turn = cycle(range(len(servers))) if robin else None
        self._line: deque[Request] = deque()
        self._waiting: list[list[Request]] = [[] for _ in servers]
        self._events: list[Any] = []
        self._number = count()

    def run(self, seconds: float) -> list[Seen]:
        """Serve what arrives in that time, and all that is in progress then."""
        self._at(0.0, self._arrive, seconds)
        if self._scrape is not None:
            self._at(0.0, self._look, seconds)
        while self._events:
            now, _, happens, *rest = heapq.heappop(self._events)
            happens(now, *rest)
        return self.seen

    def share(self, row: int, since: float = 0.0, until: float = inf) -> float:
        """Of the requests sent in that time, how many went to `row`."""
        rows = [each.row for each in self.seen if since <= each.sent < until]
        return rows.count(row) / len(rows)

    def _at(self, when: float, happens: Callable[..., None], *rest: Any) -> None:
        heapq.heappush(self._events, (when, next(self._number), happens, *rest))

    def _look(self, now: float, seconds: float) -> None:
        self._scrape(self.board, self._servers, now)
        if now < seconds:
            self._at(now + 5, self._look, seconds)

    def _arrive(self, now: float, seconds: float) -> None:
        if now > seconds:
            return
        self._at(now + self._random.expovariate(self._rate), self._arrive, seconds)
        self._line.append(Request(self._demand(self._random), now))
        self._admit(now)

    def _admit(self, now: float) -> None:
        """Send those who wait, in order, as long as there is room for the first of them."""
        while self._line:
            request = self._line[0]
            request.sent, request.choice = now, self._choose(request.demand, now)
            if request.choice.wait > 0:
                return
            self._line.popleft()
            if request.choice.names:
                self._send(now, self.offers.row[request.choice.names[0]], request)
            else:
                self.refused.append(request.choice)

    def _choose(self, demand: Demand, now: float) -> Choice:
        if self._turn is not None:
            return Choice((self.offers.names[next(self._turn)],))
        known = self._affinity.known(self.offers, demand, now)
        return choose(
            self.board, self.offers, demand, now=now, draw=self._random.random, known=known, level=self._level
        )

    def _send(self, now: float, row: int, request: Request) -> None:
        self._waiting[row].append(request)
        self.board.inflight[row] += 1
        self._show(row)
        if self._servers[row].running < self._servers[row].slots:
            self._start(now, row, request)
        else:
            self._servers[row].queue.append(request)

    def _show(self, row: int) -> None:
        self.board.unanswered[row] = len(self._waiting[row])
        self.board.oldest[row] = self._waiting[row][0].sent if self._waiting[row] else inf

    def _start(self, now: float, row: int, request: Request) -> None:
        server, demand = self._servers[row], request.demand
        server.running += 1
        had = max((each.tokens for each in demand.prefixes if each.digest in server.read), default=0)
        server.read.update(each.digest for each in demand.prefixes)
        slow = server.slow(now)
        alone = server.first + server.token * (demand.prompt_tokens - had)
        first = now + RTT + alone * slow * (1 + server.noise * abs(self._random.gauss(0, 1)))
        self._at(first, self._first, row, request)
        self._at(first + demand.output_tokens * server.decode * slow, self._last, row, request)

    def _first(self, now: float, row: int, request: Request) -> None:
        self._waiting[row].remove(request)
        self._show(row)
        ttft, choice = now - request.sent, request.choice
        self.seen.append(Seen(request.sent, row, ttft, choice, request.sent - request.came))
        if self._turn is not None:
            return
        known = self._affinity.known(self.offers, request.demand, now)[row]
        self._affinity.note(request.demand, self.offers.names[row], now)
        predict.learn(
            self.offers,
            self.offers.names[row],
            rtt=RTT,
            tokens=request.demand.prompt_tokens - int(known),
            ttft=ttft,
            predicted=choice.ttft[0],
            work=choice.work[0],
        )

    def _last(self, now: float, row: int, request: Request) -> None:
        server = self._servers[row]
        server.running -= 1
        self.board.inflight[row] -= 1
        tokens = int(request.demand.output_tokens)
        predict.learn_rate(self.offers, self.offers.names[row], tokens, tokens * server.decode * server.slow(now))
        if server.queue:
            self._start(now, row, server.queue.pop(0))
        self._admit(now)
