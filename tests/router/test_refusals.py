import pytest

from edgecache.errors import BadRequest, NoUpstream, Overloaded, RateLimited, ResidencyRefused
from edgecache.router.choice import Refusal
from edgecache.router.demand import Demand
from edgecache.router.refusals import PASSING, error

NEED = Demand("m", prompt_tokens=900, residency=frozenset({"de", "at"}))


@pytest.mark.parametrize(
    ("refusal", "kind", "status", "code"),
    [
        (Refusal.RESIDENCY, ResidencyRefused, 451, "residency"),
        (Refusal.CAPABILITY, BadRequest, 400, "unsupported_capability"),
        (Refusal.CONTEXT, BadRequest, 400, "context_length_exceeded"),
        (Refusal.BUDGET, RateLimited, 429, "insufficient_quota"),
        (Refusal.LATE, Overloaded, 503, "predicted_miss"),
        (Refusal.HOPS, NoUpstream, 503, "no_upstream"),
        (Refusal.DOWN, NoUpstream, 503, "no_upstream"),
        (Refusal.TRIED, NoUpstream, 503, "no_upstream"),
        (None, NoUpstream, 503, "no_upstream"),
        (Refusal.FULL, Overloaded, 503, "overloaded"),
        (Refusal.OVERLOADED, Overloaded, 503, "overloaded"),
        (Refusal.RATE, Overloaded, 503, "overloaded"),
    ],
)
def test_each_refusal_has_its_error(refusal, kind, status, code) -> None:
    found = error(refusal, NEED, "m", 7.0)
    assert (type(found), found.status, found.code) == (kind, status, code)
    assert "'m'" in found.message
    assert found.retry_after == (7.0 if kind is Overloaded else None)


def test_every_refusal_is_told_of() -> None:
    messages = [error(refusal, NEED, "m").message for refusal in Refusal]
    assert len(set(messages)) == len(Refusal)


def test_a_residency_is_named() -> None:
    assert "(at, de)" in error(Refusal.RESIDENCY, NEED, "m").message


def test_only_what_passes_with_somebody_elses_end_is_worth_waiting_for() -> None:
    assert {refusal for refusal in Refusal if refusal in PASSING} == {Refusal.FULL, Refusal.OVERLOADED, Refusal.RATE}
    assert all(error(refusal, NEED, "m").retry_after for refusal in PASSING)
