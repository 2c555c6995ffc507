"""What a choice among upstreams says, and the rules that it is made by whatever carries the numbers. Pure.

`policy` makes choices on columns, `few` row by row where there are only some.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final
from zlib import crc32

import msgspec

from edgecache.config import Upstream
from edgecache.router.demand import Demand
from edgecache.router.predict import deviations
from edgecache.types import Tier

NAMES: Final = 4
"""The picked one and those for failover and hedges."""
TRIAL: Final = 0.005
"""Share of choices that try an upstream which would not be picked."""
HEDGE: Final = deviations(0.95)
"""Standard deviations after which a second request is worth its cost: 5 of 100 are as late."""
GUESSED: Final = 0.8
"""Share of an estimated prompt that surely is one: an upstream counts better than an estimate, so it decides."""
RETURNING: Final = 32.0
"""Requests at once that the ramp of an upstream without a limit is a share of."""
LEAST_SHARE: Final = 1e-9
"""Of its places, for a class that has none of its own: there is room for one where nothing is in progress."""


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


def lacks(upstream: Upstream, demand: Demand) -> bool:
    """Whether it does not tell of the GPU that the model's route asks for, or has not loaded the adapter."""
    return (
        (bool(demand.gpu) and upstream.gpu != demand.gpu)
        or upstream.gpu_memory < demand.gpu_memory
        or (bool(demand.lora) and demand.lora not in upstream.loras)
    )


def two(count: int, draw: Callable[[], float]) -> tuple[int, int]:
    """Two of `count` things by chance; twice the same only where there is but one."""
    first = second = int(draw() * count)
    if count > 1:
        second = int(draw() * (count - 1))
        second += second >= first
    return first, second


def home(known: Sequence[float], demand: Demand) -> int:
    """Of those that know most of a prompt always the same, lest all come to know all; `known` are its tokens."""
    most = max(known)
    holders = [index for index, tokens in enumerate(known) if tokens == most]
    return holders[crc32(demand.prefixes[0].digest if demand.prefixes else demand.session) % len(holders)]
