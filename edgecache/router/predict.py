"""What a request would wait and cost at each upstream, and what its answer teaches. Pure: numbers in, numbers out.

Time to the first token = round trip + overhead + prefill x tokens to read, more with a full KV cache, + waiting for a
place. Overhead and prefill are learned from answers, and so contain the usual load. To share work between upstreams,
times are compared as Peak EWMA does: multiplied by one plus the requests in progress, here as a share of what there is
at the others. Were that factor part of the time, answers would teach it away, and nothing would hold the load even.
Load is this POP's own requests, known to the moment, and what the upstream says of everybody's, while that is fresh.

A learned time is old and a matter of chance, the number of requests in progress is neither. If they counted alike, all
would go where the last answers came a little sooner, until that one queues, then to the next, and so on. So a time
counts as longer than another only by as much as its own spread does not explain, and what is left to decide is load.

Sources: time by requests in progress, quick rise and slow fall: Peak EWMA of Finagle
(`com.twitter.finagle.loadbalancer.PeakEwma`) and linkerd2; gains of mean and deviation: RFC 6298, section 2; two
parameters from one error: normalised least mean squares (Nagumo and Noda 1967; Haykin, Adaptive Filter Theory).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from edgecache.router.board import Board, Floats, Ints
from edgecache.router.demand import Demand
from edgecache.router.offers import Offers

T = TypeVar("T")
_RTT = np.array([0.001, 0.02, 0.02, 0.06])
"""Seconds of a round trip by rank of the tier, until one was measured."""
_PARALLEL = 32.0
"""Requests that an upstream runs at once, where neither it nor the config says. Among such ones it makes no odds."""
_LIGHT = 1 / 3
"""Share of them in progress on average below which an even load matters less and less, and a known prefix more."""
_MOST = 1024.0
"""The most that is believed: who says more would never look crowded."""
_STALE = 10.0
"""Seconds after which load that an upstream told counts no more; until then it counts less and less."""
_FULL_CACHE = 0.9
"""Share of a KV cache in use from which requests begin to be pushed out of it."""
_SIGMA = math.sqrt(math.pi / 2)
"""Standard deviation by mean absolute error, of a normal distribution."""
_NOISE = 0.002
"""Seconds that no prediction is better than: timers of event loops on both sides."""
_NOISE_SHARE = 0.05
"""The same, as a share of the time to the first token."""
_CHANCE = 2.0
"""Standard deviations by which a time must be longer for that to be no matter of chance."""
_GAIN, _SPREAD_GAIN = 1 / 8, 1 / 4
"""Weight of one answer in mean and deviation (RFC 6298)."""
_PEAK = 0.5
"""Weight of one that is later than 99 of 100 should be."""
_FAR = 2.5
"""What is later by that many mean absolute errors is a peak: two standard deviations."""
_TIMES = 2.0
"""By so many times slower or faster, an error is no matter of how overhead and prefill share."""
_FORGOTTEN = 20
"""After so many answers of each of the other rows without one of its own, what a row taught is out of date."""
_SCALE = 1000.0
"""Tokens that weigh as much as the overhead where an error is split between overhead and prefill."""
_FEW = 16
"""Generated tokens below which a decode rate says less."""


class Prediction(NamedTuple, Generic[T]):
    """A column each, or of one row a number each. Times in seconds, cost in USD.

    `ttft` and `total` are means, to the first and the last token. `late` is the time to the first token that is kept
    with the probability asked for, but no less than somebody has waited there already. `sigma` is the standard
    deviation of the time to the first token; `work` the part of it that is learned from answers. For `rank`: `early` is
    what it takes at least, but for chance; `crowd` the requests in progress as a share of those that run at once.
    """

    ttft: T
    late: T
    total: T
    cost: T
    sigma: T
    work: T
    early: T
    crowd: T


def predict(
    offers: Offers, board: Board, demand: Demand, known: Floats | None, probability: float, now: float
) -> Prediction[Floats]:
    """What to expect of each row. `known` = prompt tokens in its KV cache, None = nothing is known of any."""
    rows = offers.upstream
    load, parallel, queue, pressure = _load(board, rows, now)
    crowd = load / parallel
    cost = demand.prompt_tokens * offers.price_in + demand.output_tokens * offers.price_out
    unread: Floats | float = float(demand.prompt_tokens)
    if known is not None and np.count_nonzero(known):
        known = known * np.maximum(1 - crowd, 0)  # the more runs there, the sooner a prefix is pushed out
        unread = np.maximum(demand.prompt_tokens - known, 0)
        cost += known * (offers.price_cached - offers.price_in)
    work = offers.overhead + offers.prefill * unread
    decode = offers.decode * demand.output_tokens
    rtt = board.rtt.take(rows)
    if np.count_nonzero(unmeasured := np.isnan(rtt)):
        rtt = np.where(unmeasured, _RTT[offers.tier], rtt)
    ttft = rtt + work * pressure
    if queue is not None:  # a place is free after the time of an answer, shared by all places
        ttft += queue * (work + decode) / parallel
    sigma = _SIGMA * np.maximum(offers.spread, _NOISE + _NOISE_SHARE * ttft)
    late, early = ttft + deviations(probability) * sigma, ttft - _CHANCE * sigma
    waited = now - board.oldest.take(rows)
    if np.count_nonzero(overdue := waited > late):
        late, early = np.maximum(late, waited), np.where(overdue, waited, early)
    return Prediction(ttft, late, ttft + decode, cost, sigma, work, early, crowd)


def forecast(
    offers: Offers, board: Board, row: int, demand: Demand, known: float, probability: float, now: float
) -> Prediction[float]:
    """The same of one `row`, in plain numbers: step by step as `predict`, so that both say the same to the last bit."""
    at = offers.places[row]
    load, parallel, queue, pressure = _load_at(board, at, now)
    crowd = load / parallel
    price, unread = offers.price_in.item(row), float(demand.prompt_tokens)
    cost = demand.prompt_tokens * price + demand.output_tokens * offers.price_out.item(row)
    if known:
        known *= max(1 - crowd, 0.0)
        unread = max(demand.prompt_tokens - known, 0.0)
        cost += known * (offers.price_cached.item(row) - price)
    work = offers.overhead.item(row) + offers.prefill.item(row) * unread
    decode = offers.decode.item(row) * demand.output_tokens
    rtt = board.rtt.item(at)
    if math.isnan(rtt):
        rtt = _RTT.item(offers.tier.item(row))
    ttft = rtt + work * pressure + queue * (work + decode) / parallel
    sigma = _SIGMA * max(offers.spread.item(row), _NOISE + _NOISE_SHARE * ttft)
    late, early = ttft + deviations(probability) * sigma, ttft - _CHANCE * sigma
    waited = now - board.oldest.item(at)
    if waited > late:
        late = early = waited
    return Prediction(ttft, late, ttft + decode, cost, sigma, work, early, crowd)


def rank(prediction: Prediction[Floats], rows: Ints) -> Floats:
    """What `rows` are compared by, the least is the best: seconds, and more of them the more is in progress there.

    A time is no longer than that of the fastest among them where that may be chance. Load counts by what it is there to
    what it is on average: that tells them apart whether much is in progress or little, and whatever runs at once.
    """
    ttft, early = prediction.ttft.take(rows), prediction.early.take(rows)
    crowd = prediction.crowd.take(rows)
    mean = np.maximum(ttft, early)
    least = float(mean[mean.argmin()])
    return np.maximum(early, least) * (1 + crowd / (float(crowd.sum()) / len(rows) + _LIGHT))


def _load(board: Board, rows: Ints, now: float) -> tuple[Floats, Floats, Floats | None, Floats | float]:
    """Requests in progress and how many run at once; those ahead of a free place; factor of time by a full cache.

    What an upstream tells can only add to the own count: others send there too, and a gauge may be old or wrong.
    """
    load = board.inflight.take(rows).astype(np.float64)
    slots = board.slots.take(rows)
    parallel = np.where(slots == math.inf, _PARALLEL, slots)
    told = board.told.take(rows)
    if not np.count_nonzero(told > -math.inf):
        return load, parallel, None, 1.0
    capacity = board.capacity.take(rows)  # comparisons with what was not told (NaN) are false, fmax leaves it out
    parallel = np.where(capacity >= 1, np.minimum(capacity, _MOST), parallel)
    fresh = np.maximum(told + (_STALE - now), 0) / _STALE
    queued = np.fmax(board.queued.take(rows), 0)
    load += fresh * np.maximum(np.fmax(board.running.take(rows), 0) + queued - load, 0)
    queue = np.fmax(load + 1 - capacity, fresh * queued)
    kv = board.kv.take(rows)
    if not np.count_nonzero(kv > _FULL_CACHE):
        return load, parallel, queue, 1.0
    full = (np.fmax(kv, _FULL_CACHE) - _FULL_CACHE) / (1 - _FULL_CACHE)
    return load, parallel, queue, 1 + fresh * np.minimum(full, 1)


def order(seen: Sequence[Prediction[float]]) -> list[float]:
    """As `rank`, of rows that are all compared."""
    least = min([max(each.ttft, each.early) for each in seen])
    crowd = 0.0
    for each in seen:  # not `sum`, which rounds otherwise from Python 3.12 on
        crowd += each.crowd
    usual = crowd / len(seen) + _LIGHT
    return [max(each.early, least) * (1 + each.crowd / usual) for each in seen]


def _load_at(board: Board, at: int, now: float) -> tuple[float, float, float, float]:
    """As `_load`, of the upstream in one row of the board."""
    load, slots, told = float(board.inflight.item(at)), board.slots.item(at), board.told.item(at)
    parallel = _PARALLEL if slots == math.inf else slots
    if told == -math.inf:
        return load, parallel, 0.0, 1.0
    capacity = board.capacity.item(at)
    if capacity >= 1:
        parallel = min(capacity, _MOST)
    fresh = max(told + (_STALE - now), 0.0) / _STALE
    queued = _above(board.queued.item(at), 0.0)
    load += fresh * max(_above(board.running.item(at), 0.0) + queued - load, 0.0)
    queue = _above(load + 1 - capacity, fresh * queued)
    full = (_above(board.kv.item(at), _FULL_CACHE) - _FULL_CACHE) / (1 - _FULL_CACHE)
    return load, parallel, queue, 1 + fresh * min(full, 1.0)


def _above(told: float, least: float) -> float:
    """The larger of the two; `least` where the other was not told (NaN)."""
    return max(least, told)  # in this order: no comparison with NaN is true


@lru_cache(maxsize=64)
def deviations(probability: float) -> float:
    """Standard deviations above the mean that a normal variable stays below with `probability` (0 to 1, neither)."""
    return NormalDist().inv_cdf(probability)


def learn(
    offers: Offers,
    name: str,
    *,
    rtt: float,
    tokens: int,
    ttft: float,
    predicted: float,
    work: float | None = None,
    least: bool = False,
) -> float:
    """A first token came after `ttft` seconds; `predicted` and `work` said so when it was sent, with `tokens` to read.

    `work` None = nobody knows what the load added, so it is learned with the rest. `least` = it had not come by then:
    how far from the mean it would have been is not known, and taken for spread it would excuse the next one. Late ones
    beyond the usual count at once, early ones bit by bit: a slow upstream costs more than a fast one that is thought
    slow. The first answer, and one after a long silence, count in full. Returns the weight, 0 to 1; 0 = `name` is gone,
    and nothing was learned.
    """
    row = offers.row.get(name)
    if row is None:
        return 0.0
    seen, spread = int(offers.seen[row]), float(offers.spread[row])
    answers = int(offers.seen.sum())
    silence = max(answers - int(offers.heard[row]), 0) / (_FORGOTTEN * len(offers))
    weight = max(_GAIN, 1 / (seen + 1), 1 - math.exp(-silence))
    if ttft - predicted > _FAR * max(spread, _NOISE + _NOISE_SHARE * predicted):
        weight = max(weight, _PEAK)
    error = min(abs(ttft - predicted), max(spread, min(ttft, predicted)))  # more than that is no spread but a change
    if not least:
        offers.spread[row] = ttft / 2 if seen == 0 else spread + max(_SPREAD_GAIN, weight) * (error - spread)

    way = float(_RTT[offers.tier[row]]) if math.isnan(rtt) else rtt
    load = 1.0 if work is None else max((predicted - way) / max(work, _NOISE), 1.0)
    overhead, prefill, size = float(offers.overhead[row]), float(offers.prefill[row]), tokens / _SCALE
    model = overhead + prefill * tokens
    alone = max(ttft - way, 0.0) / load
    step = weight * (alone - model)
    if weight >= _PEAK and model > 0 and not 1 / _TIMES < alone / model < _TIMES:  # it changed in all that it does
        change = max(1 + step / model, 0.0)
        offers.overhead[row], offers.prefill[row] = overhead * change, prefill * change
    else:
        step /= 1 + size * size
        offers.overhead[row] = max(overhead + step, 0.0)
        offers.prefill[row] = max(prefill + step * size / _SCALE, 0.0)
    offers.seen[row] = seen + 1
    offers.heard[row] = answers + 1
    return weight


def learn_rate(offers: Offers, name: str, tokens: int, seconds: float, weight: float | None = None) -> None:
    """`tokens` came in the `seconds` after the first. Does nothing if `name` is gone or there were none.

    `weight` None = by how many answers there were.
    """
    row = offers.row.get(name)
    if row is None or tokens <= 0:
        return
    if weight is None:
        weight = max(_GAIN, 1 / max(int(offers.seen[row]), 1))
    weight *= min(tokens / _FEW, 1)
    offers.decode[row] += weight * (max(seconds, 0.0) / tokens - offers.decode[row])
