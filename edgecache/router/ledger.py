"""The books of what requests cost: attempts as they are made, and one record a request once all of them are over.

A client's request has its account from the HTTP layer, which closes it with what it knows; an attempt may outlive that,
since others listen to the same answer. Background work has its account from `open`. Whoever may still make attempts for
an account, such as a dispatch between two of them, holds it. Nothing that was spent goes unrecorded: attempts that are
made after the record was written get one of their own, with the outcome `late`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from edgecache.clock import Clock
from edgecache.errors import NotFound
from edgecache.router.usage import answering, stored
from edgecache.store.ledger import LedgerStore, Page
from edgecache.store.records import Record, key_of
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Account, Attempt, Call, Purpose

__all__ = ["Ledger", "Rate", "Record", "Tokenomics"]

_CLIENT_CLOSED = 499
_REFUSALS = frozenset({403, 429, 451, 503})
_SERVED = frozenset({"ok", "client_gone", "stream_cut"})
"""Outcomes of requests that got an answer, or the beginning of one."""
_FRESH: Final = 10.0
"""Seconds that a price is believed."""
_MODELS: Final = 200
"""Models with a metric label and a remembered price of their own."""

Rate = Callable[[str], tuple[float, float]]
"""USD for a prompt token and for a generated one of a model, where it would usually be sent; zeros = not known."""
T = TypeVar("T")


class _Work(Account, kw_only=True):
    """The account of background work. `late`: it has its record already."""

    record: Record
    late: bool = False


class Ledger:
    """The books of one daemon. To be used on its event loop."""

    def __init__(self, store: LedgerStore | None, *, clock: Clock, metrics: Metrics, rate: Rate) -> None:
        """Without a `store` (`router.ledger.enabled = false`) only the metrics are kept."""
        self.tokenomics = Tokenomics(metrics)
        self._store = store
        self._clock = clock
        self._rate = rate
        self._rates: dict[str, tuple[float, tuple[float, float]]] = {}
        self._closed: dict[int, tuple[Account, Record]] = {}
        self._running: dict[int, tuple[Account, Attempt]] = {}

    # ------------------------------------------------------------------------------------------ accounts
    def open(self, call: Call) -> Account:
        """An account for work that no client waits for: its record is written when its last attempt has ended."""
        record = Record(
            self._clock.now(), call.request_id, call.tenant.id, call.tenant.writer, call.endpoint.value, call.model
        )
        return _Work(open=0, purpose=call.purpose, record=record)

    def begin(self, account: Account, attempt: Attempt) -> None:
        """`attempt` is being made for `account`."""
        account.attempts.append(attempt)
        account.open += 1
        self._running[id(attempt)] = account, attempt

    def end(self, account: Account, attempt: Attempt) -> None:
        """`attempt` is over, and says all that it took. A second call does nothing."""
        if self._running.pop(id(attempt), None) is not None:
            self.release(account)

    def hold(self, account: Account) -> None:
        """Further attempts may be made for `account` until `release`: its record waits."""
        account.open += 1

    def release(self, account: Account) -> None:
        """No more attempts will be made by one who held `account`."""
        account.open -= 1
        if account.open <= 0:
            self._settle(account)

    def close(self, account: Account | None, record: Record) -> None:
        """A client's request is over; once for each. None = nothing was ever sent upstream for it.

        `record` becomes the ledger's. It needs what the HTTP layer knows: who asked for what and when, `cache`,
        `status`, `collapsed`, times, and the tokens of an answer that was stored or shared. The rest is added here;
        an `outcome` only where there is none.
        """
        if account is None:
            self._write(record, [])
            return
        self._closed[id(account)] = account, record
        self.release(account)

    def _settle(self, account: Account) -> None:
        """Nobody adds to `account` any more, as far as is known."""
        attempts, account.attempts = account.attempts, []
        _, record = self._closed.pop(id(account), (None, None))
        if record is None:
            if not attempts:
                return
            record = self._background(account)
        record.service = account.service or record.service
        record.purpose = account.purpose.value
        self._write(record, attempts)

    def _background(self, account: Account) -> Record:
        now = self._clock.now()
        if not isinstance(account, _Work):
            return Record(now, "", "", outcome="late")
        late, account.late = account.late, True
        outcome = "late" if late else ""
        return msgspec.structs.replace(account.record, outcome=outcome, seconds=max(now - account.record.at, 0.0))

    def _write(self, record: Record, attempts: list[Attempt]) -> None:
        record.attempts = attempts
        record.cost = sum([attempt.cost for attempt in attempts])
        record.outcome = record.outcome or _outcome(record)
        if (answer := answering(record)) is not None:
            _answered(record, answer)
        elif record.outcome in _SERVED and (record.collapsed or stored(record)):
            self._avoided(record)
        self.tokenomics.add(record, answer)
        if self._store is not None:
            self._store.add(record)

    def _avoided(self, record: Record) -> None:
        """What was served without an upstream for this request, and what it would have cost."""
        record.avoided_prompt_tokens = record.prompt_tokens
        record.avoided_completion_tokens = record.completion_tokens
        asked, rate = self._rates.get(record.model, (float("-inf"), (0.0, 0.0)))
        now = self._clock.monotonic()
        if now - asked > _FRESH:
            if len(self._rates) >= _MODELS:
                self._rates.clear()
            rate = self._rate(record.model)
            self._rates[record.model] = now, rate
        record.avoided_cost = record.prompt_tokens * rate[0] + record.completion_tokens * rate[1]

    # ------------------------------------------------------------------------------------------ reading
    async def flush(self) -> None:
        """Until all records so far are on disk, or counted as lost."""
        if self._store is not None:
            await asyncio.to_thread(self._store.flush)

    async def scan(self, since: float, until: float, work: Callable[[Page], T]) -> AsyncGenerator[T, None]:
        """What `work` makes of the records that came from `since` to `until` (Unix s), page after page, in a thread.

        Raises NotFound where no ledger is kept, and StoreError.
        """
        if (store := self._store) is None:
            raise NotFound("No ledger is kept at this POP (`router.ledger.enabled`).", code="ledger_off")
        await self.flush()
        place: bytes | None = key_of(since, 0)

        def step(at: bytes) -> tuple[T, bytes | None]:
            page = store.page(at, until)
            return work(page), page.next

        while place is not None:
            made, place = await asyncio.to_thread(step, place)
            yield made

    async def spent(self, since: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """As `LedgerStore.spent`: what each holder has spent since each of these times, to restore budgets."""
        if self._store is None:
            return {name: {} for name in since}
        return await asyncio.to_thread(self._store.spent, since)

    async def stop(self) -> None:
        """Record what is still open as it is now, and close the file. Nothing may be booked afterwards."""
        left = [account for account, _ in (*self._closed.values(), *self._running.values())]
        self._running.clear()
        for account in left:
            for attempt in account.attempts:
                attempt.outcome = attempt.outcome or "cancelled"
            account.open = 0
            self._settle(account)
        if self._store is not None:
            await asyncio.to_thread(self._store.close)


class Tokenomics:
    """Cost by tokens served, since the start: with this POP, and as if clients had gone upstream themselves.

    Without it, every client would have paid for its own answer once: for those that were stored or shared too, but
    for no hedge, failover, sample or renewal.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.cost = 0.0
        self.direct = 0.0
        self.avoided = 0.0
        self.tokens = 0
        self._counter = metrics.cost_avoided
        self._children: dict[str, Any] = {}
        metrics.cost_per_million.labels("with").set_function(lambda: self._by_million(self.cost))
        metrics.cost_per_million.labels("without").set_function(lambda: self._by_million(self.direct + self.avoided))

    def add(self, record: Record, answer: Attempt | None) -> None:
        """Count one record and the attempt that answered it."""
        self.cost += record.cost
        if record.purpose == Purpose.CLIENT:
            self.tokens += record.prompt_tokens + record.completion_tokens
            self.direct += answer.cost if answer is not None else 0.0
        if record.avoided_cost:
            self.avoided += record.avoided_cost
            self._child(record.model).inc(record.avoided_cost)

    def _by_million(self, cost: float) -> float:
        return cost / self.tokens * 1e6 if self.tokens else 0.0

    def _child(self, model: str) -> Any:
        name = model if model in self._children or len(self._children) < _MODELS else "other"
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = self._counter.labels(name)
        return child


def _answered(record: Record, answer: Attempt) -> None:
    """Add to `record` what the attempt says that it was answered by."""
    record.tier, record.upstream, record.answered = answer.tier, answer.upstream, answer.model
    record.price = answer.price
    if record.purpose != Purpose.CLIENT:
        record.status, record.ttft = 200 if answer.outcome == "ok" else 502, answer.ttft
        record.outcome = record.outcome if record.outcome == "late" else "ok" if answer.outcome == "ok" else "failed"
    elif record.outcome in _SERVED and not (record.outcome == "client_gone" and answer.outcome == "ok"):
        # Who left an answer that went on for others did not get all of it.
        begun = [each for each in record.attempts if each.outcome == "cut" and each.ttft and each is not answer]
        first = (*begun, answer)[0]  # the prompt of one that goes on has what was written before
        record.prompt_tokens, record.cached_tokens = first.prompt_tokens, first.cached_tokens
        record.completion_tokens = sum(each.completion_tokens for each in (*begun, answer))
        record.estimated = any(each.estimated for each in (*begun, answer))
    if answer.completion_tokens > 1 and answer.seconds > answer.ttft > 0:
        record.tokens_per_second = (answer.completion_tokens - 1) / (answer.seconds - answer.ttft)


def _outcome(record: Record) -> str:
    """What a status amounts to. A 429 or 503 of an upstream's is not a refusal of this POP's."""
    status = record.status
    if status == _CLIENT_CLOSED:
        return "client_gone"
    if status in _REFUSALS and not record.attempts:
        return "refused"
    if status >= 500:
        return "failed"
    return "rejected" if status >= 400 else "ok"
