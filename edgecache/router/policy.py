"""Which upstream gets a request. Pure: what there is, what is needed and a draw in; a choice with its reasons out.

Filters first, each a reason of its own. Then, of those that meet the target of the class with the wanted probability,
the cheapest; if none does, the fastest. Equals share by load, by power of two choices (Mitzenmacher 2001). Once in a
while a request tries one of the others, because nothing else tells that a slow upstream has recovered (the
epsilon-greedy rule: Sutton and Barto, Reinforcement Learning, section 2.2).
"""

from collections.abc import Callable, Collection, Mapping
from math import inf
from typing import NamedTuple

import numpy as np

from edgecache.config import ServiceLevel
from edgecache.router import few
from edgecache.router.board import Board, Flags, Floats, Ints
from edgecache.router.choice import (
    GUESSED,
    HEDGE,
    LEAST_SHARE,
    NAMES,
    RETURNING,
    TRIAL,
    Choice,
    Line,
    Refusal,
    home,
    lacks,
    two,
)
from edgecache.router.demand import Demand
from edgecache.router.offers import Offers
from edgecache.router.predict import Prediction, deviations, predict, rank
from edgecache.types import Tier

_PEER = Tier.PEER.rank
_REFUSALS = tuple(Refusal)
_WAITING = frozenset({Refusal.OVERLOADED, Refusal.FULL, Refusal.RATE})
_NUMBER = {refusal: number for number, refusal in enumerate(_REFUSALS, 1)}


class _Judged(NamedTuple):
    """All rows: what is expected of them, the number of the filter that took each out (0 = none), who meets."""

    prediction: Prediction[Floats]
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
    way = few.choose if 0 < len(offers) <= few.MOST else on_columns
    return way(
        *(offers, board, demand, level), near=near, most_out=most_out, now=now, draw=draw, known=known, tried=tried
    )


def on_columns(
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
    """As `choose`, however many rows there are."""
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
        if draw() >= 1 - TRIAL and (trial := _trial(offers, board, prediction.cost, rows, pick, why, near, draw)) >= 0:
            pick, why = trial, "trial"
    found = np.array([pick, *(_others(prediction.late, rows, pick) if len(rows) > 1 or pick != rows[0] else ())])
    ttft = prediction.ttft.take(found)
    return Choice(
        tuple([offers.names[row] for row in found.tolist()]),
        why,
        ttft=tuple(ttft.tolist()),
        late=tuple((ttft + HEDGE * prediction.sigma.take(found)).tolist()),
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


def _by_facts(refused: Ints, offers: Offers, demand: Demand, prediction: Prediction[Floats]) -> None:
    """Filters whose word does not change while a request waits."""
    if demand.residency:
        _refuse(refused, Refusal.RESIDENCY, ~offers.within(demand.residency))
    if demand.features:
        wanted = int(demand.features)
        _refuse(refused, Refusal.CAPABILITY, (offers.features & wanted) != wanted)
    if demand.gpu or demand.gpu_memory or demand.lora:
        lacking = np.array([lacks(facts.upstream, demand) for facts in offers.facts], np.bool_)
        _refuse(refused, Refusal.CAPABILITY, lacking)
    prompt = demand.prompt_tokens if demand.counted else demand.prompt_tokens * GUESSED
    _refuse(refused, Refusal.CONTEXT, offers.context < prompt + (demand.limit or demand.output_tokens))
    if demand.hops >= 1:
        _refuse(refused, Refusal.HOPS, offers.tier == _PEER)
    if demand.budget < inf:
        _refuse(refused, Refusal.BUDGET, prediction.cost > demand.budget)


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
        slots = np.where(coming, np.minimum(slots, RETURNING) * ramp, slots)
    inflight = board.inflight.take(rows)
    if np.count_nonzero(inflight):  # where nothing is in progress, there is room for one
        _refuse(refused, Refusal.FULL, inflight >= np.maximum(slots * max(level.share, LEAST_SHARE), 1))
    _refuse(refused, Refusal.RATE, board.room.take(rows) < demand.prompt_tokens + demand.output_tokens)


def _without_peers(offers: Offers, rows: Ints, meets: Flags) -> Ints:
    """Neighbour POPs help out only where no upstream of this one's own is usable and in time."""
    own = rows[offers.tier.take(rows) != _PEER]
    return own if np.count_nonzero(meets.take(own)) else rows


def _pick(
    prediction: Prediction[Floats],
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
        return int(equals[best[home(had.tolist(), demand)]]), why
    first, second = two(len(best), draw)
    pair = int(best[first]), int(best[second])  # of equals in all the first: which is thought faster is chance
    return int(equals[min(pair, key=lambda each: (times[each], prediction.cost[equals[each]]))]), why


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
    if len(rows) > NAMES:
        first = np.argpartition(times, NAMES - 1)[:NAMES]
        rows, times = rows[first], times[first]
    order = sorted(zip(times.tolist(), rows.tolist(), strict=True))
    return [row for _, row in order if row != pick][: NAMES - 1]


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
