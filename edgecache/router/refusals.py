"""What a client is told when no upstream can take its request. Pure."""

from edgecache.errors import BadRequest, EdgeCacheError, NoUpstream, Overloaded, RateLimited, ResidencyRefused
from edgecache.router.choice import Refusal
from edgecache.router.demand import Demand

PASSING = frozenset({Refusal.FULL, Refusal.OVERLOADED, Refusal.RATE})
"""What a request may wait for: somebody else's end."""
_SOON = 1.0
"""Seconds of Retry-After where nobody can tell."""
_UNUSABLE = {
    Refusal.HOPS: "only other POPs serve it, and this request comes from one",
    Refusal.DOWN: "no upstream that serves it is in order",
    Refusal.TRIED: "every upstream that serves it has failed",
    Refusal.FULL: "every upstream that serves it is full",
    Refusal.OVERLOADED: "every upstream that serves it asked to be left alone",
    Refusal.RATE: "every upstream that serves it has had its tokens of this minute",
}


def error(refusal: Refusal | None, demand: Demand, model: str, wait: float = 0.0) -> EdgeCacheError:
    """The error that says why nobody is asked for `model`; `wait` as in `choice.Choice`."""
    if refusal in {Refusal.RESIDENCY, Refusal.CAPABILITY, Refusal.CONTEXT, Refusal.BUDGET}:
        return _client_error(refusal, demand, model)
    if refusal is Refusal.LATE:
        message = f"No upstream for {model!r} is predicted to answer in time."
        return Overloaded(message, code="predicted_miss", retry_after=wait or _SOON)
    why = _UNUSABLE[refusal] if refusal is not None else "no upstream serves it"
    if refusal in PASSING:
        return Overloaded(f"The model {model!r} cannot be asked now: {why}.", retry_after=wait or _SOON)
    return NoUpstream(f"The model {model!r} cannot be asked: {why}.")


def _client_error(refusal: Refusal | None, demand: Demand, model: str) -> EdgeCacheError:
    if refusal is Refusal.RESIDENCY:
        places = ", ".join(sorted(demand.residency))
        return ResidencyRefused(f"No upstream for {model!r} stands where these prompts may be processed ({places}).")
    if refusal is Refusal.CAPABILITY:
        message = f"No upstream for {model!r} can do all that the request asks for."
        return BadRequest(message, code="unsupported_capability")
    if refusal is Refusal.CONTEXT:
        message = f"About {demand.prompt_tokens} prompt tokens and the answer are more than {model!r} takes."
        return BadRequest(message, code="context_length_exceeded")
    return RateLimited(f"No upstream for {model!r} is within what is left of the budget.", code="insufficient_quota")
