import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache import config
from edgecache.clock import ManualClock
from edgecache.errors import NotFound, StoreError
from edgecache.router.ledger import Ledger, Record
from edgecache.store.ledger import LedgerStore
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Account, Attempt, Call, Endpoint, Purpose, Tenant

PRICE = (1e-6, 2e-6)


class Kept:
    """A ledger and what it has written."""

    def __init__(self, folder: Path | None, rate: Callable[[str], tuple[float, float]] | None = None) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.asked: list[str] = []
        store = None
        if folder is not None:
            store = LedgerStore(folder, config.Ledger(), clock=self.clock, metrics=self.metrics, sync=False)
        self.ledger = Ledger(store, clock=self.clock, metrics=self.metrics, rate=rate or self.rate)

    def rate(self, model: str) -> tuple[float, float]:
        self.asked.append(model)
        return PRICE

    async def records(self, since: float = 0.0, until: float = float("inf")) -> list[Record]:
        return [each async for page in self.ledger.scan(since, until, lambda page: page.records) for each in page]

    async def only(self) -> Record:
        (found,) = await self.records()
        return found

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value("edgecache_" + name, labels) or 0.0


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    made = Kept(tmp_path / "ledger")
    yield made
    await made.ledger.stop()


def call(purpose: Purpose = Purpose.RENEW) -> Call:
    return Call("r1", Tenant("acme", writer="k1"), Endpoint.CHAT, "m", {}, b"{}", purpose=purpose)


def started(kept: Kept, account: Account, upstream: str = "core", **fields: Any) -> Attempt:
    made = Attempt(upstream, upstream, "eu", "big", price="2026-01", **fields)
    kept.ledger.begin(account, made)
    return made


def ended(kept: Kept, account: Account, attempt: Attempt, outcome: str = "ok", **fields: Any) -> None:
    for name, value in ({"outcome": outcome} | fields).items():
        setattr(attempt, name, value)
    kept.ledger.end(account, attempt)


def asked(kept: Kept, **fields: Any) -> Record:
    given = {"endpoint": "chat.completions", "model": "m", "cache": "MISS", "status": 200, "seconds": 1.0} | fields
    return Record(kept.clock.now(), "r1", "acme", "k1", **given)


TOOK = {"prompt_tokens": 100, "completion_tokens": 21, "cached_tokens": 30, "cost": 0.5, "ttft": 0.5, "seconds": 1.5}


# ---------------------------------------------------------------------------------------------- client requests
async def test_a_request_is_written_with_what_its_attempt_took(kept: Kept) -> None:
    account = Account(service="interactive")
    ended(kept, account, started(kept, account), **TOOK, estimated=True)
    assert await kept.records() == []
    kept.ledger.close(account, asked(kept, ttft=0.6))
    found = await kept.only()
    assert (found.request_id, found.tenant, found.key, found.model) == ("r1", "acme", "k1", "m")
    assert (found.service, found.purpose, found.outcome) == ("interactive", "client", "ok")
    assert (found.tier, found.upstream, found.answered, found.price) == ("core", "core", "big", "2026-01")
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens, found.estimated) == (100, 21, 30, True)
    assert (found.cost, found.avoided_cost, found.ttft, found.seconds) == (0.5, 0.0, 0.6, 1.0)
    assert found.tokens_per_second == 20.0
    assert [each.upstream for each in found.attempts] == ["core"]


async def test_the_cost_is_that_of_all_attempts_and_the_tokens_are_those_served(kept: Kept) -> None:
    account = Account()
    first = started(kept, account, "down")
    ended(kept, account, first, "failed", prompt_tokens=100, cost=0.25)
    slow, hedge = started(kept, account, "slow"), started(kept, account, "fast", hedge=True)
    ended(kept, account, hedge, **TOOK)
    ended(kept, account, slow, "hedge_lost", prompt_tokens=100, cost=0.125)
    kept.ledger.close(account, asked(kept))
    found = await kept.only()
    assert (found.upstream, found.prompt_tokens, found.completion_tokens, found.cost) == ("fast", 100, 21, 0.875)
    assert [each.outcome for each in found.attempts] == ["failed", "hedge_lost", "ok"]


async def test_a_continued_stream_has_the_first_prompt_and_all_that_was_generated(kept: Kept) -> None:
    account = Account()
    ended(kept, account, started(kept, account, "one"), "cut", prompt_tokens=10, completion_tokens=5, ttft=0.1)
    ended(kept, account, started(kept, account, "two"), prompt_tokens=15, completion_tokens=7, estimated=True)
    kept.ledger.close(account, asked(kept))
    found = await kept.only()
    assert (found.upstream, found.prompt_tokens, found.completion_tokens, found.estimated) == ("two", 10, 12, True)


async def test_the_record_waits_for_an_attempt_that_outlives_the_client(kept: Kept) -> None:
    account = Account()
    attempt = started(kept, account)
    kept.ledger.close(account, asked(kept, status=499))
    assert await kept.records() == []
    ended(kept, account, attempt, **TOOK)
    found = await kept.only()
    assert (found.outcome, found.cost, found.upstream) == ("client_gone", 0.5, "core")
    assert (found.prompt_tokens, found.completion_tokens) == (0, 0)  # others got it


async def test_who_leaves_alone_was_served_what_had_come_by_then(kept: Kept) -> None:
    account = Account()
    ended(kept, account, started(kept, account), "cancelled", **TOOK)
    kept.ledger.close(account, asked(kept, status=499))
    found = await kept.only()
    assert (found.outcome, found.prompt_tokens, found.completion_tokens) == ("client_gone", 100, 21)


async def test_the_record_waits_while_somebody_may_still_make_attempts(kept: Kept) -> None:
    account = Account()
    with held(kept.ledger, account):
        kept.ledger.close(account, asked(kept, status=499))
        ended(kept, account, started(kept, account), "failed", cost=0.25)
        assert await kept.records() == []
        last = started(kept, account)
    assert await kept.records() == []
    ended(kept, account, last, **TOOK)
    assert (await kept.only()).cost == 0.75


async def test_an_attempt_after_the_record_is_not_lost(kept: Kept) -> None:
    account = Account()
    kept.ledger.close(account, asked(kept, status=499))
    ended(kept, account, started(kept, account), cost=0.5, prompt_tokens=7)
    first, late = await kept.records()
    assert (first.outcome, first.cost, first.attempts) == ("client_gone", 0.0, [])
    assert (late.outcome, late.cost, late.attempts[0].prompt_tokens) == ("late", 0.5, 7)


async def test_an_attempt_that_ends_twice_ends_once(kept: Kept) -> None:
    account = Account()
    one, other = started(kept, account), started(kept, account)
    for _ in range(3):
        ended(kept, account, one, "hedge_lost")
    kept.ledger.close(account, asked(kept))
    assert await kept.records() == []
    ended(kept, account, other)
    assert len((await kept.only()).attempts) == 2


@pytest.mark.parametrize(
    ("status", "attempts", "outcome"),
    [
        (200, 1, "ok"),
        (499, 0, "client_gone"),
        (400, 0, "rejected"),
        (404, 1, "rejected"),
        (429, 0, "refused"),
        (451, 0, "refused"),
        (503, 0, "refused"),
        (429, 1, "rejected"),
        (503, 1, "failed"),
        (502, 0, "failed"),
        (504, 1, "failed"),
    ],
)
async def test_the_outcome_follows_from_the_status_and_whether_anybody_was_asked(
    kept: Kept, status: int, attempts: int, outcome: str
) -> None:
    account = Account()
    for _ in range(attempts):
        ended(kept, account, started(kept, account), "ok" if status == 200 else "failed", prompt_tokens=9)
    kept.ledger.close(account, asked(kept, status=status))
    found = await kept.only()
    assert (found.outcome, found.prompt_tokens) == (outcome, 9 if status == 200 else 0)


async def test_an_outcome_that_is_known_stays(kept: Kept) -> None:
    account = Account()
    ended(kept, account, started(kept, account), "cut", **TOOK)
    kept.ledger.close(account, asked(kept, outcome="stream_cut"))
    found = await kept.only()
    assert (found.outcome, found.completion_tokens) == ("stream_cut", 21)


# ---------------------------------------------------------------------------------------------- what was avoided
@pytest.mark.parametrize(
    "fields", [{"cache": "HIT"}, {"cache": "SEMANTIC_HIT"}, {"cache": "STALE"}, {"collapsed": True}]
)
async def test_a_stored_or_shared_answer_is_worth_what_it_would_have_cost(kept: Kept, fields: dict[str, Any]) -> None:
    kept.ledger.close(None, asked(kept, prompt_tokens=1000, completion_tokens=500, **fields))
    found = await kept.only()
    assert (found.avoided_prompt_tokens, found.avoided_completion_tokens, found.cost) == (1000, 500, 0.0)
    assert found.avoided_cost == pytest.approx(0.002)
    assert kept.sample("cost_avoided_usd_total", model="m") == pytest.approx(0.002)


@pytest.mark.parametrize("fields", [{"cache": "BYPASS"}, {"cache": "MISS"}, {"cache": "HIT", "status": 502}])
async def test_nothing_is_avoided_where_nothing_was_served_from_here(kept: Kept, fields: dict[str, Any]) -> None:
    kept.ledger.close(None, asked(kept, prompt_tokens=1000, completion_tokens=500, **fields))
    found = await kept.only()
    assert (found.avoided_prompt_tokens, found.avoided_cost, kept.asked) == (0, 0.0, [])


async def test_a_price_is_asked_for_once_in_a_while(kept: Kept) -> None:
    for _ in range(3):
        kept.ledger.close(None, asked(kept, cache="HIT", prompt_tokens=1))
    assert kept.asked == ["m"]
    kept.clock.advance(11)
    kept.ledger.close(None, asked(kept, cache="HIT", prompt_tokens=1))
    assert kept.asked == ["m", "m"]


async def test_the_labels_of_avoided_cost_are_bounded(kept: Kept) -> None:
    for number in range(300):
        kept.ledger.close(None, asked(kept, cache="HIT", prompt_tokens=10**6, model=f"m{number}"))
    assert kept.sample("cost_avoided_usd_total", model="m199") == pytest.approx(1.0)
    assert kept.sample("cost_avoided_usd_total", model="m200") == 0
    assert kept.sample("cost_avoided_usd_total", model="other") == pytest.approx(100.0)


async def test_the_cost_of_a_million_tokens_is_told_with_and_without_this_pop(kept: Kept) -> None:
    assert kept.sample("cost_per_million_tokens_usd", pop="with") == 0
    account = Account()
    ended(kept, account, started(kept, account), "hedge_lost", cost=0.0005)
    ended(kept, account, started(kept, account), prompt_tokens=1000, completion_tokens=500, cost=0.002)
    kept.ledger.close(account, asked(kept))
    kept.ledger.close(None, asked(kept, cache="HIT", prompt_tokens=1000, completion_tokens=500))
    renewal = kept.ledger.open(call())
    ended(kept, renewal, started(kept, renewal), prompt_tokens=9999, cost=0.0005)
    assert kept.sample("cost_per_million_tokens_usd", pop="with") == pytest.approx(0.003 / 3000 * 1e6)
    assert kept.sample("cost_per_million_tokens_usd", pop="without") == pytest.approx(0.004 / 3000 * 1e6)


# ---------------------------------------------------------------------------------------------- background work
async def test_background_work_is_written_when_its_attempts_have_ended(kept: Kept) -> None:
    account = kept.ledger.open(call())
    account.service = "batch"
    one, other = started(kept, account, "one"), started(kept, account, "two")
    kept.clock.advance(2)
    ended(kept, account, one, "hedge_lost", cost=0.25)
    assert await kept.records() == []
    ended(kept, account, other, **TOOK)
    found = await kept.only()
    assert (found.request_id, found.tenant, found.key, found.endpoint) == ("r1", "acme", "k1", "chat.completions")
    assert (found.purpose, found.service, found.cache) == ("renew", "batch", "")
    assert (found.status, found.outcome, found.upstream, found.ttft) == (200, "ok", "two", 0.5)
    assert (found.cost, found.seconds, found.prompt_tokens) == (0.75, 2.0, 0)


async def test_background_work_that_failed_over_has_one_record_where_the_dispatch_holds_it(kept: Kept) -> None:
    account = kept.ledger.open(call())
    with held(kept.ledger, account):
        ended(kept, account, started(kept, account), "failed")
        ended(kept, account, started(kept, account), "timeout", cost=0.5)
    found = await kept.only()
    assert (found.status, found.outcome, len(found.attempts), found.cost) == (502, "failed", 2, 0.5)


async def test_background_work_that_nobody_held_has_each_attempt_once(kept: Kept) -> None:
    account = kept.ledger.open(call())
    ended(kept, account, started(kept, account), "failed", cost=0.25)
    ended(kept, account, started(kept, account), cost=0.5)
    first, late = await kept.records()
    assert [(each.outcome, each.cost, each.tenant) for each in (first, late)] == [
        ("failed", 0.25, "acme"), ("late", 0.5, "acme"),
    ]  # fmt: skip


async def test_background_work_that_nobody_took_leaves_nothing(kept: Kept) -> None:
    account = kept.ledger.open(call())
    with held(kept.ledger, account):
        pass
    assert await kept.records() == []


@contextmanager
def held(ledger: Ledger, account: Account) -> Iterator[None]:
    """Further attempts may be made while the block runs."""
    ledger.hold(account)
    try:
        yield
    finally:
        ledger.release(account)


# ---------------------------------------------------------------------------------------------- whatever happens
STEPS = st.lists(st.tuples(st.sampled_from(["begin", "end", "hold", "free", "close"]), st.integers(0, 3)), max_size=30)


@given(STEPS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_attempt_is_lost_or_written_twice_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], background: bool
) -> None:
    async def run() -> None:
        kept = Kept(tmp_path_factory.mktemp("ledger"))
        account = kept.ledger.open(call()) if background else Account()
        running: list[Attempt] = []
        holds, made, closed = 0, 0, background
        for step, number in steps:
            if step == "begin":
                running.append(started(kept, account, f"u{made}", cost=2.0**-made))
                made += 1
            elif step == "end" and running:
                ended(kept, account, running.pop(number % len(running)))
            elif step == "hold":
                kept.ledger.hold(account)
                holds += 1
            elif step == "free" and holds:
                kept.ledger.release(account)
                holds -= 1
            elif step == "close" and not closed:
                kept.ledger.close(account, asked(kept))
                closed = True
        for _ in range(holds):
            kept.ledger.release(account)
        while running:
            ended(kept, account, running.pop())
        if not closed:
            kept.ledger.close(account, asked(kept))
        found = await kept.records()
        assert sorted(each.upstream for one in found for each in one.attempts) == sorted(f"u{n}" for n in range(made))
        assert sum(one.cost for one in found) == pytest.approx(sum(2.0**-n for n in range(made)))
        assert sum(one.outcome != "late" for one in found) == (min(made, 1) if background else 1)
        await kept.ledger.stop()

    asyncio.run(run())


async def test_what_is_open_at_the_stop_is_written_as_it_is(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    account, background = Account(), kept.ledger.open(call())
    ended(kept, account, started(kept, account, "one"), "failed", cost=0.25)
    running = started(kept, account, "two", prompt_tokens=5)
    started(kept, background, "three")
    kept.ledger.close(account, asked(kept, status=499))
    await kept.ledger.stop()
    ended(kept, account, running)
    again = Kept(tmp_path)
    found = {one.purpose: one for one in await again.records()}
    assert [each.outcome for each in found["client"].attempts] == ["failed", "cancelled"]
    assert [each.outcome for each in found["renew"].attempts] == ["cancelled"]
    await again.ledger.stop()


async def test_spans_and_what_was_spent_can_be_read(kept: Kept) -> None:
    start = kept.clock.now()
    for _ in range(600):
        account = Account()
        ended(kept, account, started(kept, account), cost=1.0)
        kept.ledger.close(account, asked(kept))
        kept.clock.advance(1)
    assert len(await kept.records()) == 600
    assert len(await kept.records(start + 100, start + 150)) == 50
    await kept.ledger.flush()
    assert await kept.ledger.spent({"day": start}) == {"day": {"acme": 600.0, "acme/k1": 600.0}}


async def test_without_a_store_only_metrics_are_kept() -> None:
    kept = Kept(None)
    kept.ledger.close(None, asked(kept, cache="HIT", prompt_tokens=10**6))
    assert kept.sample("cost_avoided_usd_total", model="m") == pytest.approx(1.0)
    assert await kept.ledger.spent({"day": 0.0}) == {"day": {}}
    await kept.ledger.flush()
    with pytest.raises(NotFound, match="No ledger"):
        await kept.records()
    await kept.ledger.stop()


async def test_a_ledger_that_was_stopped_is_not_read(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    await kept.ledger.stop()
    with pytest.raises(StoreError, match="closed"):
        await kept.records()
