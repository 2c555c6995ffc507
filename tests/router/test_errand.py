from edgecache.clock import ManualClock
from edgecache.config import ServiceLevel
from edgecache.router.board import Board
from edgecache.router.demand import Demand
from edgecache.router.errand import Errand
from edgecache.router.limits import Limits
from edgecache.router.traffic import Traffic
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Account, Allowance, Attempt, Tenant, Terms
from tests.router.conftest import asked


class Place:
    board = Board(("a",))


class Run:
    """An attempt that remembers how it was ended."""

    def __init__(self, cost: float, tokens: int) -> None:
        self.record = Attempt("a", "core", "", "m", prompt_tokens=tokens, cost=cost)
        self.ends: list[str] = []

    def end(self, outcome: str) -> None:
        self.ends.append(outcome)


def test_closing_gives_back_the_place_ends_attempts_and_settles_what_was_reserved_once() -> None:
    clock = ManualClock()
    limits = Limits(clock=clock, metrics=Metrics())
    tenant = Tenant("t", terms=Terms(allowances=(Allowance("t", tokens_per_minute=1000, budget=1.0),)))
    traffic = Traffic(Place(), clock)
    errand = Errand(asked(), Demand("m"), ServiceLevel(), Account(), (), limits.reserve(tenant, 500))
    let_go: list[Account] = []
    errand.let_go = let_go.append
    errand.slot = traffic.enter("a", 10, stream=True)
    runs = [Run(0.25, 100), Run(0.5, 200)]
    errand.runs.extend(runs)
    assert Place.board.inflight[0] == 1
    for _ in range(2):
        errand.close()
        assert Place.board.inflight[0] == 0
        assert [run.ends for run in runs] == [["cancelled"], ["cancelled"]]
        assert limits.left(tenant) == 0.25
        assert limits.headers(tenant)["x-ratelimit-remaining-tokens"] == "700"
        assert let_go == [errand.account]


def test_an_errand_knows_who_failed_by_model_and_how_long_it_has() -> None:
    errand = Errand(asked(), Demand("m", due=12.0), ServiceLevel(), Account(), ())
    errand.failed("a", "m")
    errand.failed("b", "m")
    errand.failed("a", "n")
    assert errand.tried == {"m": {"a", "b"}, "n": {"a"}}
    assert errand.left(10.0) == 2.0
