import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import Price, Upstream
from edgecache.router.demand import Demand
from edgecache.router.predict import deviations, learn, learn_rate, predict, rank
from edgecache.types import Tier
from tests.router.market import NOW, RTT, Fleet, Server, market, upstream

DEMAND = Demand("m", prompt_tokens=1000, output_tokens=200.0)


def pair():
    """Two upstreams that differ in nothing."""
    return market(upstream("a"), upstream("b"))


def predicted(board, offers, demand=DEMAND, known=None, probability=0.9):
    return predict(offers, board, demand, known, probability, NOW)


def ranks(board, offers, demand=DEMAND):
    """What all rows are compared by."""
    return rank(predicted(board, offers, demand), np.arange(len(offers)))


def told(board, row, *, age=0.0, **columns):
    """Upstream `row` said so `age` seconds ago."""
    board.told[row] = NOW - age
    for name, value in columns.items():
        getattr(board, name)[row] = value


def test_times_and_costs_add_up() -> None:
    cluster = Upstream(name="a", url="http://x", price=Price(input=2.0, output=6.0, cached=0.5))
    board, offers = market(cluster)
    offers.overhead[0], offers.prefill[0], offers.decode[0], offers.spread[0] = 0.1, 1e-4, 0.01, 0.05
    board.rtt[0] = 0.03
    found = predicted(board, offers)
    assert found.ttft[0] == pytest.approx(0.03 + 0.1 + 0.1)
    assert found.total[0] == pytest.approx(0.23 + 200 * 0.01)
    assert found.cost[0] == pytest.approx((1000 * 2 + 200 * 6) / 1e6)
    cached = predicted(board, offers, known=np.array([600.0]))
    assert cached.ttft[0] == pytest.approx(0.03 + 0.1 + 0.04)
    assert cached.cost[0] == pytest.approx((400 * 2 + 600 * 0.5 + 200 * 6) / 1e6)


def test_until_a_round_trip_was_measured_the_tier_says_how_far_it_is() -> None:
    board, offers = market(upstream("a", tier=Tier.EDGE), upstream("b", tier=Tier.CORE))
    offers.overhead[:], offers.prefill[:], board.rtt[:] = 0.0, 0.0, np.nan
    near, far = predicted(board, offers).ttft
    assert 0 < near < far < 0.2


def test_the_quantile_lies_above_the_mean_by_the_spread_of_past_errors() -> None:
    board, offers = market(upstream("a"))
    offers.spread[0] = 0.1
    half, most = predicted(board, offers, probability=0.5), predicted(board, offers, probability=0.95)
    assert half.late[0] == pytest.approx(half.ttft[0])
    assert most.late[0] - most.ttft[0] == pytest.approx(1.645 * 0.1 * math.sqrt(math.pi / 2), rel=1e-3)
    assert deviations(0.5) == 0


def test_a_prediction_that_was_always_right_still_is_not_believed_to_the_millisecond() -> None:
    board, offers = market(upstream("a"))
    offers.spread[0] = 0.0
    found = predicted(board, offers, probability=0.95)
    assert found.late[0] > found.ttft[0] * 1.05


def test_who_waits_for_a_first_token_says_how_late_the_next_may_be() -> None:
    board, offers = pair()
    board.oldest[0] = NOW - 7
    found = predicted(board, offers)
    assert found.late[0] == 7
    assert found.late[1] < 1
    assert found.ttft[0] == found.ttft[1], "what is learned from answers stays"


def test_a_request_that_has_just_been_sent_says_nothing() -> None:
    board, offers = pair()
    board.oldest[0] = NOW - 0.001
    found = predicted(board, offers)
    assert found.late[0] == found.late[1]


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_more_is_in_progress_the_later_is_the_rank(one: int, other: int) -> None:
    board, offers = pair()
    board.inflight[:] = [one, other]
    first, second = ranks(board, offers)
    assert (first < second) == (one < other)
    assert (first == second) == (one == other)


def test_requests_in_progress_weigh_more_where_fewer_run_at_once() -> None:
    board, offers = market(upstream("a", max_concurrency=4), upstream("b", max_concurrency=100))
    board.inflight[:] = 3
    first, second = ranks(board, offers)
    assert first > 1.5 * second


@given(st.floats(0.001, 3.0), st.floats(0.001, 3.0), st.floats(0, 0.5), st.integers(1, 60))
def test_a_time_that_is_longer_by_chance_counts_for_nothing_next_to_load(one, other, spread, inflight) -> None:
    """One is longer by chance, if its average less two standard deviations is no more than the average of the other."""
    board, offers = pair()
    offers.overhead[:], offers.prefill[:], offers.spread[:] = [one, other], 0.0, spread
    found = predicted(board, offers)
    slow, fast = (0, 1) if one > other else (1, 0)
    first, second = ranks(board, offers)[[fast, slow]]
    by_chance = found.ttft[slow] - 2 * found.sigma[slow] <= found.ttft[fast] * 1.001
    assert second == pytest.approx(first, rel=2e-3) if by_chance else second > first
    board.inflight[fast] = inflight
    first, second = ranks(board, offers)[[fast, slow]]
    assert first > second or not by_chance


def test_load_counts_as_a_share_of_what_there_is_at_the_others() -> None:
    """So that it tells them apart whatever runs at once, which nobody may have said."""
    factors = []
    for scale in (1, 8, 64):
        board, offers = market(*(upstream(name) for name in "abcd"))
        board.inflight[:] = np.array([3, 2, 2, 1]) * scale
        found = ranks(board, offers)
        factors.append(float(found[0] / found[3]))
    assert 1 < factors[0] < factors[1] < factors[2] < 5 / 3
    assert factors[2] > 1.5


@pytest.mark.parametrize("load", [{"queued": 20.0}, {"running": 60.0}, {"queued": 40.0, "capacity": 8.0}])
def test_load_that_an_upstream_tells_counts_less_with_age_and_then_no_more(load) -> None:
    found = []
    for age in (0.0, 5.0, 9.0, 10.0, 60.0):
        board, offers = market(upstream("a"))
        told(board, 0, age=age, **load)
        board.capacity[0] = load.get("capacity", np.nan)
        found.append(float(ranks(board, offers)[0]))
    board.told[0], idle = -np.inf, ranks(board, offers)[0]
    assert found[0] > found[1] > found[2] > found[3] == found[4]
    assert found[4] >= idle * 0.999


@given(
    st.integers(0, 100),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 1),
    st.floats(0, 30),
)
def test_nothing_that_an_upstream_tells_makes_it_look_less_loaded_than_the_own_count(
    inflight, queued, running, kv, age
) -> None:
    board, offers = pair()
    board.inflight[:] = inflight
    told(board, 0, age=age, queued=queued, running=running, kv=kv)
    found = predicted(board, offers)
    assert found.ttft[0] >= found.ttft[1]
    assert found.late[0] >= found.late[1]
    first, second = ranks(board, offers)
    assert first >= second


def test_who_claims_to_run_any_number_at_once_still_looks_loaded_some_time() -> None:
    board, offers = pair()
    told(board, 0, capacity=1e12, queued=0.0, running=0.0)
    board.inflight[0] = 1024
    first, second = ranks(board, offers)
    assert first > 2 * second


def test_those_ahead_of_a_free_place_are_waited_for() -> None:
    board, offers = pair()
    told(board, 0, capacity=10.0)
    board.inflight[0] = 9
    assert predicted(board, offers).ttft[0] == predicted(board, offers).ttft[1], "one place is free"
    board.inflight[0] = 19
    work = offers.overhead[0] + offers.prefill[0] * 1000 + offers.decode[0] * 200
    assert predicted(board, offers).ttft[0] - predicted(board, offers).ttft[1] == pytest.approx(10 * work / 10)


def test_a_full_kv_cache_makes_it_slower() -> None:
    board, offers = pair()
    told(board, 0, kv=0.9)
    assert predicted(board, offers).ttft[0] == predicted(board, offers).ttft[1]
    told(board, 0, kv=1.0)
    work = offers.overhead[0] + offers.prefill[0] * 1000
    assert predicted(board, offers).ttft[0] - predicted(board, offers).ttft[1] == pytest.approx(work)


@given(st.floats(0, 2000), st.integers(0, 64))
def test_a_known_prefix_never_makes_it_later_and_counts_less_under_load(known: float, inflight: int) -> None:
    board, offers = pair()
    board.inflight[:] = [0, inflight]
    plain = predicted(board, offers)
    found = predicted(board, offers, known=np.array([known, known]))
    assert (found.ttft <= plain.ttft).all()
    assert (found.ttft >= RTT).all()
    assert plain.ttft[1] - found.ttft[1] <= plain.ttft[0] - found.ttft[0] + 1e-12
    if inflight >= 32:
        assert found.ttft[1] == plain.ttft[1]


# --------------------------------------------------------------------------------------------------- learning
def teach(offers, *times, name="a", tokens=1000, rtt=RTT):
    """Answers in order; each was predicted by what the ones before had taught."""
    for time in times:
        row = offers.row[name]
        expected = rtt + float(offers.overhead[row] + offers.prefill[row] * tokens)
        learn(offers, name, rtt=rtt, tokens=tokens, ttft=time, predicted=expected, work=expected - rtt)


def test_the_first_answer_is_believed_at_once() -> None:
    board, offers = pair()
    teach(offers, 0.7)
    found = predicted(board, offers)
    assert found.ttft[0] == pytest.approx(0.7)
    assert found.late[0] > 1.0, "nothing is known of its spread yet"
    assert found.ttft[1] < 0.2


def test_it_gets_slower_in_two_answers_and_faster_in_many() -> None:
    board, offers = pair()
    teach(offers, *[0.1] * 50)
    teach(offers, *[0.1] * 50, name="b")
    teach(offers, 1.0, 1.0)
    slow = predicted(board, offers).ttft[0]
    assert slow > 0.7
    teach(offers, 0.1, 0.1)
    assert predicted(board, offers).ttft[0] > 0.7 * slow
    teach(offers, *[0.1] * 40)
    assert predicted(board, offers).ttft[0] == pytest.approx(0.1, rel=0.1)


def test_one_answer_ten_times_as_late_is_a_change_and_one_half_as_late_again_is_chance() -> None:
    board, offers = pair()
    for name in "ab":
        teach(offers, *[0.1, 0.11] * 40, name=name)
    teach(offers, 0.15)
    first, second = ranks(board, offers, Demand("m", prompt_tokens=1000))
    assert first == second
    teach(offers, 1.0)
    first, second = ranks(board, offers, Demand("m", prompt_tokens=1000))
    assert first > 3 * second


def test_who_is_given_up_before_it_answers_is_slower_and_no_more_erratic() -> None:
    board, offers = pair()
    for name in "ab":
        teach(offers, *[0.1] * 80, name=name)
    spread = float(offers.spread[0])
    learn(offers, "a", rtt=RTT, tokens=1000, ttft=0.2, predicted=0.1, work=0.098, least=True)
    assert offers.spread[0] == spread
    first, second = ranks(board, offers, Demand("m", prompt_tokens=1000))
    assert first > 1.2 * second


def test_an_answer_after_a_long_silence_is_believed_like_a_first_one() -> None:
    board, offers = pair()
    teach(offers, *[1.0] * 20)
    teach(offers, *[0.1] * 400, name="b")
    teach(offers, 0.1)
    assert predicted(board, offers).ttft[0] == pytest.approx(0.1, rel=0.05)


def test_overhead_and_prefill_are_told_apart() -> None:
    draw = random.Random(1)
    _, offers = market(upstream("a"))
    for _ in range(800):
        tokens = draw.randrange(10, 8000)
        teach(offers, RTT + (0.08 + 30e-6 * tokens) * draw.uniform(0.9, 1.1), tokens=tokens)
    assert offers.overhead[0] == pytest.approx(0.08, rel=0.25)
    assert offers.prefill[0] == pytest.approx(30e-6, rel=0.15)


def test_an_upstream_that_slows_down_tenfold_is_known_to_be_slow_for_prompts_of_any_length() -> None:
    board, offers = market(upstream("a"))
    for tokens in (100, 1000, 4000, 500) * 30:
        teach(offers, RTT + 0.05 + 50e-6 * tokens, tokens=tokens)
    teach(offers, *[RTT + 0.55] * 4, tokens=100)
    long = predicted(board, offers, Demand("m", prompt_tokens=4000)).ttft[0]
    assert long > 0.5 * 10 * (0.05 + 0.2)


def test_load_that_was_foreseen_is_not_learned() -> None:
    board, offers = market(upstream("a"))
    teach(offers, *[RTT + 0.1] * 30)
    for _ in range(50):
        work = float(offers.overhead[0] + offers.prefill[0] * 1000)
        learn(offers, "a", rtt=RTT, tokens=1000, ttft=RTT + 1.0, predicted=RTT + 10 * work, work=work)
    assert predicted(board, offers).ttft[0] == pytest.approx(RTT + 0.1, rel=0.02)
    for _ in range(50):
        work = float(offers.overhead[0] + offers.prefill[0] * 1000)
        learn(offers, "a", rtt=RTT, tokens=1000, ttft=RTT + 1.0, predicted=RTT + 10 * work)
    assert predicted(board, offers).ttft[0] == pytest.approx(RTT + 1.0, rel=0.02), "of load unknown, all is learned"


@given(
    st.lists(
        st.tuples(st.integers(0, 100_000), st.floats(0, 600), st.floats(0, 600), st.floats(0, 600) | st.none()),
        max_size=40,
    ),
    st.floats(0, 1) | st.just(math.nan),
)
def test_no_answer_however_odd_makes_times_negative_or_infinite(answers, rtt) -> None:
    board, offers = pair()
    for tokens, ttft, expected, work in answers:
        learn(offers, "a", rtt=rtt, tokens=tokens, ttft=ttft, predicted=expected, work=work)
        learn_rate(offers, "a", tokens, ttft)
    for column in (offers.overhead, offers.prefill, offers.decode, offers.spread):
        assert np.isfinite(column).all()
        assert (column >= 0).all()
    assert offers.seen.tolist() == [len(answers), 0]
    longest = max((ttft for _, ttft, _, _ in answers), default=0.0)
    assert offers.overhead[0] <= max(longest, 0.05) * 1.001
    assert np.isfinite(predicted(board, offers).late).all()


def test_the_decode_rate_is_learned_and_few_tokens_say_little() -> None:
    _, offers = market(upstream("a"))
    teach(offers, 0.1)
    learn_rate(offers, "a", 100, 3.0)
    assert offers.decode[0] == pytest.approx(0.03)
    teach(offers, *[0.1] * 20)
    learn_rate(offers, "a", 1, 5.0)
    assert offers.decode[0] < 0.08
    for _ in range(60):
        learn_rate(offers, "a", 200, 2.0)
    assert offers.decode[0] == pytest.approx(0.01, rel=0.05)
    learn_rate(offers, "a", 0, 9.0)
    assert offers.decode[0] == pytest.approx(0.01, rel=0.05)


def test_what_an_upstream_taught_that_is_gone_is_dropped() -> None:
    _, offers = market(upstream("a"))
    learn(offers, "gone", rtt=0.0, tokens=1, ttft=1.0, predicted=1.0)
    learn_rate(offers, "gone", 10, 1.0)
    assert offers.seen.tolist() == [0]


@pytest.mark.slow
def test_in_service_about_5_of_100_first_tokens_are_later_than_the_95_percent_predicted() -> None:
    fleet = Fleet([Server() for _ in range(4)], rate=40.0, seed=3)
    settled = fleet.run(60.0)[400:]
    over = sum(each.ttft > each.choice.late[0] for each in settled) / len(settled)
    assert 0.02 < over < 0.1
    middle = sorted(each.ttft / each.choice.ttft[0] for each in settled)[len(settled) // 2]
    assert middle == pytest.approx(1.0, abs=0.1)
