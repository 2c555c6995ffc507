"""What upstreams offer for one model, a row an upstream that serves it: facts, and what answers taught of its speed.

Columns are numpy arrays. What is true of an upstream whatever the model is in `router.board`.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from edgecache.config import Price, Upstream
from edgecache.router.board import Flags, Floats, Ints
from edgecache.router.demand import Feature
from edgecache.types import Tier

_OVERHEAD = {Tier.EDGE: 0.02, Tier.PEER: 0.05, Tier.REGIONAL: 0.05, Tier.CORE: 0.05}
"""Seconds to the first token beside round trip and prefill, before the first answer has taught better."""
_PREFILL = {Tier.EDGE: 120e-6, Tier.PEER: 120e-6, Tier.REGIONAL: 60e-6, Tier.CORE: 50e-6}
"""Seconds a prompt token, before: a small model on one card, and a cluster, as in published measurements."""
_DECODE = 0.015
"""Seconds a generated token, before."""
_REMEMBERED = 256
_FEATURES = {
    "tools": Feature.TOOLS,
    "json_object": Feature.JSON_OBJECT,
    "json_schema": Feature.JSON_SCHEMA,
    "vision": Feature.VISION,
    "audio": Feature.AUDIO,
    "logprobs": Feature.LOGPROBS,
}


class Facts(NamedTuple):
    """The facts of one row: one model of one upstream. Prices are USD a token; `context` 0 = not known."""

    upstream: Upstream
    context: int
    features: Feature
    price: Price


class Offers:
    """The offers for `model`, as upstreams call it.

    Facts: `upstream` (row of the Board; `places` as plain numbers), `tier` (rank), `context` (tokens, large = not
    known), `features` (bits), `price_in`, `price_out`, `price_cached` (USD a token). `facts` and `jurisdictions` a row
    each.

    Learned from answers: `overhead` (s to the first token beside round trip and prefill), `prefill` (s a prompt token),
    `decode` (s a generated token), `spread` (s, mean absolute error of the predicted time to the first token), `seen`
    (answers that taught), `heard` (answers of all rows together when this one taught last).
    """

    def __init__(self, model: str, rows: Sequence[int], facts: Sequence[Facts]) -> None:
        self.model = model
        self.facts = tuple(facts)
        self.names = tuple(each.upstream.name for each in facts)
        self.row = {name: index for index, name in enumerate(self.names)}
        self.jurisdictions = tuple(each.upstream.jurisdiction for each in facts)
        self.places = tuple(rows)
        self.upstream: Ints = np.array(rows, np.int64)
        self.tier: Ints = np.array([each.upstream.tier.rank for each in facts], np.int64)
        self.context: Floats = np.array([each.context or inf for each in facts])
        self.features: Ints = np.array([int(each.features) for each in facts], np.int64)
        self.price_in: Floats = np.array([each.price.input for each in facts]) / 1e6
        self.price_out: Floats = np.array([each.price.output for each in facts]) / 1e6
        self.price_cached: Floats = np.array([_cached(each.price) for each in facts]) / 1e6
        tiers = [each.upstream.tier for each in facts]
        self.overhead: Floats = np.array([_OVERHEAD[tier] for tier in tiers])
        self.prefill: Floats = np.array([_PREFILL[tier] for tier in tiers])
        self.decode: Floats = np.full(len(facts), _DECODE)
        self.spread: Floats = self.overhead.copy()
        self.seen: Ints = np.zeros(len(facts), np.int64)
        self.heard: Ints = np.zeros(len(facts), np.int64)
        self._within: dict[frozenset[str], Flags] = {}

    def __len__(self) -> int:
        return len(self.facts)

    def within(self, residency: frozenset[str]) -> Flags:
        """Which rows a prompt with this `residency` may go to; empty = all."""
        found = self._within.get(residency)
        if found is None:
            if len(self._within) >= _REMEMBERED:  # clients can narrow theirs as they like
                self._within.clear()
            allowed = [not residency or place in residency for place in self.jurisdictions]
            found = self._within[residency] = np.array(allowed, np.bool_)
        return found

    def take_over(self, other: "Offers") -> None:
        """Copy what `other` has learned of upstreams that are here too."""
        kept = [(self.row[name], index) for index, name in enumerate(other.names) if name in self.row]
        if kept:
            mine, theirs = (np.array(each) for each in zip(*kept, strict=True))
            for column in ("overhead", "prefill", "decode", "spread", "seen", "heard"):
                getattr(self, column)[mine] = getattr(other, column)[theirs]


def facts(upstream: Upstream, model: str) -> Facts:
    """What `upstream` says of `model`: its own table for it, else what holds for all of its models."""
    own = next((each for each in upstream.model if each.name == model), None)
    context = own.context if own is not None and own.context is not None else upstream.context
    names = own.features if own is not None and own.features is not None else upstream.features
    price = own.price if own is not None and own.price is not None else upstream.price
    return Facts(upstream, context, features(names), price)


def features(names: Sequence[str] | None) -> Feature:
    """`upstream.features` as bits; None = not known, so that anything is tried."""
    found = Feature.ANY if names is None else Feature.NONE
    for name in names or ():
        found |= _FEATURES[name]
    return found


def _cached(price: Price) -> float:
    return price.input if price.cached is None else price.cached
