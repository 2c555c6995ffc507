"""What a model name means: which models are tried for it, in which order. Pure: routes and a request in, models out."""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from edgecache.config import Mirror, Route, RouteTarget, SmallModel


class Leg(NamedTuple):
    """One model to try. `keep`: its answer may be cached under the name that was asked for. `small`: it is a hint's.

    `why` is `asked` (the model itself), `target`, `small` or `fallback`.
    """

    model: str
    keep: bool
    small: bool
    why: str


def legs(routes: Sequence[Route], model: str, tenant: str, sticky: bytes, easy: float | None) -> tuple[Leg, ...]:
    """The models to try for `model`, best first, each once.

    `sticky` is the same for the same question, which so always has the same target; `easy` is the probability that a
    small model's answer is good enough, None = not known.
    """
    route = match(routes, model, tenant)
    if route is None:
        return (Leg(model, keep=True, small=False, why="asked"),)
    found = []
    if route.small is not None and easy is not None and easy >= route.small.probability:
        found.append(Leg(route.small.model, keep=True, small=True, why="small"))
    if route.target:
        found += [Leg(each.model, keep=True, small=False, why="target") for each in _ordered(route.target, sticky)]
    else:
        found.append(Leg(model, keep=True, small=False, why="asked"))
    found += [Leg(name, keep=False, small=False, why="fallback") for name in route.fallback]
    first: dict[str, Leg] = {}
    for leg in found:
        first.setdefault(leg.model, leg)
    return tuple(first.values())


def mirror(routes: Sequence[Route], model: str, tenant: str) -> Mirror | None:
    """The model that is asked too, for comparison."""
    route = match(routes, model, tenant)
    return route.mirror if route is not None else None


def small(routes: Sequence[Route], model: str, tenant: str) -> SmallModel | None:
    """The smaller model that may answer for `model`."""
    route = match(routes, model, tenant)
    return route.small if route is not None else None


def names(routes: Sequence[Route], tenant: str) -> tuple[str, ...]:
    """The model names that `tenant` can ask for because a route gives them a meaning."""
    asked = dict.fromkeys(route.model for route in routes)
    held = [match(routes, name, tenant) for name in asked]
    return tuple(route.model for route in held if route is not None and (route.target or route.fallback))


def match(routes: Sequence[Route], model: str, tenant: str) -> Route | None:
    """The first route for what `tenant` calls `model`."""
    for route in routes:
        if route.model == model and (route.tenant is None or route.tenant == tenant):
            return route
    return None


def _ordered(targets: Sequence[RouteTarget], sticky: bytes) -> list[RouteTarget]:
    """Targets by weighted rendezvous hashing, the one to ask first.

    Each is first for its share of all questions, and a change of weights moves no more of them than it must
    (Schindelhauer and Schomaker, Weighted distributed hash tables, SPAA 2005).
    """
    return sorted(targets, key=lambda target: _score(target, sticky), reverse=True)


def _score(target: RouteTarget, sticky: bytes) -> float:
    digest = blake2b(sticky + target.model.encode(), digest_size=8).digest()
    drawn = ((int.from_bytes(digest) >> 12) + 0.5) / 2**52  # between 0 and 1, neither of them
    return -target.weight / math.log(drawn)
