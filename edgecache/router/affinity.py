"""Which upstream has read which beginning of a prompt lately, and so probably still has it in its KV cache.

It only says what an upstream need not read again. What that is worth, next to the load, is for `predict` to say.
"""

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from edgecache.router.board import Floats
from edgecache.router.demand import Demand
from edgecache.router.offers import Offers

_HOLDERS = 8
"""Upstreams remembered a prefix, the latest."""

_Key = tuple[str, str, bytes]
"""Model; tenant, empty where the digest says it all; digest of the prefix, or the name of the session."""


class Affinity:
    """The `entries` prefixes and sessions used last, each for `ttl` seconds. Times are monotonic seconds."""

    def __init__(self, *, entries: int = 16_384, ttl: float = 300.0) -> None:
        self._entries = entries
        self._ttl = ttl
        self._held: OrderedDict[_Key, dict[str, tuple[int, float]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def known(self, offers: Offers, demand: Demand, now: float) -> Floats:
        """Prompt tokens that each row has probably read before: the longest prefix, or what the session had."""
        found = np.zeros(len(offers))
        for key, _ in _keys(demand):
            for name, (tokens, when) in self._held.get(key, {}).items():
                row = offers.row.get(name)
                if row is not None and now - when <= self._ttl:
                    found[row] = max(found[row], min(tokens, demand.prompt_tokens))
        return found

    def note(self, demand: Demand, name: str, now: float) -> None:
        """Upstream `name` has read the prompt of `demand`."""
        for key, tokens in _keys(demand):
            holders = self._held.setdefault(key, {})
            self._held.move_to_end(key)
            holders.pop(name, None)  # so that the oldest holder stands first
            holders[name] = (tokens, now)
            if len(holders) > _HOLDERS:
                del holders[next(iter(holders))]
        while len(self._held) > self._entries:
            self._held.popitem(last=False)


def _keys(demand: Demand) -> Iterator[tuple[_Key, int]]:
    """What the prompt is remembered by, and how many of its tokens each stands for."""
    for prefix in demand.prefixes:
        yield (demand.model, "", prefix.digest), prefix.tokens
    if demand.session:
        yield (demand.model, demand.tenant, demand.session), demand.prompt_tokens
