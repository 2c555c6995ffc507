"""The budget: kept on traffic that is as predicted, regained where it is not, given up while it drifts."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.cache import budget
from edgecache.cache.evidence import Label, Segment, Track, logistic, logit

RISKS = st.floats(1e-4, 0.99)


def label(risk: float, *, right: bool, hit: bool = False, sampled: bool = True) -> Label:
    return Label(0.9, risk, right, hit, sampled)


class World:
    """Traffic with candidates of known risk; what the scorer says of them is off by `offset` and `slope`."""

    def __init__(self, seed: int, offset: float = 0.0, slope: float = 1.0) -> None:
        self._random = random.Random(seed)
        self._offset, self._slope = offset, slope

    def requests(self, count: int) -> Iterator[tuple[float, bool]]:
        for _ in range(count):
            x = self._random.uniform(-7.0, 3.0)
            truth = logistic(self._offset + self._slope * x)
            yield logistic(x), self._random.random() < truth

    def play(self, segment: Segment, target: float, count: int, sample: float = 0.05) -> tuple[float, float]:
        """Hits and wrong answers per request, with labels as production has them."""
        hits = wrong = 0
        for prior, is_wrong in self.requests(count):
            risk = budget.risk(segment, None, prior)
            hit = risk <= budget.limit(segment, target)
            budget.requested(segment, prior)
            if hit:
                budget.served(segment, risk)
                hits += 1
                wrong += is_wrong
            if not hit or self._random.random() < sample:
                budget.learn(segment, Track(), label(prior, right=not is_wrong, hit=hit))
        return hits / count, wrong / count


SEASONED = Segment()
World(5).play(SEASONED, 0.01, 200)


@pytest.mark.parametrize("target", [0.002, 0.005, 0.01, 0.02])
def test_the_budget_is_kept_and_used_where_risks_are_as_predicted(target: float) -> None:
    rates = [World(seed).play(Segment(), target, 4000) for seed in range(6)]
    assert sum(wrong for _, wrong in rates) / 6 <= target
    assert min(hits for hits, _ in rates) > 0.05


@pytest.mark.parametrize("offset", [0.7, 1.5])
def test_the_budget_is_regained_where_risks_are_worse_than_predicted(offset: float) -> None:
    world, segment = World(7, offset), Segment()
    world.play(segment, 0.01, 3000)
    assert world.play(segment, 0.01, 6000)[1] <= 0.01


def test_more_is_served_where_risks_are_better_than_predicted() -> None:
    as_predicted, better = Segment(), Segment()
    World(3).play(as_predicted, 0.01, 4000)
    World(3, offset=-1.5).play(better, 0.01, 4000)
    usual, _ = World(4).play(as_predicted, 0.01, 4000)
    more, wrong = World(4, offset=-1.5).play(better, 0.01, 4000)
    assert more > usual
    assert wrong <= 0.01


def test_a_sudden_change_raises_the_alarm_and_leaves_equal_wording_alone_until_it_is_understood() -> None:
    segment = Segment()
    World(1).play(segment, 0.01, 4000)
    assert not segment.drifted
    for prior in (0.01, 0.02, 0.015, 0.01, 0.02, 0.03, 0.01, 0.02, 0.01, 0.01):
        budget.learn(segment, Track(), label(prior, right=False, hit=True))
    assert segment.drifted
    assert budget.limit(segment, 0.01) == 0.0
    changed = World(2, offset=2.0)
    changed.play(segment, 0.01, 4000)
    assert not segment.drifted
    assert changed.play(segment, 0.01, 4000)[1] <= 0.01


@given(RISKS, RISKS)
def test_risks_keep_their_order(one: float, other: float) -> None:
    segment = Segment()
    low, high = sorted((one, other))
    assert budget.risk(segment, None, low) <= budget.risk(segment, None, high)


@given(RISKS)
def test_without_evidence_a_risk_is_taken_with_caution(prior: float) -> None:
    assert budget.risk(Segment(), None, prior) > prior


@given(st.floats(0.0005, 0.05), st.floats(0.0005, 0.05))
def test_a_larger_budget_never_serves_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert budget.limit(SEASONED, low) <= budget.limit(SEASONED, high)


@given(st.lists(st.tuples(RISKS, st.booleans(), st.booleans()), max_size=40))
def test_no_evidence_breaks_the_arithmetic(labels: list[tuple[float, bool, bool]]) -> None:
    segment, track = Segment(), Track()
    for prior, right, hit in labels:
        budget.requested(segment, prior)
        budget.learn(segment, track, label(prior, right=right, hit=hit))
    assert 0.0 <= budget.risk(segment, track, 0.1) <= 1.0
    assert 0.0 <= budget.limit(segment, 0.01) <= 1.0
    assert segment.slope > 0


def test_an_entry_moves_its_own_risk_and_not_beyond_reason() -> None:
    segment, good, bad = Segment(), Track(), Track()
    for _ in range(3):
        budget.learn(segment, good, label(0.1, right=True))
        budget.learn(segment, bad, label(0.1, right=False))
    plain = budget.risk(segment, None, 0.1)
    assert budget.risk(segment, good, 0.1) < plain < budget.risk(segment, bad, 0.1)
    assert logit(budget.risk(segment, bad, 0.1)) - logit(plain) < 3.0


def test_only_checks_that_chance_chose_count_in_the_estimate() -> None:
    segment = Segment()
    for _ in range(100):
        budget.requested(segment, 0.05)
    for _ in range(20):
        budget.served(segment, 0.05)
    budget.learn(segment, Track(), label(0.05, right=False, hit=True, sampled=False))
    budget.learn(segment, Track(), label(0.05, right=False, hit=False))
    assert (segment.right, segment.wrong) == (0, 0)
    budget.learn(segment, Track(), label(0.05, right=False, hit=True))
    budget.learn(segment, Track(), label(0.05, right=True, hit=True))
    found = budget.estimate(segment)
    assert (found.requests, found.hits, found.checked, found.wrong) == (100, 20, 2, 1)
    assert found.rate == pytest.approx(0.2 * (1 + 10 * 0.05) / 12)
    assert 0.0 < found.low < found.rate < found.high < 0.2


def test_an_estimate_over_segments_pools_their_counts() -> None:
    one, other = (
        Segment(requests=100, hits=10, scored=10, expected=0.1, right=5),
        Segment(requests=300, hits=30, scored=30, expected=0.3),
    )
    both = budget.pooled([one, other])
    assert (both.requests, both.hits, both.checked) == (400, 40, 5)
    assert budget.pooled([]).rate == budget.estimate(Segment(requests=5)).rate == 0.0


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    chance, inside = random.Random(11), 0
    for _ in range(300):
        segment = Segment(requests=1000, hits=500, scored=500, expected=500 * 0.05)
        for _ in range(100):
            wrong = chance.random() < 0.05
            segment.wrong += wrong
            segment.right += not wrong
        found = budget.estimate(segment)
        inside += found.low <= 0.025 <= found.high
    assert inside >= 280


def test_the_mix_of_the_traffic_fades() -> None:
    segment = Segment()
    for _ in range(30_000):
        budget.requested(segment, 0.5)
    assert segment.requests == 30_000
    assert segment.looked < 25_000
    assert sum(segment.near) == pytest.approx(segment.looked)
    budget.requested(segment, None)
    assert sum(segment.near) == pytest.approx(segment.looked - 1)


def test_hits_that_nobody_scored_or_checked_may_all_be_wrong() -> None:
    segment = Segment()
    for _ in range(10):
        budget.requested(segment, None)
    budget.served(segment, 1.0)
    found = budget.estimate(segment)
    assert (found.low, found.high) == (0.0, 0.1)
    budget.learn(segment, Track(), label(0.5, right=True, hit=True))
    assert budget.estimate(segment).high < 0.1


def test_no_number_of_complaints_stops_a_segment() -> None:
    segment = Segment()
    for _ in range(50):
        budget.learn(segment, Track(), label(0.01, right=False, hit=True, sampled=False))
    assert not segment.drifted


def test_a_pair_that_nobody_scored_is_even_and_leaves_the_segment_alone() -> None:
    segment, track = Segment(), Track()
    budget.learn(segment, track, label(1.0, right=False, hit=True))
    assert (segment.offset, segment.slope) == (0.0, 1.0)
    assert track.surprise == pytest.approx(0.5)
