"""The choice of `policy` where few upstreams offer a model: row by row, in plain numbers.

A numpy call takes as long for one row as for fifty, and a choice makes a hundred; between two requests of a quiet POP
all that code has left the processor's caches, so a miss waited for it three times as long as a benchmark shows. What is
chosen is the same, to the last bit: `tests/router/test_few.py` draws markets and compares. Pure.
"""

from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Final

from edgecache.config import ServiceLevel
from edgecache.router.board import Board, Floats
from edgecache.router.choice import (
    GUESSED,
    HEDGE,
    LEAST_SHARE,
    NAMES,
    RETURNING,
    TRIAL,
    Choice,
    Refusal,
    home,
    lacks,
    two,
)
from edgecache.router.demand import Demand
from edgecache.router.offers import Offers
from edgecache.router.predict import Prediction, deviations, forecast, order
from edgecache.types import Tier

MOST: Final = 7
"""Rows that this is quicker for than columns are."""
_Seen = Sequence[Prediction[float]]
_Refused = list[Refusal | None]


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
    """As `policy.choose`."""
    probability = level.probability
    had = [0.0] * len(offers) if known is None else known.tolist()
    seen = [forecast(offers, board, row, demand, had[row], probability, now) for row in range(len(offers))]
    refused = _refused(offers, board, demand, level, seen, most_out, now, tried)
    rows = [row for row, refusal in enumerate(refused) if refusal is None]
    counts = _counts(refused) if len(rows) < len(refused) else {}
    if not rows:
        return Choice(refusal=list(counts)[-1], counts=counts, wait=_wait(offers, board, demand, seen, refused, now))
    if len(rows) > 1:
        rows = _without_peers(offers, rows, seen, level)
    named = offers.row.get(demand.function, -1)
    if named >= 0 and refused[named] is None:
        pick, why = named, "function"
    elif len(rows) == 1:
        pick, why = rows[0], "only"
    else:
        pick, why = _pick(seen, demand, level, rows, had, near, draw)
        if draw() >= 1 - TRIAL and (trial := _trial(offers, board, seen, rows, pick, why, near, draw)) >= 0:
            pick, why = trial, "trial"
    others = sorted([(seen[row].late, row) for row in rows if row != pick])
    names = [pick, *(row for _, row in others[: NAMES - 1])]
    chosen = [seen[row] for row in names]
    return Choice(
        tuple([offers.names[row] for row in names]),
        why,
        ttft=tuple([each.ttft for each in chosen]),
        late=tuple([each.ttft + HEDGE * each.sigma for each in chosen]),
        total=tuple([each.total for each in chosen]),
        cost=tuple([each.cost for each in chosen]),
        work=tuple([each.work for each in chosen]),
        counts=counts,
    )


def _refused(
    offers: Offers,
    board: Board,
    demand: Demand,
    level: ServiceLevel,
    seen: _Seen,
    most_out: float,
    now: float,
    tried: Collection[str],
) -> _Refused:
    """The first filter that takes each row out."""
    refused = [_by_facts(offers, demand, row, each) for row, each in enumerate(seen)]
    left = demand.due - now
    sigmas = deviations(level.probability)
    for row, each in enumerate(seen):
        if refused[row] is None and offers.names[row] in tried:
            refused[row] = Refusal.TRIED
        elif refused[row] is None and each.total + sigmas * each.sigma > left:
            refused[row] = Refusal.LATE
    _take_out(offers, board, refused, most_out, now)
    for row, refusal in enumerate(refused):
        if refusal is None:
            refused[row] = _by_state(board, offers.places[row], demand, level, now)
    return refused


def _by_facts(offers: Offers, demand: Demand, row: int, seen: Prediction[float]) -> Refusal | None:
    """Filters whose word does not change while a request waits."""
    if demand.residency and offers.jurisdictions[row] not in demand.residency:
        return Refusal.RESIDENCY
    upstream, wanted = offers.facts[row].upstream, demand.features
    if (wanted and offers.features.item(row) & wanted != wanted) or lacks(upstream, demand):
        return Refusal.CAPABILITY
    prompt = demand.prompt_tokens if demand.counted else demand.prompt_tokens * GUESSED
    if offers.context.item(row) < prompt + (demand.limit or demand.output_tokens):
        return Refusal.CONTEXT
    if demand.hops >= 1 and upstream.tier is Tier.PEER:
        return Refusal.HOPS
    return Refusal.BUDGET if seen.cost > demand.budget else None


def _take_out(offers: Offers, board: Board, refused: _Refused, most_out: float, now: float) -> None:
    """Leave ejected ones out, unless they are too large a share of those that could serve it at another time."""
    out = [row for row, at in enumerate(offers.places) if board.out.item(at) > now]
    if not out:
        return
    able = [row for row, refusal in enumerate(refused) if refusal in {None, Refusal.TRIED, Refusal.LATE}]
    if len([row for row in out if row in able]) <= most_out * len(able):
        for row in out:
            refused[row] = refused[row] or Refusal.DOWN


def _by_state(board: Board, at: int, demand: Demand, level: ServiceLevel, now: float) -> Refusal | None:
    """Filters by what holds at this moment."""
    if board.busy.item(at) > now:
        return Refusal.OVERLOADED
    slots, ramp, inflight = board.slots.item(at), board.ramp.item(at), board.inflight.item(at)
    if ramp < 1:
        slots = min(slots, RETURNING) * ramp
    if inflight >= max(slots * max(level.share, LEAST_SHARE), 1):
        return Refusal.FULL
    return Refusal.RATE if board.room.item(at) < demand.prompt_tokens + demand.output_tokens else None


def _without_peers(offers: Offers, rows: list[int], seen: _Seen, level: ServiceLevel) -> list[int]:
    """Neighbour POPs help out only where no upstream of this one's own is usable and in time."""
    own = [row for row in rows if offers.facts[row].upstream.tier is not Tier.PEER]
    return own if any(seen[row].late <= level.ttft for row in own) else rows


def _pick(
    seen: _Seen,
    demand: Demand,
    level: ServiceLevel,
    rows: list[int],
    known: Sequence[float],
    near: float,
    draw: Callable[[], float],
) -> tuple[int, str]:
    """The row, and why. Near-equals in cost are narrowed to near-equals in time, so that a known prefix counts."""
    equals, why = rows, "fastest"
    meeting = [row for row in rows if seen[row].late <= level.ttft]
    if meeting:
        most = min([seen[row].cost for row in meeting]) * (1 + near)
        equals, why = [row for row in meeting if seen[row].cost <= most], "cheapest"
    times = order([seen[row] for row in equals])
    most = min(times) * (1 + near)
    best = [index for index, time in enumerate(times) if time <= most]
    if len(best) > 1 and any(had := [known[equals[index]] for index in best]):
        return equals[best[home(had, demand)]], why
    first, second = two(len(best), draw)
    pair = best[first], best[second]  # of equals in all the first: which is thought faster is chance
    return equals[min(pair, key=lambda each: (times[each], seen[equals[each]].cost))], why


def _trial(
    offers: Offers,
    board: Board,
    seen: _Seen,
    rows: list[int],
    pick: int,
    why: str,
    near: float,
    draw: Callable[[], float],
) -> int:
    """One of the others, no dearer where cost decides, and none that is about to answer anyway; -1 = there is none."""
    most = seen[pick].cost * (1 + near) if why == "cheapest" else inf
    others = [
        row for row in rows if row != pick and board.unanswered.item(offers.places[row]) == 0 and seen[row].cost <= most
    ]
    return others[int(draw() * len(others))] if others else -1


def _counts(refused: _Refused) -> dict[Refusal, int]:
    return {refusal: count for refusal in Refusal if (count := refused.count(refusal))}


def _wait(offers: Offers, board: Board, demand: Demand, seen: _Seen, refused: _Refused, now: float) -> float:
    """Seconds until the first of the rows that waiting helps is expected to have room; 0 where it helps none."""
    found = []
    for row, refusal in enumerate(refused):
        at = offers.places[row]
        if refusal is Refusal.OVERLOADED:
            found.append(board.busy.item(at) - now)
        elif refusal is Refusal.FULL:  # one of so many requests ends in that time
            found.append(seen[row].total / max(board.inflight.item(at), 1))
        elif refusal is Refusal.RATE:
            rate = max(offers.facts[row].upstream.tokens_per_minute, 1) / 60
            found.append((demand.prompt_tokens + demand.output_tokens - board.room.item(at)) / rate)
    return min(found, default=0.0)
