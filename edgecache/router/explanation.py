"""Why an upstream was chosen, in words: the header of a response, and the report of `route explain`. Pure."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

from edgecache.errors import EdgeCacheError
from edgecache.router.choice import Choice, Line
from edgecache.router.demand import Demand, Feature
from edgecache.router.routes import Leg
from edgecache.types import Attempt

_NAMES = "/:@+"
"""Beside letters, digits and `_.-~`: what stands in names of models as it is."""


def header(record: Attempt, choice: Choice, *, service: str, offered: int, attempts: int, hedged: bool) -> str:
    """`x-edgecache-route` of an answer: who gave it, why, of how many offers, and what was predicted (s, USD)."""
    words = (
        f"{record.upstream};tier={record.tier};model={_plain(record.model)};class={service};why={choice.why};of={offered};"
        f"ttft={choice.ttft[0]:.3f};cost={choice.cost[0]:.6f};attempts={attempts}"
    )
    return words + ";hedged" if hedged else words


@lru_cache(maxsize=1024)
def _plain(model: str) -> str:
    """The name as it may stand in a header."""
    return quote(model, safe=_NAMES)


def demand(needs: Demand, now: float) -> dict[str, Any]:
    """What the request needs, ready for JSON; digests are left out."""
    return {
        "model": needs.model,
        "tenant": needs.tenant,
        "service_class": needs.service.value,
        "stream": needs.stream,
        "prompt_tokens": needs.prompt_tokens,
        "counted": needs.counted,
        "output_tokens": round(needs.output_tokens, 1),
        "max_tokens": needs.limit,
        "features": [each.name.lower() for each in Feature if each & needs.features and each.name],
        "lora": needs.lora,
        "gpu": needs.gpu,
        "gpu_memory": needs.gpu_memory,
        "residency": sorted(needs.residency),
        "seconds": _finite(needs.due - now),
        "hops": needs.hops,
        "budget": _finite(needs.budget),
        "easy": needs.easy,
        "function": needs.function,
    }


def leg(found: Leg, choice: Choice, lines: Sequence[Line]) -> dict[str, Any]:
    """One model that may answer: the choice among its upstreams, and what was held of each of them."""
    return {
        **_named(found),
        "choice": {
            "upstream": choice.names[0] if choice.names else None,
            "then": list(choice.names[1:]),
            "why": choice.why or None,
            "refusal": choice.refusal,
            "refused": {reason.value: count for reason, count in choice.counts.items()},
            "wait": round(choice.wait, 3),
        },
        "upstreams": [
            {
                name: round(value, 9) if isinstance(value, float) else value
                for name, value in msgspec.structs.asdict(line).items()
            }
            for line in lines
        ],
    }


def nobody(found: Leg, error: EdgeCacheError) -> dict[str, Any]:
    """A model that nobody offers, and why."""
    return {**_named(found), "choice": None, "error": error.message, "upstreams": []}


def _named(found: Leg) -> dict[str, Any]:
    return {"model": found.model, "why": found.why, "small": found.small, "keep": found.keep}


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
