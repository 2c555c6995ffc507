import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgecache.sim.report import Latency, Outcome, ReplayReport, percentile, wilson


def report(*outcomes: Outcome, oracle: int = 0) -> ReplayReport:
    return ReplayReport("http://pop", "m", outcomes, oracle, 2.0)


MIXED = report(
    Outcome("MISS", stream=True, total=0.5, first=0.1, prompt_tokens=9, completion_tokens=9),
    Outcome("MISS", stream=False, total=0.4),
    Outcome("HIT", stream=True, total=0.02, first=0.001, prompt_tokens=5, completion_tokens=7, right=True),
    Outcome("STALE", stream=False, total=0.003, prompt_tokens=1, completion_tokens=2, right=None),
    Outcome("SEMANTIC_HIT", stream=False, total=0.004, completion_tokens=1, right=False),
    Outcome("SEMANTIC_HIT", stream=False, total=0.006, completion_tokens=1, right=True),
    Outcome("BYPASS", stream=False, total=0.4),
    Outcome("HIT", stream=True, total=9.0, first=1.0, completion_tokens=50, error="unfinished"),
    Outcome("", stream=False, total=9.0, error="InternalServerError 502"),
    Outcome("", stream=False, total=9.0, error="InternalServerError 502"),
    oracle=6,
)


def test_requests_are_counted_by_how_they_were_answered() -> None:
    found = MIXED.to_dict()
    assert found["requests"] == 10
    assert found["hits"] == {"exact": 2, "semantic": 2, "total": 4}
    assert (found["misses"], found["bypass"]) == (2, 1)
    assert found["errors"] == {"unfinished": 1, "InternalServerError 502": 2}
    assert found["requests"] == found["hits"]["total"] + found["misses"] + found["bypass"] + sum(
        found["errors"].values()
    )
    assert (found["hit_rate"], found["oracle_hits"], found["oracle_hit_rate"]) == (0.4, 6, 0.6)
    assert found["requests_per_s"] == 5.0


def test_wrong_hits_are_a_share_of_the_hits_that_could_be_judged() -> None:
    wrong = MIXED.to_dict()["wrong_hits"]
    assert (wrong["exact"], wrong["semantic"], wrong["total"], wrong["unjudged"]) == (0, 1, 1, 1)
    assert wrong["of_hits"] == pytest.approx(1 / 3, abs=1e-6)
    assert wrong["of_requests"] == 0.1
    assert wrong["of_hits_95"] == wilson(1, 3)


def test_latency_keeps_hits_apart_from_misses_and_streams_from_json_and_leaves_errors_out() -> None:
    found = MIXED.latencies()
    assert found["hit_stream_first_content"] == Latency(1, 1.0, 1.0, 1.0)
    assert found["hit_json_total"] == Latency(3, 4.0, 6.0, 6.0)
    assert found["miss_stream_first_content"] == Latency(1, 100.0, 100.0, 100.0)
    assert found["miss_json_total"] == Latency(2, 400.0, 400.0, 400.0)


def test_tokens_avoided_are_those_of_hits_that_ended_well() -> None:
    assert MIXED.to_dict()["tokens_avoided"] == {"prompt": 6, "completion": 11}


def test_the_report_is_json_and_a_table_even_when_nothing_was_asked() -> None:
    for each in (MIXED, report()):
        json.dumps(each.to_dict())
        console = Console(record=True, width=120, file=None, quiet=False)
        with console.capture() as shown:
            for table in each.tables():
                console.print(table)
        assert "wrong hits" in shown.get()


def test_errors_are_named_in_the_table() -> None:
    console = Console(width=160)
    with console.capture() as shown:
        console.print(MIXED.tables()[0])
    assert "2x InternalServerError 502" in shown.get()


# The values of https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval's formula, worked by hand
@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(0, 300, 0.0, 0.0126), (1, 100, 0.0018, 0.0545), (50, 100, 0.4038, 0.5962)]
)
def test_the_interval_is_wilsons(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(0, 50), st.integers(0, 50))
def test_the_interval_holds_the_share_and_stays_between_0_and_1(hits: int, more: int) -> None:
    low, high = wilson(hits, hits + more)
    assert 0.0 <= low <= high <= 1.0
    if hits + more:
        assert low - 1e-12 <= hits / (hits + more) <= high + 1e-12


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_that_was_measured_with_its_share_at_or_below(
    seconds: list[float], share: float
) -> None:
    found = percentile(seconds, share)
    assert found in [round(each * 1000, 3) for each in seconds]
    assert sum(round(each * 1000, 3) <= found for each in seconds) >= share * len(seconds) - 1e-9


def test_there_is_no_percentile_of_nothing() -> None:
    assert Latency.of([]) == Latency(0, None, None, None)
