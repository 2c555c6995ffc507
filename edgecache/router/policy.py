"""Which upstream gets a request. Pure: what there is, what is needed and a draw in; a choice with its reasons out.

Filters first, each a reason of its own. Then, of those that meet the target of the class with the wanted probability,
the cheapest; if none does, the fastest. Equals share by load, by power of two choices (Mitzenmacher 2001). Once in a
while a request tries one of the others, because nothing else tells that a slow upstream has recovered (the
epsilon-greedy rule: Sutton and Barto, Reinforcement Learning, section 2.2).
"""

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from math import inf
from typing import NamedTuple
from zlib import crc32

import msgspec
import numpy as np

from edgecache.config import ServiceLevel, Upstream
from edgecache.router.board import Board, Flags, Floats, Ints
from edgecache.router.demand import Demand
from edgecache.router.offers import Offers
from edgecache.router.predict import Prediction, deviations, predict, rank
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
_NUMBER = {refusal: number for number, refusal in enumerate(_REFUSALS, 1)}


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
    """All rows: what is expected of them, the number of the filter that took each out (0 = none), who meets."""

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
    rows = (refused == 0).nonzero()[0]
    counts = _counts(refused) if len(rows) < len(refused) else {}
    if not len(rows):
        return _refusal(offers, board, demand, judged, counts, now)
    if len(rows) > 1:
        rows = _without_peers(offers, rows, meets)
    named = offers.row.get(demand.function, -1)
    if named >= 0 and not refused[named]:
        pick, why = named, "function"
    elif len(rows) == 1:
        pick, why = int(rows[0]), "only"
    else:
        pick, why = _pick(prediction, demand, rows, meets, known, near, draw)
        if draw() >= 1 - _TRIAL and (trial := _trial(offers, board, prediction.cost, rows, pick, why, near, draw)) >= 0:
            pick, why = trial, "trial"
    found = np.array([pick, *(_others(prediction.late, rows, pick) if len(rows) > 1 or pick != rows[0] else ())])
    ttft = prediction.ttft.take(found)
    return Choice(
        tuple([offers.names[row] for row in found.tolist()]),
        why,
        ttft=tuple(ttft.tolist()),
        late=tuple((ttft + _HEDGE * prediction.sigma.take(found)).tolist()),
        total=tuple(prediction.total.take(found).tolist()),
        cost=tuple(prediction.cost.take(found).tolist()),
        work=tuple(prediction.work.take(found).tolist()),
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
    chosen = {name: index for index, name in enumerate(choice.names, 1)}
    return [
        Line(
            name,
            facts.upstream.tier,
            facts.upstream.region,
            facts.upstream.jurisdiction,
            _REFUSALS[refused[row] - 1] if refused[row] else None,
            ttft=float(prediction.ttft[row]),
            late=float(prediction.late[row]),
            total=float(prediction.total[row]),
            cost=float(prediction.cost[row]),
            meets=bool(meets[row]),
            chosen=chosen.get(name, 0),
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
    refused: Ints = np.zeros(len(offers), np.int64)
    _by_facts(refused, offers, demand, prediction)
    for name in tried:
        if (row := offers.row.get(name)) is not None and not refused[row]:
            refused[row] = _NUMBER[Refusal.TRIED]
    if demand.due < inf:
        due = prediction.total + deviations(level.probability) * prediction.sigma > demand.due - now
        _refuse(refused, Refusal.LATE, due)
    _by_state(refused, offers, board, demand, level, most_out, now)
    return _Judged(prediction, refused, prediction.late <= level.ttft)


def _refuse(refused: Ints, refusal: Refusal, bad: Flags) -> None:
    """Take `bad` rows out, but for those that are out already."""
    if np.count_nonzero(bad):  # a fifth of the time of `any`, for a few rows
        refused[bad & (refused == 0)] = _NUMBER[refusal]


def _by_facts(refused: Ints, offers: Offers, demand: Demand, prediction: Prediction) -> None:
    """Filters whose word does not change while a request waits."""
    if demand.residency:
        _refuse(refused, Refusal.RESIDENCY, ~offers.within(demand.residency))
    if demand.features:
        wanted = int(demand.features)
        _refuse(refused, Refusal.CAPABILITY, (offers.features & wanted) != wanted)
    if demand.gpu or demand.gpu_memory:
        lacking = np.array([_lacks(facts.upstream, demand) for facts in offers.facts], np.bool_)
        _refuse(refused, Refusal.CAPABILITY, lacking)
    if demand.lora:
        lacking = np.array([demand.lora not in facts.upstream.loras for facts in offers.facts], np.bool_)
        _refuse(refused, Refusal.CAPABILITY, lacking)
    prompt = demand.prompt_tokens if demand.counted else demand.prompt_tokens * _GUESSED
    _refuse(refused, Refusal.CONTEXT, offers.context < prompt + (demand.limit or demand.output_tokens))
    if demand.hops >= 1:
        _refuse(refused, Refusal.HOPS, offers.tier == _PEER)
    if demand.budget < inf:
        _refuse(refused, Refusal.BUDGET, prediction.cost > demand.budget)


def _lacks(upstream: Upstream, demand: Demand) -> bool:
    """Whether it does not tell of the GPU that the model's route asks for."""
    return (bool(demand.gpu) and upstream.gpu != demand.gpu) or upstream.gpu_memory < demand.gpu_memory


def _by_state(
    refused: Ints, offers: Offers, board: Board, demand: Demand, level: ServiceLevel, most_out: float, now: float
) -> None:
    """Filters by what holds at this moment."""
    rows = offers.upstream
    out = board.out.take(rows) > now
    if np.count_nonzero(out):
        able = (refused == 0) | (refused >= _NUMBER[Refusal.TRIED])  # those that could serve it at another time
        if np.count_nonzero(out & able) <= most_out * np.count_nonzero(able):
            _refuse(refused, Refusal.DOWN, out)
    _refuse(refused, Refusal.OVERLOADED, board.busy.take(rows) > now)
    slots, ramp = board.slots.take(rows), board.ramp.take(rows)
    coming = ramp < 1
    if np.count_nonzero(coming):
        slots = np.where(coming, np.minimum(slots, _RETURNING) * ramp, slots)
    inflight = board.inflight.take(rows)
    if np.count_nonzero(inflight):  # where nothing is in progress, there is room for one
        _refuse(refused, Refusal.FULL, inflight >= np.maximum(slots * max(level.share, 1e-9), 1))
    _refuse(refused, Refusal.RATE, board.room.take(rows) < demand.prompt_tokens + demand.output_tokens)


def _without_peers(offers: Offers, rows: Ints, meets: Flags) -> Ints:
    """Neighbour POPs help out only where no upstream of this one's own is usable and in time."""
    own = rows[offers.tier.take(rows) != _PEER]
    return own if np.count_nonzero(meets.take(own)) else rows


def _pick(
    prediction: Prediction,
    demand: Demand,
    rows: Ints,
    meets: Flags,
    known: Floats | None,
    near: float,
    draw: Callable[[], float],
) -> tuple[int, str]:
    """The row, and why. Near-equals in cost are narrowed to near-equals in time, so that a known prefix counts."""
    equals, why = rows, "fastest"
    meeting = rows[meets.take(rows)]
    if len(meeting):
        cost = prediction.cost.take(meeting)
        equals, why = meeting[cost <= cost[cost.argmin()] * (1 + near)], "cheapest"
    times = rank(prediction, equals)
    best = (times <= times[times.argmin()] * (1 + near)).nonzero()[0]
    if known is not None and len(best) > 1 and np.count_nonzero(had := known.take(equals.take(best))):
        return int(equals[best[_home(had, demand)]]), why
    first = second = int(draw() * len(best))
    if len(best) > 1:
        second = int(draw() * (len(best) - 1))
        second += second >= first
    pair = int(best[first]), int(best[second])  # of equals in all the first: which is thought faster is chance
    return int(equals[min(pair, key=lambda each: (times[each], prediction.cost[equals[each]]))]), why


def _home(known: Floats, demand: Demand) -> int:
    """Of the rows that know most of a prompt always the same, lest all come to know all."""
    holders = (known == known[known.argmax()]).nonzero()[0]
    return int(holders[crc32(demand.prefixes[0].digest if demand.prefixes else demand.session) % len(holders)])


def _trial(
    offers: Offers,
    board: Board,
    cost: Floats,
    rows: Ints,
    pick: int,
    why: str,
    near: float,
    draw: Callable[[], float],
) -> int:
    """One of the others, no dearer where cost decides, and none that is about to answer anyway; -1 = there is none."""
    good = (rows != pick) & (board.unanswered[offers.upstream[rows]] == 0)
    if why == "cheapest":
        good &= cost[rows] <= cost[pick] * (1 + near)
    others = rows[good]
    return int(others[int(draw() * len(others))]) if len(others) else -1


def _others(late: Floats, rows: Ints, pick: int) -> list[int]:
    """Of `rows` those that are least late besides `pick`, best first."""
    times = late.take(rows)
    if len(rows) > _NAMES:
        first = np.argpartition(times, _NAMES - 1)[:_NAMES]
        rows, times = rows[first], times[first]
    order = sorted(zip(times.tolist(), rows.tolist(), strict=True))
    return [row for _, row in order if row != pick][: _NAMES - 1]


def _counts(refused: Ints) -> dict[Refusal, int]:
    numbers = np.bincount(refused).tolist()
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
