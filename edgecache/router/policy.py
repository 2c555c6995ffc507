"""Which upstream gets a request. Pure: what there is, what is needed and a draw in; a choice with its reasons out.

Filters first, each a reason of its own. Then, of those that meet the target of the class with the wanted probability,
the cheapest; if none does, the fastest. Near-equals share by power of two choices (Mitzenmacher 2001). Once in a while
a request tries one of the others, because nothing else tells that a slow upstream has recovered (the epsilon-greedy
rule: Sutton and Barto, Reinforcement Learning, section 2.2).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from math import inf
from typing import NamedTuple

import msgspec
import numpy as np

from edgecache.config import ServiceLevel
from edgecache.router.board import Board, Flags, Floats, Ints
from edgecache.router.demand import Demand
from edgecache.router.offers import Offers
from edgecache.router.predict import Prediction, deviations, predict
from edgecache.types import Tier

_NAMES = 4
"""The picked one and those for failover and hedges."""
_TRIAL = 0.005
"""Share of choices that try an upstream which would not be picked."""
_HEDGE = deviations(0.95)
"""Standard deviations after which a second request is worth its cost: 5 of 100 are as late."""
_GUESSED = 0.8
"""Share of an estimated prompt that surely is one: an upstream counts better than an estimate, so it decides."""
_RETURNING = 32.0
"""Requests at once that the ramp of an upstream without a limit is a share of."""
_PEER = Tier.PEER.rank


class Refusal(StrEnum):
    """Why an upstream is left out, in the order in which it is looked at."""

    RESIDENCY = "residency"
    """It stands where the prompt may not be processed."""
    CAPABILITY = "capability"
    """It cannot do what the request needs, or has not loaded the adapter."""
    CONTEXT = "context"
    """Prompt and answer are too long for it."""
    HOPS = "hops"
    """It is a neighbour POP, and the request has come from one."""
    BUDGET = "budget"
    """It costs more than is left of the key's budget."""
    TRIED = "tried"
    """It has been tried for this request."""
    LATE = "late"
    """Its answer would end after the deadline."""
    DOWN = "down"
    """It is ejected."""
    OVERLOADED = "overloaded"
    """It asked to be left alone."""
    FULL = "full"
    """It has as many requests as this class may give it."""
    RATE = "rate"
    """It takes no more tokens in this minute."""


_REFUSALS = tuple(Refusal)
_WAITING = frozenset({Refusal.OVERLOADED, Refusal.FULL, Refusal.RATE})
_NUMBER = {refusal: number for number, refusal in enumerate(_REFUSALS)}


class Choice(msgspec.Struct, frozen=True):
    """The upstreams to ask, best first: the first is picked, the others are for failover and hedges. Empty = none.

    `why` is `cheapest` (of those that meet the class's target), `fastest` (none does), `function` (one chose it),
    `only` (no other can), `trial` (to see whether it has become better) or empty. A value a name: `ttft`, `late` (the
    time that 95 of 100 first tokens keep), `total` and `work` (as in `predict`) in seconds, `cost` in USD. Where there
    are no names, `refusal` is the filter that left none, and `wait` the seconds until room is expected, if waiting
    helps. `counts` says how many upstreams each filter took out.
    """

    names: tuple[str, ...] = ()
    why: str = ""
    ttft: tuple[float, ...] = ()
    late: tuple[float, ...] = ()
    total: tuple[float, ...] = ()
    cost: tuple[float, ...] = ()
    work: tuple[float, ...] = ()
    refusal: Refusal | None = None
    counts: Mapping[Refusal, int] = {}
    wait: float = 0.0


class Line(msgspec.Struct, frozen=True):
    """What was held of one upstream. `late` is by the class's probability, as `meets` is; `chosen` 0 = it was not."""

    name: str
    tier: Tier
    region: str
    jurisdiction: str
    refusal: Refusal | None
    ttft: float
    late: float
    total: float
    cost: float
    meets: bool
    chosen: int


class _Judged(NamedTuple):
    """All rows: what is expected of them, the number of the filter that took each out (-1 = none), who meets."""

    prediction: Prediction
    refused: Ints
    meets: Flags


def choose(
    offers: Offers,
    board: Board,
    demand: Demand,
    level: ServiceLevel,
    *,
    near: float,
    most_out: float,
    now: float,
    draw: Callable[[], float],
    known: Floats | None = None,
    tried: Collection[str] = (),
) -> Choice:
    """The upstreams for `demand`, served as `level` says.

    `near` is the share by which cost, then time, may be worse and still count as equal; `most_out` the share of ejected
    ones above which they are tried all the same (Envoy's panic threshold). `draw` gives numbers from 0 to below 1;
    `known` are prompt tokens in each row's KV cache; `tried` names those that this request has been sent to.
    """
    judged = _judge(offers, board, demand, level, most_out=most_out, now=now, known=known, tried=tried)
    prediction, refused, meets = judged
    usable = refused < 0
    counts = _counts(refused, usable)
    if not np.count_nonzero(usable):
        return _refusal(offers, board, demand, judged, counts, now)
    usable = _without_peers(offers, usable, meets)
    named = offers.row.get(demand.function, -1)
    if named >= 0 and refused[named] < 0:
        pick, why = named, "function"
    else:
        pick, why = _pick(prediction, usable, meets, near, draw)
        trial = _trial(board.unanswered.take(offers.upstream), prediction.cost, usable, pick, why, near, draw)
        pick, why = (pick, why) if trial is None else (trial, "trial")
    names = [pick, *_others(prediction.rank, usable, pick)]
    if len(names) == 1 and why != "function":
        why = "only"
    return Choice(
        tuple([offers.names[row] for row in names]),
        why,
        ttft=tuple([float(prediction.ttft[row]) for row in names]),
        late=tuple([float(prediction.ttft[row] + _HEDGE * prediction.sigma[row]) for row in names]),
        total=tuple([float(prediction.total[row]) for row in names]),
        cost=tuple([float(prediction.cost[row]) for row in names]),
        work=tuple([float(prediction.work[row]) for row in names]),
        counts=counts,
    )


def lines(
    offers: Offers,
    board: Board,
    demand: Demand,
    level: ServiceLevel,
    *,
    near: float,  # noqa: ARG001 - the arguments of `choose`
    most_out: float,
    now: float,
    known: Floats | None = None,
    tried: Collection[str] = (),
    choice: Choice,
) -> list[Line]:
    """What `choose` held of every row when it made `choice` of the same."""
    judged = _judge(offers, board, demand, level, most_out=most_out, now=now, known=known, tried=tried)
    prediction, refused, meets = judged
    rank = {name: index for index, name in enumerate(choice.names, 1)}
    return [
        Line(
            name,
            facts.upstream.tier,
            facts.upstream.region,
            facts.upstream.jurisdiction,
            _REFUSALS[refused[row]] if refused[row] >= 0 else None,
            ttft=float(prediction.ttft[row]),
            late=float(prediction.late[row]),
            total=float(prediction.total[row]),
            cost=float(prediction.cost[row]),
            meets=bool(meets[row]),
            chosen=rank.get(name, 0),
        )
        for row, (name, facts) in enumerate(zip(offers.names, offers.facts, strict=True))
    ]


def _judge(
    offers: Offers,
    board: Board,
    demand: Demand,
    level: ServiceLevel,
    *,
    most_out: float,
    now: float,
    known: Floats | None,
    tried: Collection[str],
) -> _Judged:
    prediction = predict(offers, board, demand, known, level.probability, now)
    refused: Ints = np.full(len(offers), -1)

    def refuse(refusal: Refusal, bad: Flags) -> None:
        if np.count_nonzero(bad):  # a tenth of the time of `any`, for a few rows
            refused[bad & (refused < 0)] = _NUMBER[refusal]

    for refusal, bad in _by_facts(offers, demand, prediction):
        refuse(refusal, bad)
    able = refused < 0
    for name in tried:
        if (row := offers.row.get(name)) is not None and able[row]:
            refused[row] = _NUMBER[Refusal.TRIED]
    if demand.due < inf:
        refuse(Refusal.LATE, now + prediction.total + deviations(level.probability) * prediction.sigma > demand.due)
    for refusal, bad in _by_state(offers, board, demand, level, able, most_out, now):
        refuse(refusal, bad)
    return _Judged(prediction, refused, prediction.late <= level.ttft)


def _by_facts(offers: Offers, demand: Demand, prediction: Prediction) -> Iterator[tuple[Refusal, Flags]]:
    """Filters whose word does not change while a request waits."""
    if demand.residency:
        yield Refusal.RESIDENCY, ~offers.within(demand.residency)
    if demand.features:
        yield Refusal.CAPABILITY, (offers.features & int(demand.features)) != int(demand.features)
    if demand.lora:
        yield (
            Refusal.CAPABILITY,
            np.array([demand.lora not in facts.upstream.loras for facts in offers.facts], np.bool_),
        )
    prompt = demand.prompt_tokens if demand.counted else demand.prompt_tokens * _GUESSED
    yield Refusal.CONTEXT, offers.context < prompt + (demand.limit or demand.output_tokens)
    if demand.hops >= 1:
        yield Refusal.HOPS, offers.tier == _PEER
    if demand.budget < inf:
        yield Refusal.BUDGET, prediction.cost > demand.budget


def _by_state(
    offers: Offers, board: Board, demand: Demand, level: ServiceLevel, able: Flags, most_out: float, now: float
) -> Iterator[tuple[Refusal, Flags]]:
    """Filters by what holds at this moment. `able` are the rows that could serve the request at another time."""
    rows = offers.upstream
    out = board.out.take(rows) > now
    if np.count_nonzero(out) and np.count_nonzero(out & able) <= most_out * np.count_nonzero(able):
        yield Refusal.DOWN, out
    yield Refusal.OVERLOADED, board.busy.take(rows) > now
    slots, ramp = board.slots.take(rows), board.ramp.take(rows)
    coming = ramp < 1
    if np.count_nonzero(coming):
        slots = np.where(coming, np.minimum(slots, _RETURNING) * ramp, slots)
    yield Refusal.FULL, board.inflight.take(rows) >= np.maximum(slots * max(level.share, 1e-9), 1)
    yield Refusal.RATE, board.room.take(rows) < demand.prompt_tokens + demand.output_tokens


def _without_peers(offers: Offers, usable: Flags, meets: Flags) -> Flags:
    """Neighbour POPs help out only where no upstream of this one's own is usable and in time."""
    own = usable & (offers.tier != _PEER)
    return own if np.count_nonzero(own & meets) else usable


def _pick(
    prediction: Prediction, usable: Flags, meets: Flags, near: float, draw: Callable[[], float]
) -> tuple[int, str]:
    """The row, and why. Near-equals in cost are narrowed to near-equals in time, so that a known prefix counts."""
    meeting = usable & meets
    if np.count_nonzero(meeting):
        cost, why = np.where(meeting, prediction.cost, inf), "cheapest"
        rank = np.where(cost <= cost[cost.argmin()] * (1 + near), prediction.rank, inf)
    else:
        rank, why = np.where(usable, prediction.rank, inf), "fastest"
    equals = (rank <= rank[rank.argmin()] * (1 + near)).nonzero()[0]
    first = second = int(draw() * len(equals))
    if len(equals) > 1:
        second = int(draw() * (len(equals) - 1))
        second += second >= first
    return min(
        int(equals[first]), int(equals[second]), key=lambda row: (rank[row], prediction.cost[row], prediction.ttft[row])
    ), why


def _trial(
    unanswered: Ints, cost: Floats, usable: Flags, pick: int, why: str, near: float, draw: Callable[[], float]
) -> int | None:
    """Now and then another row, no dearer where cost decides, and none that is about to answer anyway."""
    if draw() < 1 - _TRIAL:
        return None
    others = usable & (unanswered == 0)
    others[pick] = False
    if why == "cheapest":
        others &= cost <= cost[pick] * (1 + near)
    rows = np.flatnonzero(others)
    return int(rows[int(draw() * len(rows))]) if len(rows) else None


def _others(rank: Floats, usable: Flags, pick: int) -> list[int]:
    """The fastest besides `pick`, best first."""
    times = np.where(usable, rank, inf)
    times[pick] = inf
    rows = np.argpartition(times, _NAMES - 2)[: _NAMES - 1] if len(times) >= _NAMES else np.arange(len(times))
    return sorted((row for row in rows.tolist() if times[row] < inf), key=lambda row: (times[row], row))


def _counts(refused: Ints, usable: Flags) -> dict[Refusal, int]:
    if np.count_nonzero(usable) == len(usable):
        return {}
    numbers = np.bincount(refused + 1).tolist()
    return {_REFUSALS[number]: rows for number, rows in enumerate(numbers[1:]) if rows}


def _refusal(
    offers: Offers, board: Board, demand: Demand, judged: _Judged, counts: Mapping[Refusal, int], now: float
) -> Choice:
    """Filters are applied one after the other, so the last one that took a row out is the one that left none."""
    if not counts:
        return Choice(refusal=Refusal.DOWN)
    refusal = list(counts)[-1]
    wait = _wait(offers, board, demand, judged, now) if refusal in _WAITING else 0.0
    return Choice(refusal=refusal, counts=counts, wait=wait)


def _wait(offers: Offers, board: Board, demand: Demand, judged: _Judged, now: float) -> float:
    """Seconds until the first of the rows that waiting helps is expected to have room."""
    prediction, refused, _ = judged
    found = []
    for refusal in _WAITING:
        rows = np.flatnonzero(refused == _NUMBER[refusal])
        at = offers.upstream[rows]
        if refusal == Refusal.OVERLOADED:
            found.append(board.busy[at] - now)
        elif refusal == Refusal.FULL:  # one of so many requests ends in that time
            found.append(prediction.total[rows] / np.maximum(board.inflight[at], 1))
        else:
            rates = np.array([max(offers.facts[row].upstream.tokens_per_minute, 1) / 60 for row in rows])
            found.append((demand.prompt_tokens + demand.output_tokens - board.room[at]) / rates)
    return float(np.concatenate(found).min())
