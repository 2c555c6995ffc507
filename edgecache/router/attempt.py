"""One request to one upstream: sent, read until it is safe to hand on, booked when it is over, whatever ended it."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from edgecache.clock import Clock
from edgecache.errors import (
    EdgeCacheError,
    ResidencyRefused,
    UpstreamDied,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from edgecache.router.admission import Admission
from edgecache.router.affinity import Affinity
from edgecache.router.afterwards import Afterwards
from edgecache.router.cost import cost
from edgecache.router.counts import Counts
from edgecache.router.errand import Errand
from edgecache.router.health import Health
from edgecache.router.ledger import Ledger
from edgecache.router.lessons import Lessons
from edgecache.router.picking import Pick
from edgecache.router.pool import Pool
from edgecache.router.reader import Reader
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Attempt, Tier
from edgecache.upstream.answer import Chunk, UpstreamAnswer
from edgecache.upstream.meter import Usage
from edgecache.upstream.sending import Sending
from edgecache.wire.openai import reports_error

_OVERLOADED = frozenset({429, 503, 529})
_OF_ITS_OWN = frozenset({401, 403, 404, 451})
"""What a neighbour POP says of itself (a tenant or model it does not know, where it stands): others may serve it."""
_FREE = frozenset({"unreachable", "overloaded", "status", "null", "empty", "residency"})
"""Failures that cost no tokens, as far as upstreams bill."""
_BLAMELESS = frozenset({"deadline", "residency"})
"""Failures that are not the upstream's."""
_OUTCOMES = {"timeout": "timeout", "deadline": "timeout", "cut": "cut", "overloaded": "overloaded"}
_SHORT = 64
"""Bytes of an answer that may be no answer at all, such as `null`."""


class Failure(NamedTuple):
    """Why an answer cannot be handed on.

    `kind` is `unreachable`, `timeout`, `deadline` (the request's own), `cut`, `status` (5xx; of a neighbour POP
    also what it says of itself), `null`, `empty` (404 of a Dynamo without workers), `overloaded`, `failed` (anything
    else) or `residency`. `excused`: it says nothing about the upstream's health.
    """

    kind: str
    error: EdgeCacheError
    retry_after: float | None = None
    excused: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """Those who have to hear of every attempt."""

    pool: Pool
    reader: Reader
    ledger: Ledger
    health: Health
    affinity: Affinity
    admission: Admission
    counts: Counts
    lessons: Lessons
    afterwards: Afterwards
    metrics: Metrics
    clock: Clock


class Running:
    """An attempt from the moment its place is taken. It owns the place, the record and the connection.

    After `start` it has either `failure` or an answer: `body` where it came whole, else `head`, the first chunks of
    `stream`, and nothing has been handed on yet. `ended` says that the stream has no more.
    """

    def __init__(
        self, desk: Desk, errand: Errand, pick: Pick, *, hedge: bool = False, written: str = "", written_tokens: int = 0
    ) -> None:
        """Args: `written` as in `Sending`. The place in `pick` is this attempt's from now on."""
        upstream = pick.client.settings
        self.pick = pick
        self.name = upstream.name
        self.answer: UpstreamAnswer | None = None
        self.head: list[Chunk] = []
        self.stream: AsyncIterator[Chunk] | None = None
        self.body: bytes | None = None
        self.failure: Failure | None = None
        self.ended = False
        self.over = False
        self._desk = desk
        self._errand = errand
        self._written = written
        self._written_tokens = written_tokens
        self._prompt = errand.demand.prompt_tokens + written_tokens
        self._price = pick.offers.facts[pick.offers.row[upstream.name]].price
        self._sent = self._first = desk.clock.monotonic()
        self._out = self._safe = False
        self._outcome = ""
        self._usage: Usage | None = None
        self.record = Attempt(
            upstream.name, upstream.tier.value, upstream.region, pick.leg.model, price=self._price.version, hedge=hedge
        )
        errand.slot = None
        errand.runs.append(self)
        desk.ledger.begin(errand.account, self.record)

    @property
    def usage(self) -> Usage:
        """The tokens that it took so far."""
        if self._usage is not None:  # it is over
            return self._usage
        if not self._out or (self.failure is not None and self.failure.kind in _FREE):
            return Usage(0, 0, 0, estimated=False)
        if self.answer is None:
            return Usage(self._prompt, 0, 0, estimated=True)
        return self.answer.meter.usage(self._prompt)

    async def start(self) -> None:
        """Send, and return when the answer is safe to hand on or has failed; raises no `EdgeCacheError`.

        A stream is safe once something generated has come: errors before that are found while another upstream can
        still be asked. Anything else is read to its end.
        """
        limit, last = self._limit()
        if limit == 0.0:
            self._time_out(0.0, last=last)
            return
        if not self._allowed():
            self._desk.metrics.residency_violations.inc()
            self._fail("residency", ResidencyRefused(f"{self.name} stands where these prompts must not go."))
            return
        self._out = True
        try:
            async with asyncio.timeout(limit):
                answer = self.answer = await self.pick.client.open(self._errand.call, self._sending(limit))
                if answer.streaming and answer.status < 300:
                    await self._begin(answer)
                else:
                    self.body = await answer.read()
                    self._judge(answer, self.body)
        except TimeoutError:
            self._time_out(limit or 0.0, last=last)
        except UpstreamError as error:
            self._fail(_kind(error), error)
        finally:
            if not self._safe:
                await self.aclose()

    def taken(self) -> None:
        """It is handed on: what came whole is over. Of two that came whole at once, the other was not taken."""
        if self._outcome:
            self.end(self._outcome)

    def end(self, outcome: str) -> None:
        """Book the attempt as `outcome` (see `types.Attempt`), once: all that follows from its end happens here."""
        if self.over:
            return
        self.over = True
        desk, record = self._desk, self.record
        self._usage = usage = self.usage
        if outcome == "rejected":
            usage = Usage(0, 0, 0, estimated=False)
        self.pick.slot.leave(usage.prompt + usage.completion)
        record.outcome, record.seconds = outcome, desk.clock.monotonic() - self._sent
        record.prompt_tokens, record.completion_tokens, record.cached_tokens, record.estimated = usage
        record.cost = cost(self._price, usage.prompt, usage.completion, usage.cached)
        desk.ledger.end(self._errand.account, record)
        self._report(outcome)
        desk.admission.released()
        desk.afterwards.do(self._booked)

    def died(self, error: UpstreamError, *, deadline: bool = False) -> None:
        """The stream broke off after its first token."""
        self._fail("deadline" if deadline else "cut", error)

    async def aclose(self) -> None:
        """Give the answer up, if it has not been read to its end; the connection is closed at once."""
        if not self.over:
            finished = self.answer is not None and self.answer.meter.finished
            self.end("ok" if self._safe and finished else "cancelled")
        if self.answer is not None:
            await self.answer.aclose()

    def _limit(self) -> tuple[float | None, bool]:
        """Seconds until the answer has to be safe, None = for ever; and whether that is the request's deadline."""
        left = self._errand.left(self._sent)
        patience = self._errand.level.first_token_timeout if self._errand.call.stream else math.inf
        limit = min(left, patience)
        return (None if limit == math.inf else max(0.0, limit)), left <= patience

    def _allowed(self) -> bool:
        """The last look before a prompt leaves: at the client that sends it, whatever the choice was made from."""
        place = self.pick.client.settings.jurisdiction
        wished, allowed = self._errand.demand.residency, self._errand.call.tenant.terms.residency
        return (not wished or place in wished) and (not allowed or place in allowed)

    def _sending(self, limit: float | None) -> Sending:
        errand, level = self._errand, self._errand.level
        left = errand.left(self._sent)
        model = self.pick.leg.model
        return Sending(
            model="" if model == errand.call.model else model,
            service=errand.demand.service,
            written=self._written,
            written_tokens=self._written_tokens,
            connect_timeout=level.connect_timeout,
            idle_timeout=level.inter_token_timeout if errand.call.stream else 0.0,
            due=None if left == math.inf else left,
            hops=errand.demand.hops + 1,
            patience=limit or 0.0,
        )

    async def _begin(self, answer: UpstreamAnswer) -> None:
        self.stream = answer.chunks()
        async for chunk in self.stream:
            self.head.append(chunk)
            if answer.meter.begun and not (b"error" in chunk.visible and reports_error(chunk.events[-1])):
                break
        else:
            self.ended = True
        self._safe = True
        self._first = self._desk.clock.monotonic()
        self.record.ttft = self._first - self._sent
        self.pick.slot.answered()
        self._desk.afterwards.do(self._begun)
        if self.ended:
            self._outcome = "ok"

    def _judge(self, answer: UpstreamAnswer, body: bytes) -> None:
        status = answer.status
        text = body.strip() if len(body) < _SHORT else body
        if status in _OVERLOADED:
            waits = _seconds(answer.headers.get("retry-after"))
            self._fail("overloaded", UpstreamError(f"{self.name} is overloaded ({status})"), waits)
        elif status in _OF_ITS_OWN and self.pick.client.settings.tier is Tier.PEER:
            self._fail("status", UpstreamError(f"{self.name} answered {status}"), excused=True)
        elif status >= 500:
            self._fail("status", UpstreamError(f"{self.name} answered {status}"))
        elif status == 404 and not text:
            self._fail("empty", UpstreamError(f"{self.name} has nobody to serve the model"))
        elif status < 300 and text in {b"", b"null"}:
            self._fail("null", UpstreamError(f"{self.name} answered with nothing"))
        else:
            self._safe = self.ended = True
            self._outcome = "rejected" if status >= 400 else "ok"

    def _time_out(self, limit: float, *, last: bool) -> None:
        error = UpstreamTimeout(f"{self.name} did not answer within {limit:.3g} s")
        self._fail("deadline" if last else "timeout", error)

    def _fail(
        self, kind: str, error: EdgeCacheError, retry_after: float | None = None, *, excused: bool = False
    ) -> None:
        self.failure = Failure(kind, error, retry_after, excused or kind in _BLAMELESS)
        self._errand.failed(self.name, self.pick.leg.model)
        self.end("rejected" if excused else _OUTCOMES.get(kind, "failed"))

    def _report(self, outcome: str) -> None:
        """Tell `health` what the upstream is good for; nothing, where others ended the attempt."""
        health, failure = self._desk.health, self.failure
        if failure is not None and failure.kind == "overloaded":
            health.overloaded(self.name, failure.retry_after)
        elif failure is not None and not failure.excused:
            health.failed(self.name, failure.kind)
        elif failure is None and outcome in {"ok", "rejected"}:
            health.ok(self.name)

    def _begun(self) -> None:
        """What follows from the first token of a stream."""
        desk = self._desk
        desk.counts.first_token(self.record, self.pick.choice.ttft[0])
        desk.affinity.note(self._errand.demand, self.name, self._first)
        desk.lessons.first(self.pick, self._prompt, self.record.ttft)

    def _booked(self) -> None:
        """What follows from the end, and can wait: predictions and estimates learn from what ended well or too late."""
        desk, errand, record = self._desk, self._errand, self.record
        desk.counts.ended(record, errand.call.purpose)
        if record.outcome in {"hedge_lost", "timeout"} and not self._safe:
            desk.lessons.late(self.pick, self._prompt, record.seconds, stream=errand.call.stream)
        if record.outcome != "ok":
            return
        if self.stream is None:
            desk.affinity.note(errand.demand, self.name, desk.clock.monotonic())
            desk.lessons.whole(self.pick, self._prompt, record.completion_tokens, record.seconds)
        elif (seconds := record.seconds - record.ttft) > 0 and record.completion_tokens > 1:
            desk.counts.rate(record, (record.completion_tokens - 1) / seconds)
            desk.lessons.rest(self.pick, record.completion_tokens - 1, seconds)
        if not record.estimated and not self._written:
            desk.reader.learn(errand.call, errand.demand, record.prompt_tokens, record.completion_tokens)


def _kind(error: UpstreamError) -> str:
    if isinstance(error, UpstreamUnreachable):
        return "unreachable"
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    return "cut" if isinstance(error, UpstreamDied) else "failed"


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; None where there is none, or a date."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None
