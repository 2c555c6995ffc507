import random
from collections import Counter
from math import inf

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.config import ServiceLevel
from edgecache.router import policy
from edgecache.router.choice import Refusal
from edgecache.router.demand import Demand, Feature, Prefix
from edgecache.types import Tier
from tests.router.market import LEVEL, NOW, Fleet, Seen, Server, choose, market, upstream

DEMAND = Demand("m", prompt_tokens=1000, output_tokens=100.0, counted=True)


def wanted(**fields) -> Demand:
    return msgspec.structs.replace(DEMAND, **fields)


def slower(offers, row: int, seconds: float) -> None:
    offers.overhead[row] += seconds


# ---------------------------------------------------------------------------------------------------- picking
def test_the_cheapest_of_those_in_time_is_chosen_and_the_fastest_stand_by() -> None:
    board, offers = market(upstream("dear", 9), upstream("cheap", 1), upstream("late", 0), upstream("fast", 5))
    slower(offers, 2, 3.0)
    slower(offers, 0, 0.2)
    choice = choose(board, offers, DEMAND)
    assert (choice.names, choice.why) == (("cheap", "fast", "dear", "late"), "cheapest")
    assert choice.refusal is None
    assert choice.ttft[0] < choice.late[0] < 1.0 < choice.ttft[3]
    assert choice.total[0] == pytest.approx(choice.ttft[0] + 100 * offers.decode[1])
    assert choice.cost == pytest.approx((1.1e-3, 5.5e-3, 9.9e-3, 0.0))
    assert choice.work[0] == pytest.approx(offers.overhead[1] + 1000 * offers.prefill[1])


def test_where_none_is_in_time_the_fastest_is_chosen_whatever_it_costs() -> None:
    board, offers = market(upstream("cheap", 1), upstream("dear", 9))
    slower(offers, 0, 4.0)
    slower(offers, 1, 2.0)
    choice = choose(board, offers, DEMAND)
    assert (choice.names, choice.why) == (("dear", "cheap"), "fastest")


def test_the_wanted_probability_decides_who_is_in_time() -> None:
    board, offers = market(upstream("erratic", 1), upstream("steady", 2))
    offers.spread[:] = [0.6, 0.01]
    assert choose(board, offers, level=ServiceLevel(ttft=1.0, probability=0.5)).names[0] == "erratic"
    assert choose(board, offers, level=ServiceLevel(ttft=1.0, probability=0.95)).names[0] == "steady"


def test_a_single_candidate_says_that_it_is_the_only_one() -> None:
    board, offers = market(upstream("a"), upstream("b"))
    assert choose(board, offers, tried=("a",)).names == ("b",)
    assert choose(board, offers, tried=("a",)).why == "only"


def test_the_upstream_that_a_function_chose_wins_if_it_passes_the_filters() -> None:
    board, offers = market(upstream("a"), upstream("dear", 9), upstream("c"))
    choice = choose(board, offers, wanted(function="dear"))
    assert (choice.names[0], choice.why) == ("dear", "function")
    assert set(choice.names[1:]) == {"a", "c"}
    board.out[1] = NOW + 5
    assert choose(board, offers, wanted(function="dear")).names[0] != "dear"
    assert choose(board, offers, wanted(function="unknown")).why == "cheapest"


def test_near_equals_in_cost_and_time_share_and_others_do_not() -> None:
    draw = random.Random(1)
    board, offers = market(upstream("a", 1.0), upstream("b", 1.05), upstream("c", 1.5), upstream("d", 1.0))
    slower(offers, 3, 0.3)
    picked = Counter(choose(board, offers, draw=lambda: draw.random() * 0.99).names[0] for _ in range(200))
    assert set(picked) <= {"a", "b"}


def test_a_known_prefix_decides_between_upstreams_of_one_price() -> None:
    board, offers = market(*(upstream(f"u{row}") for row in range(10)))
    known = np.zeros(10)
    known[7] = 3900
    draw = random.Random(1)
    demand = wanted(prompt_tokens=4000)
    picks = [choose(board, offers, demand, known=known, draw=lambda: draw.random() * 0.99) for _ in range(50)]
    assert {choice.names[0] for choice in picks} == {"u7"}


def test_equals_share_although_one_was_a_little_faster_lately_or_its_first_answer_was_slow() -> None:
    draw = random.Random(1)
    board, offers = market(*(upstream(name) for name in "abcd"))
    for row, (overhead, spread) in enumerate(((0.05, 0.01), (0.06, 0.01), (0.055, 0.01), (1.0, 0.5))):
        offers.overhead[row], offers.prefill[row], offers.spread[row] = overhead, 0.0, spread
    picked = Counter(choose(board, offers, draw=lambda: draw.random() * 0.99).names[0] for _ in range(400))
    assert min(picked.values()) > 70, picked


def test_the_cheaper_of_those_in_time_is_chosen_however_much_is_in_progress_there() -> None:
    board, offers = market(upstream("cheap", 1), upstream("dear", 9))
    board.inflight[0] = 500
    assert choose(board, offers).names == ("cheap", "dear")
    offers.overhead[0] = 1.0
    assert choose(board, offers).names == ("dear", "cheap")


def test_of_those_that_know_a_prefix_always_the_same_is_chosen_until_more_is_in_progress_there() -> None:
    draw = random.Random(1)
    board, offers = market(*(upstream(f"u{row}") for row in range(6)))
    known = np.array([0, 3900.0, 0, 3900.0, 3900.0, 0])
    picked = set()
    for digest in (b"one", b"two", b"six", b"ten"):
        demand = wanted(prompt_tokens=4000, prefixes=(Prefix(digest, 3900),))
        calm = lambda: draw.random() * 0.99  # noqa: E731 - without trials
        names = {choose(board, offers, demand, known=known, draw=calm).names[0] for _ in range(20)}
        assert len(names) == 1
        picked |= names
    assert 1 < len(picked) <= 3
    assert picked <= {"u1", "u3", "u4"}
    board.inflight[offers.row[names.pop()]] = 10
    assert choose(board, offers, demand, known=known, draw=calm).names[0] in {"u1", "u3", "u4"} - {
        f"u{board.inflight.argmax()}"
    }


def test_now_and_then_another_that_costs_no_more_is_tried() -> None:
    board, offers = market(upstream("good"), upstream("slow"), upstream("dear", 9))
    slower(offers, 1, 0.5)
    draws = iter([0.0, 0.999, 0.9])
    choice = choose(board, offers, draw=lambda: next(draws))
    assert (choice.names[0], choice.why) == ("slow", "trial")
    assert choice.names[1] == "good"
    board.unanswered[1] = 1
    draws = iter([0.0, 0.999, 0.9])
    assert choose(board, offers, draw=lambda: next(draws)).names[0] == "good", "one trial at a time"


def test_trials_are_few() -> None:
    draw = random.Random(2)
    board, offers = market(upstream("good"), upstream("slow"))
    slower(offers, 1, 0.5)
    picked = Counter(choose(board, offers, draw=draw.random).why for _ in range(4000))
    assert 5 <= picked["trial"] <= 40


# ---------------------------------------------------------------------------------------------------- filters
def refusals(board, offers, demand=DEMAND, level=LEVEL, **arguments) -> list[Refusal | None]:
    """Why each row is out, as `route explain` shows it."""
    choice = choose(board, offers, demand, level=level, **arguments)
    lines = policy.lines(
        offers, board, demand, level, choice=choice, **{"near": 0.1, "most_out": 0.5, "now": NOW, **arguments}
    )
    assert [line.name for line in lines] == list(offers.names)
    assert Counter(line.refusal for line in lines if line.refusal) == Counter(choice.counts)
    assert [line.chosen for line in lines] == [
        choice.names.index(name) + 1 if name in choice.names else 0 for name in offers.names
    ]
    return [line.refusal for line in lines]


def able(features: Feature, offers, row: int) -> None:
    offers.features[row] = int(features)


def test_residency_leaves_those_out_that_stand_elsewhere_or_nowhere() -> None:
    board, offers = market(upstream("a", jurisdiction="EU"), upstream("b", jurisdiction="US"), upstream("c"))
    found = refusals(board, offers, wanted(residency=frozenset({"EU"})))
    assert found == [None, Refusal.RESIDENCY, Refusal.RESIDENCY]


def test_the_gpu_that_a_route_asks_for_must_be_told_of() -> None:
    board, offers = market(
        upstream("a", gpu="H100", gpu_memory=80), upstream("b", gpu="L4", gpu_memory=24), upstream("c")
    )
    assert refusals(board, offers, wanted(gpu="H100")) == [None, Refusal.CAPABILITY, Refusal.CAPABILITY]
    assert refusals(board, offers, wanted(gpu_memory=24)) == [None, None, Refusal.CAPABILITY]
    assert refusals(board, offers, wanted(gpu="L4", gpu_memory=80)) == [Refusal.CAPABILITY] * 3
    assert refusals(board, offers, wanted()) == [None, None, None]


def test_features_and_adapters_must_be_there_all_of_them() -> None:
    board, offers = market(upstream("a", loras=("mine",)), upstream("b"), upstream("c", loras=("mine",)))
    able(Feature.TOOLS, offers, 2)
    assert refusals(board, offers, wanted(lora="mine")) == [None, Refusal.CAPABILITY, None]
    assert refusals(board, offers, wanted(features=Feature.TOOLS)) == [None, None, None]
    both = wanted(features=Feature.TOOLS | Feature.VISION)
    assert refusals(board, offers, both) == [None, None, Refusal.CAPABILITY]


@pytest.mark.parametrize(
    ("fields", "out"),
    [
        ({"prompt_tokens": 900, "limit": 100}, False),
        ({"prompt_tokens": 901, "limit": 100}, True),
        ({"prompt_tokens": 901, "limit": 0, "output_tokens": 99}, False),
        ({"prompt_tokens": 902, "limit": 0, "output_tokens": 99}, True),
        ({"prompt_tokens": 1000, "limit": 100, "counted": False}, False),
        ({"prompt_tokens": 1200, "limit": 100, "counted": False}, True),
    ],
)
def test_prompt_and_answer_must_fit_and_a_doubtful_estimate_is_for_the_upstream_to_judge(fields, out) -> None:
    board, offers = market(upstream("a", context=1000), upstream("b"))
    assert refusals(board, offers, wanted(**fields)) == [Refusal.CONTEXT if out else None, None]


def test_a_request_from_a_neighbour_goes_to_no_other_neighbour() -> None:
    board, offers = market(upstream("a", tier=Tier.PEER), upstream("b"))
    assert refusals(board, offers, wanted(hops=1)) == [Refusal.HOPS, None]
    only_peers = market(upstream("a", tier=Tier.PEER))
    assert choose(*only_peers, wanted(hops=1)).refusal == Refusal.HOPS
    assert choose(*only_peers, wanted(hops=0)).names == ("a",)


def test_nothing_dearer_than_what_is_left_of_the_budget_is_asked() -> None:
    board, offers = market(upstream("a", 1), upstream("b", 10))
    assert refusals(board, offers, wanted(budget=0.002)) == [None, Refusal.BUDGET]
    assert choose(board, offers, wanted(budget=0.0001)).refusal == Refusal.BUDGET
    assert refusals(*market(upstream("free")), wanted(budget=0.0)) == [None]


def test_what_ends_after_the_deadline_is_not_begun() -> None:
    board, offers = market(upstream("a"), upstream("b"))
    offers.decode[1] = 1.0
    assert refusals(board, offers, wanted(due=NOW + 10)) == [None, Refusal.LATE]
    assert choose(board, offers, wanted(due=NOW + 0.01)).refusal == Refusal.LATE


def test_one_request_that_hangs_makes_nobody_refuse_the_others() -> None:
    board, offers = market(upstream("a"))
    board.oldest[0] = NOW - 500
    assert refusals(board, offers, wanted(due=NOW + 10)) == [None]


def test_ejected_upstreams_are_left_out_until_more_than_that_share_is_out() -> None:
    board, offers = market(*(upstream(f"u{row}") for row in range(4)))
    board.out[0] = board.out[1] = NOW + 5
    assert refusals(board, offers) == [Refusal.DOWN, Refusal.DOWN, None, None]
    board.out[2] = NOW + 5
    assert refusals(board, offers) == [None] * 4
    assert refusals(board, offers, most_out=1.0) == [Refusal.DOWN] * 3 + [None]
    board.out[:] = NOW + 5
    assert choose(board, offers, most_out=1.0).refusal == Refusal.DOWN
    assert refusals(board, offers, most_out=1.0, now=NOW + 5) == [None] * 4


def test_only_upstreams_that_could_serve_the_request_count_for_that_share() -> None:
    board, offers = market(*(upstream(f"u{row}", jurisdiction="EU" if row < 2 else "US") for row in range(6)))
    board.out[:2] = NOW + 5
    found = refusals(board, offers, wanted(residency=frozenset({"EU"})))
    assert found == [None, None] + [Refusal.RESIDENCY] * 4
    board.out[1] = 0
    board.inflight[1], board.slots[1] = 5, 5
    found = choose(board, offers, wanted(residency=frozenset({"EU"})))
    assert found.refusal == Refusal.FULL, "a healthy one that is full is waited for"


def test_the_class_may_fill_its_share_but_always_one_place() -> None:
    board, offers = market(upstream("a", max_concurrency=10), upstream("b", max_concurrency=1))
    half = ServiceLevel(ttft=1.0, share=0.5)
    board.inflight[:] = [4, 0]
    assert refusals(board, offers, level=half) == [None, None]
    board.inflight[:] = [5, 1]
    assert refusals(board, offers, level=half) == [Refusal.FULL, Refusal.FULL]
    assert refusals(board, offers, level=LEVEL) == [None, Refusal.FULL]
    board.inflight[:] = [1, 0]
    assert refusals(board, offers, level=ServiceLevel(share=0.0)) == [Refusal.FULL, None]


def test_one_that_comes_back_gets_little_at_first_even_if_it_has_no_limit() -> None:
    board, offers = market(upstream("a", max_concurrency=10), upstream("b"), upstream("c"))
    board.ramp[:] = [0.3, 0.1, 1.0]
    board.inflight[:] = [3, 4, 10_000]
    assert refusals(board, offers) == [Refusal.FULL, Refusal.FULL, None]
    board.inflight[:] = [2, 3, 10_000]
    assert refusals(board, offers) == [None, None, None]
    board.ramp[:], board.inflight[:] = 0.0, 0
    assert refusals(board, offers) == [None, None, None]


def test_waiting_says_how_long() -> None:
    board, offers = market(upstream("a", max_concurrency=4), upstream("b", tokens_per_minute=6000), upstream("c"))
    board.inflight[0] = 4
    board.room[1] = 100.0
    board.busy[2] = NOW + 3
    choice = choose(board, offers, DEMAND)
    assert (choice.names, choice.refusal) == ((), Refusal.RATE)
    assert choice.counts == {Refusal.FULL: 1, Refusal.RATE: 1, Refusal.OVERLOADED: 1}
    total = 0.002 + offers.overhead[0] + 1000 * offers.prefill[0] + 100 * offers.decode[0]
    assert choice.wait == pytest.approx(total / 4)
    board.busy[2] = NOW + 0.1
    assert choose(board, offers, DEMAND).wait == pytest.approx(0.1)
    board.room[1] = 1099.0
    assert choose(board, offers, DEMAND).wait == pytest.approx(0.01)
    board.room[1] = 1100.0
    assert choose(board, offers, DEMAND).names == ("b",)


def test_what_has_been_tried_is_not_tried_again() -> None:
    board, offers = market(upstream("a"), upstream("b"))
    assert refusals(board, offers, tried=("a", "gone")) == [Refusal.TRIED, None]
    assert choose(board, offers, tried=("a", "b")).refusal == Refusal.TRIED


def test_neighbours_help_out_only_where_no_own_upstream_is_usable_and_in_time() -> None:
    board, offers = market(upstream("own", 9), upstream("peer", tier=Tier.PEER))
    assert choose(board, offers).names == ("own",)
    slower(offers, 0, 3.0)
    assert choose(board, offers).names == ("peer", "own"), "the peer meets the target, no own one does"
    slower(offers, 0, -3.0)
    board.busy[0] = NOW + 1
    assert choose(board, offers).names == ("peer",)
    slower(offers, 1, 60.0)
    assert choose(board, offers, wanted(due=NOW + 30)).refusal == Refusal.OVERLOADED, "and only in time"


def test_nothing_offered_is_nothing_chosen() -> None:
    choice = choose(*market())
    assert (choice.names, choice.refusal, choice.wait) == ((), Refusal.DOWN, 0.0)


# ------------------------------------------------------------------------------------------------- properties
PLACES = ("", "EU", "US")
rows = st.fixed_dictionaries(
    {
        "tier": st.sampled_from(list(Tier)),
        "jurisdiction": st.sampled_from(PLACES),
        "max_concurrency": st.integers(0, 5),
        "context": st.sampled_from([0, 500, 5000]),
        "price": st.sampled_from([0.0, 1.0, 1.05, 10.0]),
        "inflight": st.integers(0, 6),
        "busy": st.sampled_from([0.0, NOW - 1, NOW + 2]),
        "out": st.sampled_from([0.0, NOW - 1, NOW + 2]),
        "ramp": st.sampled_from([0.0, 0.1, 0.7, 1.0]),
        "room": st.sampled_from([0.0, 1000.0, inf]),
        "overhead": st.floats(0, 5),
        "oldest": st.sampled_from([inf, NOW - 0.1, NOW - 9]),
        "told": st.sampled_from([-inf, NOW - 3, NOW - 100]),
        "queued": st.sampled_from([float("nan"), 0.0, 50.0]),
    }
)
demands = st.builds(
    Demand,
    model=st.just("m"),
    prompt_tokens=st.integers(0, 3000),
    output_tokens=st.floats(0, 500),
    residency=st.sets(st.sampled_from(PLACES[1:])).map(frozenset),
    hops=st.integers(0, 1),
    due=st.sampled_from([inf, NOW - 1, NOW + 1, NOW + 20]),
    budget=st.sampled_from([inf, 0.0, 0.001]),
    function=st.sampled_from(["", "u0", "gone"]),
)


def made(specs):
    keys = ("tier", "jurisdiction", "max_concurrency", "context", "price")
    board, offers = market(*(upstream(f"u{i}", **{key: each[key] for key in keys}) for i, each in enumerate(specs)))
    for row, each in enumerate(specs):
        for column in ("inflight", "busy", "out", "ramp", "room", "oldest", "told", "queued"):
            getattr(board, column)[row] = each[column]
        offers.overhead[row] = each["overhead"]
    return board, offers


@given(
    st.lists(rows, max_size=8),
    demands,
    st.floats(0, 1),
    st.randoms(use_true_random=False),
    st.sets(st.sampled_from(["u0", "u1", "u5"])),
)
def test_whoever_is_chosen_passes_every_filter_and_a_refusal_says_why(specs, demand, share, draw, tried) -> None:
    board, offers = made(specs)
    level = ServiceLevel(ttft=1.0, share=share)
    choice = choose(board, offers, demand, level=level, draw=draw.random, tried=tried)
    found = refusals(board, offers, demand, level, tried=tried)
    assert bool(choice.names) == (choice.refusal is None) == any(each is None for each in found)
    assert len(choice.names) == len(set(choice.names)) == len(choice.ttft) == len(choice.cost) <= 4
    assert choice.wait >= 0 or choice.refusal not in {Refusal.FULL, Refusal.OVERLOADED, Refusal.RATE}
    if choice.refusal is not None and specs:
        assert choice.counts[choice.refusal] > 0
        assert sum(choice.counts.values()) == len(specs)
    for name in choice.names:
        row = offers.row[name]
        spec = specs[row]
        assert name not in tried
        assert not demand.residency or spec["jurisdiction"] in demand.residency
        assert spec["inflight"] < max(1, (spec["max_concurrency"] or inf) * max(share, 1e-9))
        assert spec["busy"] <= NOW
        assert not (spec["tier"] == Tier.PEER and demand.hops)
        assert spec["room"] >= demand.prompt_tokens + demand.output_tokens
        assert choice.cost[choice.names.index(name)] <= demand.budget
        assert NOW + choice.total[choice.names.index(name)] <= demand.due


@given(st.lists(rows, min_size=1, max_size=6), demands, st.floats(0.001, 5), st.floats(0.2, 10), st.randoms())
def test_one_that_is_slower_or_dearer_and_else_the_same_is_never_preferred(specs, demand, more, price, draw) -> None:
    specs = [{**each, "price": 1.0} for each in specs]
    steady = lambda: draw.random() * 0.99  # noqa: E731 - without trials
    board, offers = made([specs[0], specs[0]])
    offers.spread[:] = 0.0  # so that 20 ms and more are no matter of chance
    board.oldest[:] = inf  # those that keep somebody waiting are as late as that, whatever they took before
    for column in (offers.overhead, offers.prefill, offers.decode):
        column[1] = (column[1] + 0.02) * (1.2 + more)
    assert choose(board, offers, demand, draw=steady).names[:1] != ("u1",)
    demand = msgspec.structs.replace(demand, prompt_tokens=max(demand.prompt_tokens, 1))
    twin = {**specs[0], "price": specs[0]["price"] + price}
    board, offers = made([specs[0], twin])
    assert choose(board, offers, demand, draw=steady).names[:1] != ("u1",)


@settings(max_examples=25)
@given(st.integers(2, 40), st.integers(1, 300), st.randoms(use_true_random=False))
def test_equals_that_end_nothing_get_nearly_the_same(count, requests, draw) -> None:
    board, offers = market(*(upstream(f"u{row}") for row in range(count)))
    for _ in range(requests):
        choice = choose(board, offers, draw=lambda: draw.random() * 0.99)
        board.inflight[offers.row[choice.names[0]]] += 1
    assert board.inflight.max() - requests / count <= 6


# -------------------------------------------------------------------------------------------------- scenarios
FULL = 4 * 16 / 0.72
"""Requests a second that four servers with 16 places can serve."""


def times(seen: list[Seen], since: float = 10.0, until: float = inf) -> tuple[float, float]:
    """Median and 99th percentile of the time to the first token, waiting for room included."""
    found = [each.waited + each.ttft for each in seen if since <= each.sent < until]
    p50, p99 = np.quantile(found, [0.5, 0.99])
    return float(p50), float(p99)


@pytest.mark.slow
@pytest.mark.parametrize("places", [0, 256], ids=["no capacity told", "a capacity far too high"])
@pytest.mark.parametrize("load", [0.05, 0.49, 0.66, 0.84])
def test_equals_whose_capacity_nobody_knows_share_evenly_and_nobody_queues(load, places) -> None:
    seconds = 300.0 if load < 0.1 else 60.0
    upstreams = [upstream(f"u{row}", max_concurrency=places) for row in range(4)]
    found, turns = [], []
    for seed in (1, 2, 3):
        fleet = Fleet([Server(slots=16) for _ in range(4)], load * FULL, seed=seed, upstreams=upstreams)
        found += fleet.run(seconds)
        turns += Fleet([Server(slots=16) for _ in range(4)], load * FULL, seed=seed, robin=True).run(seconds)
        assert [fleet.share(row, 10) for row in range(4)] == pytest.approx([0.25] * 4, rel=0.15)
    (p50, p99), (turns50, turns99) = times(found), times(turns)
    assert p50 < 1.3 * turns50
    assert p99 < 1.3 * turns99


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.3, 0.66])
def test_of_unequal_ones_the_fast_get_more_than_their_turn(load) -> None:
    def servers() -> list[Server]:
        return [Server(slots=16, slow=lambda _, factor=factor: factor) for factor in (1.0, 1.0, 2.0, 4.0)]

    rate = load * FULL * (1 + 1 + 1 / 2 + 1 / 4) / 4
    fleet = Fleet(servers(), rate)
    p50, p99 = times(fleet.run(60.0))
    turns50, turns99 = times(Fleet(servers(), rate, robin=True).run(60.0))
    assert p50 < 0.9 * turns50
    assert p99 < 0.7 * turns99
    assert fleet.share(0, 10) == pytest.approx(fleet.share(1, 10), rel=0.15)
    assert fleet.share(1, 10) > 2 * fleet.share(2, 10)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.1, 0.49])
def test_one_of_four_that_slows_down_tenfold_costs_little_where_no_capacity_is_known(load) -> None:
    servers = [Server(slots=16) for _ in range(4)]
    servers[0].slow = lambda now: 10.0 if now >= 100 else 1.0
    seen = Fleet(servers, load * FULL).run(200.0)
    assert times(seen, 100)[1] < 1.5 * times(seen, 10, 100)[1]


def test_none_gets_more_than_its_places_and_those_for_whom_there_are_none_wait_in_turn() -> None:
    upstreams = [upstream(name, max_concurrency=4) for name in "ab"]
    most = 0

    def watch(board, servers, now) -> None:
        nonlocal most
        most = max(most, *board.inflight.tolist())

    fleet = Fleet([Server(), Server()], rate=14.0, upstreams=upstreams, scrape=watch)
    seen = fleet.run(60.0)
    assert most == 4
    assert not fleet.refused
    came = [each.sent - each.waited for each in sorted(seen, key=lambda each: each.sent)]
    assert came == sorted(came)
    waited = [each.waited for each in seen if each.waited > 0]
    assert len(seen) > len(waited) > 0.2 * len(seen)
    assert max(each.ttft for each in seen) < 0.5, "they wait here, not there"
    assert fleet.board.inflight.tolist() == [0, 0]


@pytest.mark.slow
def test_one_of_four_that_slows_down_tenfold_soon_gets_little_and_its_share_when_it_is_well_again() -> None:
    servers = [Server() for _ in range(4)]
    servers[0].slow = lambda now: 10.0 if 30 <= now < 60 else 1.0
    fleet = Fleet(servers, rate=40.0)
    seen = fleet.run(160.0)
    assert fleet.share(0, 10, 30) > 0.1
    assert fleet.share(0, 31, 60) < 0.03
    assert fleet.share(0, 130, 160) > 0.05

    def p99(since: float, until: float) -> float:
        return float(np.quantile([each.ttft for each in seen if since <= each.sent < until], 0.99))

    assert p99(31, 60) < 1.5 * p99(10, 30)


def test_it_is_noticed_before_the_first_slow_answer_comes() -> None:
    servers = [Server() for _ in range(4)]
    servers[0].slow = lambda now: 1000.0 if now >= 20 else 1.0
    fleet = Fleet(servers, rate=40.0)
    fleet.run(30.0)
    sent = [each.sent for each in fleet.seen if each.row == 0 and each.sent >= 20]
    assert len(sent) < 40
    assert not [when for when in sent if when > 22], "later than the others' times and their noise"


@pytest.mark.slow
def test_one_that_says_it_has_no_load_does_not_get_everything() -> None:
    def lies(board, servers, now) -> None:
        board.told[:] = now
        board.running[:] = [server.running for server in servers]
        board.queued[:] = [len(server.queue) for server in servers]
        board.capacity[:] = [server.slots for server in servers]
        board.running[0], board.queued[0], board.capacity[0] = 0, 0, 1e9

    fleet = Fleet([Server(slots=16) for _ in range(4)], rate=60.0, scrape=lies)
    fleet.run(40.0)
    assert fleet.share(0, 10) < 0.45
    assert min(fleet.share(row, 10) for row in (1, 2, 3)) > 0.15
