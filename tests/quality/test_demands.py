from typing import Any

import pytest

from edgecache.quality import demands
from edgecache.quality.demands import Row
from edgecache.quality.intervals import Share


def stream(hits: int, wrong: int, setting: float) -> dict[str, Any]:
    point = {"setting": setting, "hits": Share(hits, 1000).to_dict(), "wrong": Share(wrong, 1000).to_dict()}
    return {"curves": {"budget": [point], "cosine": []}}


@pytest.mark.parametrize(
    ("hits", "wrong", "must", "aim"),
    [(260, 10, True, True), (200, 10, True, False), (170, 1, False, False), (300, 11, False, False)],
)
def test_a_hit_rate_counts_only_if_its_wrong_hits_are_within_the_limit(
    hits: int, wrong: int, must: bool, aim: bool
) -> None:
    (row,) = demands.table({"streams": {"stream_paraphrase": stream(hits, wrong, 0.01)}})
    assert (row["meets must"], row["meets aim"]) == (must, aim)
    assert row["value"] == hits / 1000


def test_less_is_better_where_it_is() -> None:
    row = Row("ms", "3 ms", 3.0, 25.0, 2.0, less=True)
    assert (row.meets(row.must), row.meets(row.aim)) == (True, False)
    assert row.to_dict()["must"] == "≤ 25"


def test_the_worst_budget_speaks_for_the_orders() -> None:
    rows = [
        {"budget": 0.01, "kept": Share(100, 100).to_dict()},
        {"budget": 0.002, "kept": Share(94, 100).to_dict()},
    ]
    (row,) = demands.table({"orders": {"s": rows}})
    assert row["value"] == 0.94
    assert not row["meets must"]
    assert "94 of 100" in row["note"]


def test_checklist_goes_by_the_evidence_under_which_most_is_served() -> None:
    no, yes = {"cosine 0.90": Share(5, 10).to_dict()}, {}
    for name, count in (("budget, none", 1), ("budget, later", 3)):
        no[name] = Share(count, 10).to_dict()
        yes[name] = Share(6, 10).to_dict()
    served = {"must not match": no, "must match": yes}
    (row,) = demands.table({"pairs": {"sets": {"checklist": {"served": served}}}})
    assert row["value"] == 0.3
    assert not row["meets must"]


def test_growth_is_judged_by_the_lower_end_of_its_interval() -> None:
    size = {"entries": 10, "wrong": Share(1, 100).to_dict(), "hits": Share(5, 100).to_dict()}
    for low, flat in ((-0.001, True), (0.001, False)):
        row = {"name": "edgecache, budget 0.5%", "sizes": [size], "growth": {"value": 0.002, "low": low, "high": 0.01}}
        (said,) = demands.table({"entries": {"rows": [row]}})
        assert said["meets must"] is flat


def test_cost_has_another_bound_on_a_gpu() -> None:
    said = {"questions": 3, "median ms": 10.0, "p99 ms": 20.0, "pairs a second": 5.0, "candidates, mean": 2.0}
    for device, met in (("cpu", True), ("cuda", False)):
        (row,) = demands.table({"verifier": said | {"device": device}})
        assert row["meets must"] is met


def test_a_result_without_sections_has_no_rows() -> None:
    assert demands.table({}) == []


def test_what_fails_a_build_is_said() -> None:
    hits, wrong = Share(50, 100), Share(1, 100)
    assert demands.failures(wrong, hits, max_wrong=0.01, min_hit=0.5) == []
    both = demands.failures(wrong, hits, max_wrong=0.005, min_hit=0.6)
    assert len(both) == 2
    assert "wrong answers" in both[0]
