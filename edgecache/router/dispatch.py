"""Sends a miss on its way: need, choice, attempts one after the other or two at once, and the answer handed on.

Choosing is `policy`'s part, waiting `admission`'s, one attempt `attempt`'s. Nothing is retried once a byte of an answer
may have gone out; a stream that dies later can only be continued.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from functools import partial
from random import Random
from typing import Any

import msgspec

from edgecache.clock import Clock
from edgecache.config import Router, ServiceLevel
from edgecache.embed.base import Vector
from edgecache.errors import EdgeCacheError, NoUpstream, Overloaded, UpstreamError
from edgecache.router import explanation, policy, routes
from edgecache.router.admission import Admission
from edgecache.router.affinity import Affinity
from edgecache.router.afterwards import Afterwards
from edgecache.router.answer import Handing, RoutedAnswer
from edgecache.router.attempt import Desk, Failure, Running
from edgecache.router.continuation import Continuation
from edgecache.router.counts import Counts
from edgecache.router.demand import Demand
from edgecache.router.errand import Errand
from edgecache.router.health import Health
from edgecache.router.ledger import Ledger
from edgecache.router.lessons import Lessons
from edgecache.router.limits import Limits
from edgecache.router.picking import Pick, Picker, Waiting
from edgecache.router.pool import Pool
from edgecache.router.race import race
from edgecache.router.reader import Reader
from edgecache.router.retries import Hedges, Retries
from edgecache.router.routes import Leg
from edgecache.router.traffic import Traffic
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Account, Call, Purpose, Tenant, Tier
from edgecache.upstream.answer import UpstreamAnswer

_MOST = 8
"""Attempts for one request, apart from hedges and continuations."""
_LONG = 3.0
"""How many times its mean length an answer may have before it counts as late: 95 of 100 are shorter, if lengths vary
as much as an exponential distribution does."""
_LIMITED = frozenset({Purpose.CLIENT, Purpose.FUNCTION})
"""What counts towards the limits of a tenant; the rest is this POP's own doing."""
_AS_ASKED = frozenset({Purpose.SAMPLE, Purpose.JUDGE, Purpose.MIRROR})
"""What a small model's answer is of no use for: these find out about such answers."""
_GROUPS = 1024
"""Kinds of requests that the time of their answers is remembered of."""
_WHOLE = frozenset({"overloaded", "status"})
"""Failures that are an answer, which a client is given where nobody has a better one."""


class Dispatcher:
    """Gets answers from upstreams. `settings` may be replaced at any time."""

    def __init__(
        self,
        pool: Pool,
        reader: Reader,
        admission: Admission,
        ledger: Ledger,
        limits: Limits,
        health: Health,
        affinity: Affinity,
        *,
        settings: Router,
        tasks: Tasks,
        clock: Clock,
        metrics: Metrics,
        rng: Random,
    ) -> None:
        self.pool = pool
        traffic = Traffic(pool, clock)
        self._desk = Desk(
            pool,
            reader,
            ledger,
            health,
            affinity,
            admission,
            Counts(metrics),
            Lessons(pool),
            Afterwards(),
            metrics,
            clock,
        )
        self._picker = Picker(pool, traffic, affinity, settings=settings, clock=clock, metrics=metrics, rng=rng)
        self._limits = limits
        self._tasks = tasks
        self._clock = clock
        self._metrics = metrics
        self._retries = Retries(clock)
        self._hedges = Hedges()
        self._waits: OrderedDict[Hashable, float] = OrderedDict()
        self._continuation = Continuation(self._desk, self._picker, self._retries)

    @property
    def settings(self) -> Router:
        """The settings in force."""
        return self._picker.settings

    @settings.setter
    def settings(self, settings: Router) -> None:
        self._picker.settings = settings

    def settle(self) -> None:
        """Have everything learned and counted that answers so far have to say: else it is done a moment later."""
        self._desk.afterwards.settle()

    # ------------------------------------------------------------------------------------------ one request
    async def dispatch(self, call: Call, vector: Vector | None = None) -> RoutedAnswer:
        """The answer to `call`, safe to hand on; `vector` is the embedding of its last turn, where there is one.

        Raises `ModelNotFound`, `ResidencyRefused`, `BadRequest` (too long, or more than any upstream can do),
        `RateLimited` (budget), `Overloaded`, or the `UpstreamError` of the last attempt.
        """
        errand = self._opened(call, vector)
        handed = False
        try:
            run = await self._answered(errand)
            answer = self._handed_on(errand, run)
            handed = True
            return answer
        finally:
            if not handed:
                errand.close()

    def _opened(self, call: Call, vector: Vector | None) -> Errand:
        """The errand for `call`, with what it holds of limits and budgets. Raises `RateLimited`."""
        ledger, hedging = self._desk.ledger, self.settings.hedging
        errand = self._errand(call, vector, call.account if call.account is not None else ledger.open(call))
        demand, account = errand.demand, errand.account
        if call.purpose in _LIMITED:
            tokens = demand.prompt_tokens + math.ceil(demand.output_tokens)
            errand.reservation = self._limits.reserve(call.tenant, tokens)
        account.service = demand.service.value
        errand.let_go = ledger.release
        ledger.hold(account)
        self._retries.earn(hedging)
        self._hedges.earn(hedging)
        return errand

    def _errand(self, call: Call, vector: Vector | None, account: Account) -> Errand:
        """What `call` needs and may try; it holds nothing yet."""
        demand = self._desk.reader.demand(call, vector)
        if call.purpose in _LIMITED and (left := self._limits.left(call.tenant)) < math.inf:
            demand = msgspec.structs.replace(demand, budget=left)
        easy = None if call.purpose in _AS_ASKED else demand.easy
        legs = routes.legs(self.settings.route, call.model, call.tenant.id, demand.sticky, easy)
        return Errand(call, demand, self._level(demand), account, legs)

    def _level(self, demand: Demand) -> ServiceLevel:
        found: ServiceLevel = getattr(self.settings.classes, demand.service)
        return found

    def _handed_on(self, errand: Errand, run: Running) -> RoutedAnswer:
        choice, service = run.pick.choice, errand.demand.service
        if run.answer is None:
            raise NoUpstream(f"{run.name} gave no answer")
        route = ""
        if self.settings.explain:
            route = explanation.header(
                run.record,
                choice,
                service=service,
                offered=len(run.pick.offers),
                attempts=len(errand.runs),
                hedged=errand.hedged,
            )
        if run.failure is None:
            self._desk.afterwards.do(partial(self._desk.counts.routed, run.record.tier, service, choice.why))
        left = errand.left(self._clock.monotonic())
        return RoutedAnswer(errand, run, run.answer, Handing(self._tasks, self._continuation, left, route))

    # ------------------------------------------------------------------------------------------ attempts
    async def _answered(self, errand: Errand) -> Running:
        """The attempt whose answer is handed on; the last one, where all failed and its answer says something."""
        pick = await self._first(errand)
        while True:
            run = Running(self._desk, errand, pick)
            if (late := self._late(errand, pick)) is None:
                await run.start()
                run.taken()
            else:
                run = await self._raced(errand, run, late)
            failure = run.failure
            if failure is None:
                return run
            following = await self._next(errand, failure)
            if following is None:
                if failure.kind in _WHOLE:
                    return run
                raise failure.error
            pick = following

    async def _raced(self, errand: Errand, run: Running, late: float) -> Running:
        """`run`, or a hedge beside it that was sooner."""
        count = len(errand.runs)
        winner = await race(self._tasks, run, late, lambda: self._hedge(errand, run))
        if len(errand.runs) > count:
            self._metrics.hedges.labels("lost" if winner is run or winner.failure is not None else "won").inc()
        return winner

    def _late(self, errand: Errand, pick: Pick) -> float | None:
        """Seconds after which a second upstream may be asked; None = none may."""
        choice = pick.choice
        if not errand.level.hedge or not self.settings.hedging.ratio or len(choice.names) < 2:
            return None
        late = choice.late[0]
        if not errand.call.stream:  # the first byte of an answer that comes whole is as late as its last token
            late += _LONG * (choice.total[0] - choice.ttft[0])
        return late if late < errand.left(self._clock.monotonic()) else None

    def _hedge(self, errand: Errand, first: Running) -> Running | None:
        """A second attempt beside `first`, if there is somebody to ask and the budget allows it."""
        try:
            pick = self._picker.leg(errand, first.pick.leg, frozenset({first.name}))
        except EdgeCacheError:
            return None
        if isinstance(pick, Waiting):
            return None
        if not self._hedges.take(self.settings.hedging):
            errand.put_back()
            self._metrics.hedges.labels("denied").inc()
            return None
        errand.hedged = True
        return Running(self._desk, errand, pick, hedge=True)

    # ------------------------------------------------------------------------------------------ who is asked
    async def _first(self, errand: Errand) -> Pick:
        """Who is asked first, with a place there. Raises why nobody can be."""
        try:
            if self._picker.wonders(errand):
                async with asyncio.timeout(self._left(errand)):
                    await self._picker.ask(errand)
            admission = self._desk.admission
            if admission.waiting and admission.crowded(errand.demand.service, errand.group):
                seconds = self._waits.get(errand.group, 0.0)  # as the last who had to be told may expect
                return await self._wait(errand, Waiting(errand.legs[0].model, 0.0, seconds))
            found = self._picker.pick(errand)
            if isinstance(found, Pick):
                return found
            self._waits[errand.group] = found.seconds
            if len(self._waits) > _GROUPS:
                self._waits.popitem(last=False)
            return await self._wait(errand, found)
        except TimeoutError:
            self._refused("due_time_passed")
            message = "The deadline passed before anybody could be asked."
            raise Overloaded(message, code="due_time_passed", retry_after=1.0) from None
        except EdgeCacheError as error:
            self._refused(error.code or error.type)
            raise

    async def _next(self, errand: Errand, failure: Failure) -> Pick | None:
        """Who is asked after a failure, with a place there; None = nobody."""
        if failure.kind == "residency":
            raise failure.error
        left = self._left(errand)
        made = sum(not run.record.hedge for run in errand.runs)
        if failure.kind == "deadline" or left == 0 or made >= _MOST:
            return None
        found = self._another(errand, failure)
        if found is None:
            return None
        if not self._retries.take(self.settings.hedging):
            self._metrics.retries.labels("denied", failure.kind).inc()
            return None
        self._metrics.retries.labels("sent", failure.kind).inc()
        if isinstance(found, Pick):
            return found
        try:
            return await self._wait(errand, found)
        except EdgeCacheError:
            return None

    def _another(self, errand: Errand, failure: Failure) -> Pick | Waiting | None:
        """Who has not been tried; else, where the only one could not be reached, that one again.

        A kept connection that the server has closed meanwhile looks just like that.
        """
        try:
            found = self._picker.pick(errand)
        except EdgeCacheError:
            if failure.kind != "unreachable" or len(errand.runs) > 1:
                return None
            errand.tried.clear()
            try:
                found = self._picker.pick(errand)
            except EdgeCacheError:
                return None
        return None if isinstance(found, Waiting) and failure.kind == "overloaded" else found

    async def _wait(self, errand: Errand, waiting: Waiting) -> Pick:
        def take() -> Pick | None:
            found = self._picker.pick(errand)
            return found if isinstance(found, Pick) else None

        return await self._desk.admission.turn(
            errand.demand,
            errand.level,
            take,
            group=errand.group,
            wait=waiting.wait,
            seconds=waiting.seconds,
        )

    def _left(self, errand: Errand) -> float | None:
        """Seconds to the deadline, for `asyncio.timeout`."""
        left = errand.left(self._clock.monotonic())
        return None if left == math.inf else max(0.0, left)

    def _refused(self, reason: str) -> None:
        self._metrics.route_refusals.labels(reason).inc()

    # ------------------------------------------------------------------------------------------ explain
    async def explain(self, call: Call, vector: Vector | None = None) -> dict[str, Any]:
        """Where `call` would go now and why, ready for JSON: what it needs, and by model what is held of each upstream.

        Nothing is sent. Raises what reading the request raises.
        """
        errand = self._errand(call, vector, Account())
        await self._picker.ask(errand)
        return {
            "demand": explanation.demand(errand.demand, self._clock.monotonic()),
            "target": {"ttft": errand.level.ttft, "probability": errand.level.probability},
            "legs": [self._explained(errand, leg) for leg in errand.legs],
        }

    def _explained(self, errand: Errand, leg: Leg) -> dict[str, Any]:
        try:
            offers, choice, known = self._picker.choose(errand, leg)
        except EdgeCacheError as error:
            return explanation.nobody(leg, error)
        lines = policy.lines(
            offers,
            self.pool.board,
            errand.demand,
            errand.level,
            near=self.settings.near,
            most_out=self.settings.ejection.most,
            now=self._clock.monotonic(),
            known=known,
            choice=choice,
        )
        return explanation.leg(leg, choice, lines)

    # ------------------------------------------------------------------------------------------ stored responses
    async def forward(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        tenant: Tenant,
    ) -> UpstreamAnswer:
        """Pass a request for a stored response through.

        Servers keep responses in their own memory, so each upstream is asked until one does not say 404, of those that
        the tenant's prompts may have gone to. That answer counts only when every upstream gave it: else the error of
        the one that could not be asked is raised. Also raises `NoUpstream` and `UnknownUrl`.
        """
        failure: UpstreamError | None = None
        answer: UpstreamAnswer | None = None
        places = tenant.terms.residency
        for client in self.pool.clients:
            if client.settings.tier is Tier.PEER or (places and client.settings.jurisdiction not in places):
                continue
            if answer is not None:
                await answer.aclose()
            try:
                answer = await client.forward(method, path, headers, body, authorization=tenant.authorization)
            except UpstreamError as error:
                answer, failure = None, error
                continue
            if answer.status != 404:
                return answer
        if answer is None or failure is not None:
            if answer is not None:
                await answer.aclose()
            raise failure or NoUpstream("no upstream is configured")
        return answer
