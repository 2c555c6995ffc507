import csv
import io
from collections import Counter
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import BadRequest
from edgecache.router.usage import DIMENSIONS, OTHER, Spread, Sums, Usage, answering, moment, stored, table
from edgecache.store.records import Record
from edgecache.types import Attempt, CacheStatus, Purpose

NOW = 1_700_000_000.0


def attempt(upstream: str = "core", outcome: str = "ok", **fields) -> Attempt:
    return Attempt(**{"upstream": upstream, "tier": upstream, "region": "eu", "model": "m"} | fields, outcome=outcome)


def record(*attempts: Attempt, **fields) -> Record:
    return Record(**{"at": NOW, "request_id": "r", "tenant": "acme", "status": 200, "outcome": "ok"} | fields,
                  attempts=list(attempts))  # fmt: skip


def usage(*records: Record, by: str = "", most: int = 10_000) -> Usage:
    made = Usage(by.split(",") if by else (), most=most)
    made.add(records)
    return made


NAMES = st.sampled_from(["a", "b", "c"])
COUNTS = st.integers(0, 2**40)
COSTS = st.floats(0, 1000)
ATTEMPTS = st.builds(
    Attempt,
    upstream=NAMES, tier=st.sampled_from(["edge", "core"]), region=NAMES, model=NAMES,
    prompt_tokens=COUNTS, completion_tokens=COUNTS, cached_tokens=COUNTS, estimated=st.booleans(), cost=COSTS,
    ttft=st.floats(0, 100), seconds=st.floats(0, 100), hedge=st.booleans(),
    outcome=st.sampled_from(["ok", "rejected", "overloaded", "failed", "timeout", "cut", "cancelled", "hedge_lost"]),
)  # fmt: skip
RECORDS = st.builds(
    Record,
    at=st.floats(0, 4e9), request_id=st.just("r"), tenant=NAMES, key=NAMES, endpoint=NAMES, model=NAMES, service=NAMES,
    purpose=st.sampled_from(list(Purpose)), cache=st.sampled_from(["", *CacheStatus]),
    status=st.sampled_from([200, 404, 429, 499, 502]), collapsed=st.booleans(),
    outcome=st.sampled_from(["ok", "rejected", "refused", "failed", "stream_cut", "client_gone", "late"]),
    prompt_tokens=COUNTS, completion_tokens=COUNTS, avoided_prompt_tokens=COUNTS, avoided_completion_tokens=COUNTS,
    avoided_cost=COSTS, ttft=st.floats(0, 1e4), seconds=st.floats(0, 1e4), tokens_per_second=st.floats(0, 1e4),
    attempts=st.lists(ATTEMPTS, max_size=4),
)  # fmt: skip
BY = st.lists(st.sampled_from(DIMENSIONS), unique=True)


@given(st.lists(RECORDS, max_size=12), BY, st.integers(1, 20))
def test_every_grouping_adds_up_to_exactly_the_same_totals(records: list[Record], by: list[str], most: int) -> None:
    grouped, whole = Usage(by, most=most), Usage()
    grouped.add(records)
    for each in reversed(records):  # in any order
        whole.add([each])
    total, plain = grouped.total(), whole.total()
    assert total.columns() == plain.columns()
    assert (total.cost, total.direct, total.avoided) == (plain.cost, plain.direct, plain.avoided)
    assert len(grouped.groups) <= most + 1


@given(st.lists(RECORDS, max_size=12))
def test_attempts_are_counted_once_and_at_their_own_upstream(records: list[Record]) -> None:
    made = Usage(["upstream"])
    made.add(records)
    told: Counter[tuple[str, str]] = Counter()
    for one in (each for record in records for each in record.attempts):
        told[one.upstream, "prompt_tokens"] += one.prompt_tokens
        told[one.upstream, "completion_tokens"] += one.completion_tokens
        told[one.upstream, "cached_tokens"] += one.cached_tokens
        told[one.upstream, "upstream_requests"] += 1
        told[one.upstream, "hedges"] += one.hedge
        told[one.upstream, "cost"] += round(one.cost * 1e12)
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "upstream_requests", "hedges", "cost")
    found = {(key[0], name): getattr(sums, name) for key, sums in made.groups.items() for name in names}
    assert +Counter(found) == +told


@given(st.lists(RECORDS, max_size=12), BY)
def test_requests_of_clients_are_counted_once(records: list[Record], by: list[str]) -> None:
    made = Usage(by)
    made.add(records)
    asked = [each for each in records if each.purpose == Purpose.CLIENT and each.outcome != "late"]
    total = made.total()
    assert total.requests == len(asked)
    assert total.hits == sum(stored(each) for each in asked)
    assert total.refused == sum(each.outcome == "refused" for each in asked)
    assert total.errors == sum(each.outcome in {"failed", "stream_cut"} for each in asked)


def test_a_hedged_request_is_one_request_at_its_winner_and_two_upstream() -> None:
    lost = attempt("core", "hedge_lost", prompt_tokens=100, cost=0.25)
    won = attempt("edge", prompt_tokens=100, completion_tokens=50, cached_tokens=10, cost=0.5, hedge=True)
    made = usage(record(lost, won, prompt_tokens=100, completion_tokens=50, ttft=0.2), by="tier")
    edge, core = made.rows()
    assert {name: edge[name] for name in ("tier", "requests", "upstream_requests", "hedges", "cost_usd")} == {
        "tier": "edge", "requests": 1, "upstream_requests": 1, "hedges": 1, "cost_usd": 0.5,
    }  # fmt: skip
    assert {name: core[name] for name in ("tier", "requests", "upstream_requests", "prompt_tokens", "cost_usd")} == {
        "tier": "core", "requests": 0, "upstream_requests": 1, "prompt_tokens": 100, "cost_usd": 0.25,
    }  # fmt: skip
    total = made.total().columns()
    assert total["usd_per_million_with"] == pytest.approx(0.75 / 150 * 1e6)
    assert total["usd_per_million_without"] == pytest.approx(0.5 / 150 * 1e6)


def test_hits_and_shared_answers_make_tokens_cheaper() -> None:
    miss = record(attempt(prompt_tokens=60, completion_tokens=40, cost=1.0), prompt_tokens=60, completion_tokens=40)
    avoided = {"prompt_tokens": 60, "completion_tokens": 40, "avoided_prompt_tokens": 60,
               "avoided_completion_tokens": 40, "avoided_cost": 1.0}  # fmt: skip
    hit, shared = record(cache="HIT", **avoided), record(cache="MISS", collapsed=True, **avoided)
    row = usage(miss, hit, shared).total().columns()
    assert (row["requests"], row["hits"], row["avoided_tokens"], row["served_tokens"]) == (3, 1, 200, 300)
    assert (row["cost_usd"], row["avoided_usd"]) == (1.0, 2.0)
    assert (row["usd_per_million_with"], row["usd_per_million_without"]) == (
        pytest.approx(1e6 / 300), pytest.approx(3e6 / 300),
    )  # fmt: skip


def test_background_work_costs_but_is_no_request_and_no_price_of_going_without() -> None:
    renewal = record(attempt(cost=1.0, prompt_tokens=10), purpose="renew")
    row = usage(renewal, by="purpose").rows()[0]
    assert (row["purpose"], row["requests"], row["upstream_requests"], row["cost_usd"]) == ("renew", 0, 1, 1.0)
    assert usage(renewal).total().direct == 0


def test_nothing_served_has_no_price() -> None:
    row = usage(record(outcome="refused", status=429)).total().columns()
    assert row["usd_per_million_with"] is None
    assert row["ttft_p50"] is None
    assert (row["requests"], row["refused"]) == (1, 1)


@pytest.mark.parametrize(
    ("outcomes", "wanted"),
    [
        (["failed", "ok"], 1),
        (["ok", "hedge_lost"], 0),
        (["hedge_lost", "ok"], 1),
        (["cut", "ok"], 1),
        (["failed", "timeout"], 1),
        (["timeout", "hedge_lost"], 0),
        (["overloaded", "rejected"], 1),
        (["cancelled"], 0),
        (["hedge_lost"], 0),
    ],
)
def test_the_answering_attempt_is_the_one_that_was_served_or_came_closest(outcomes: list[str], wanted: int) -> None:
    attempts = [attempt(f"u{number}", outcome) for number, outcome in enumerate(outcomes)]
    assert answering(record(*attempts)) is attempts[wanted]


@pytest.mark.parametrize("fields", [{"cache": "STALE"}, {"cache": "HIT"}, {"collapsed": True}])
def test_what_was_stored_or_shared_was_answered_by_no_attempt(fields) -> None:
    made = record(attempt("core", "failed"), **fields)
    assert answering(made) is None
    rows = {row["tier"]: row for row in usage(made, by="tier").rows()}
    assert (rows[""]["requests"], rows["core"]["requests"], rows["core"]["upstream_requests"]) == (1, 0, 1)


def test_rows_name_their_dimensions_in_the_order_that_was_asked_for() -> None:
    by = "tier,day,tenant,region,hour,class,endpoint,cache,model,purpose,key"
    made = usage(
        record(attempt("edge", region="ch", cost=1.0), tenant="b", key="k", at=86_400.0 * 365 + 3600 * 5 + 59),
        record(tenant="a", cache="HIT", service="batch", endpoint="chat.completions", model="x"),
        by=by,
    )
    first, second = made.rows()
    assert ",".join(list(first)[:11]) == by
    assert list(first.values())[:11] == [
        "edge", "1971-01-01", "b", "ch", "1971-01-01T05:00Z", "", "", "", "", "client", "k",
    ]  # fmt: skip
    assert list(second.values())[:11] == [
        "", "2023-11-14", "a", "", "2023-11-14T22:00Z", "batch", "chat.completions", "HIT", "x", "client", "",
    ]  # fmt: skip


def test_groups_beyond_the_most_there_may_be_are_one() -> None:
    made = usage(*(record(attempt(cost=1.0), tenant=f"t{number}") for number in range(5)), by="tenant,tier", most=2)
    rows = {row["tenant"]: row for row in made.rows()}
    assert {name: row["requests"] for name, row in rows.items()} == {"t0": 1, "t1": 1, OTHER: 3}
    assert rows[OTHER]["tier"] == OTHER


@pytest.mark.parametrize(("by", "said"), [(["tenant", "colour"], "not 'colour'"), (["day", "day"], "once")])
def test_a_dimension_that_is_not_known_or_there_twice_is_refused(by: list[str], said: str) -> None:
    with pytest.raises(BadRequest, match=said) as refused:
        Usage(by)
    assert refused.value.param == "by"


# ---------------------------------------------------------------------------------------------- quantiles
@given(st.lists(st.floats(1e-5, 6e4), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_quantile_is_within_its_bucket(values: list[float], share: float) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    exact = sorted(values)[max(-int(-share * len(values) // 1), 1) - 1]
    assert spread.quantile(share) == pytest.approx(exact, rel=0.0255)


@given(st.lists(st.floats(0, 1e9)), st.lists(st.floats(0, 1e9)))
def test_two_spreads_merged_are_one_of_all_values(one: list[float], other: list[float]) -> None:
    merged, rest, whole = Spread(), Spread(), Spread()
    for spread, values in ((merged, one), (rest, other), (whole, one + other)):
        for value in values:
            spread.add(value)
    merged.merge(rest)
    assert merged.counts == whole.counts


def test_no_values_have_no_quantile_and_zero_is_none() -> None:
    spread = Spread()
    spread.add(0.0)
    assert spread.quantile(0.5) is None


def test_times_and_rates_are_those_of_answers_that_were_given() -> None:
    slow = record(attempt(), ttft=2.0, tokens_per_second=10.0)
    fast = [record(attempt(), ttft=0.1, tokens_per_second=100.0) for _ in range(8)]
    failed = record(attempt(outcome="failed"), status=502, outcome="failed", ttft=60.0)
    row = usage(slow, *fast, failed).total().columns()
    assert row["ttft_p50"] == pytest.approx(0.1, rel=0.03)
    assert row["ttft_p95"] == pytest.approx(2.0, rel=0.03)
    assert row["tokens_per_second_p50"] == pytest.approx(100.0, rel=0.03)


def test_estimated_tokens_are_told_apart() -> None:
    counted = attempt(prompt_tokens=5, completion_tokens=5)
    guessed = attempt(prompt_tokens=3, completion_tokens=4, estimated=True)
    row = usage(record(counted), record(guessed)).total().columns()
    assert (row["prompt_tokens"], row["completion_tokens"], row["estimated_tokens"]) == (8, 9, 7)


# ---------------------------------------------------------------------------------------------- in and out
def test_csv_has_a_header_and_no_formulas() -> None:
    made = usage(record(model='=HYPERLINK("x")'), record(model='a,"b"', cache="HIT"), by="model")
    text = table(made.rows())
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert sorted(row["model"] for row in rows) == ['\'=HYPERLINK("x")', 'a,"b"']
    assert {row["requests"] for row in rows} == {"1"}
    assert text.endswith("\r\n")
    assert table([]) == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("7d", NOW - 7 * 86_400),
        ("2w", NOW - 14 * 86_400),
        ("24h", NOW - 86_400),
        ("30m", NOW - 1800),
        ("15s", NOW - 15),
        ("2023-11-14", 1_699_920_000.0),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14T22:13:20", NOW),
        ("1700000000.5", NOW + 0.5),
    ],
)
def test_a_moment_is_so_long_ago_or_a_date_or_a_number(text: str, wanted: float) -> None:
    assert moment(text, NOW, "since") == wanted


@pytest.mark.parametrize("text", ["", "7y", "nan", "inf", "-5", "1e12", "99999999999w", "2023-13-01", "0001-01-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        moment(text, NOW, "until")
    assert refused.value.param == "until"


def test_the_longest_time_ago_is_before_everything() -> None:
    assert -inf < moment("999999999w", NOW, "since") < 0


def test_sums_merge_every_column() -> None:
    one = Sums(*range(1, 16))
    one.merge(Sums(*range(1, 16)))
    assert [getattr(one, name) for name in Sums.__struct_fields__[:15]] == [2 * number for number in range(1, 16)]
