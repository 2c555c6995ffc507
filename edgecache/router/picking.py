"""Chooses an upstream for a request and takes a place there at once, so that the next choice sees it."""

from random import Random
from typing import NamedTuple

from edgecache.clock import Clock
from edgecache.config import Router
from edgecache.errors import EdgeCacheError, NoUpstream
from edgecache.router import policy, refusals
from edgecache.router.affinity import Affinity
from edgecache.router.board import Floats
from edgecache.router.choice import Choice
from edgecache.router.errand import Errand
from edgecache.router.offers import Offers
from edgecache.router.pool import Pool
from edgecache.router.routes import Leg
from edgecache.router.traffic import Slot, Traffic
from edgecache.telemetry.metrics import Metrics
from edgecache.upstream.client import UpstreamClient


class Pick(NamedTuple):
    """The upstream of `client` was chosen for `leg`: the first of `choice`, which was made from `offers`.

    `known` are the prompt tokens that each of them had read before; `slot` is the place that was taken there.
    """

    leg: Leg
    offers: Offers
    choice: Choice
    known: Floats
    client: UpstreamClient
    slot: Slot


class Waiting(NamedTuple):
    """Nobody has room: for which model, seconds until somebody may have, and from then to the end of the answer."""

    model: str
    wait: float
    seconds: float


class Picker:
    """Makes choices. `settings` are replaced by a reload."""

    def __init__(
        self, pool: Pool, traffic: Traffic, affinity: Affinity, *, settings: Router, clock: Clock, metrics: Metrics,
        rng: Random,
    ) -> None:  # fmt: skip
        self.settings = settings
        self._pool = pool
        self._traffic = traffic
        self._affinity = affinity
        self._clock = clock
        self._duration = metrics.choice_duration
        self._draw = rng.random

    def wonders(self, errand: Errand) -> bool:
        """Whether it is not known who offers one of the models of `errand`."""
        return any(self._pool.known(leg.model) is None for leg in errand.legs)

    async def ask(self, errand: Errand) -> None:
        """Find out who offers the models of `errand`, where that is not known yet."""
        for leg in errand.legs:
            if self._pool.known(leg.model) is None:
                try:
                    await self._pool.offers(leg.model)
                except EdgeCacheError as error:
                    errand.unknown[leg.model] = error

    def choose(self, errand: Errand, leg: Leg, tried: frozenset[str] = frozenset()) -> tuple[Offers, Choice, Floats]:
        """The choice among what is offered for `leg`. Raises why nothing is."""
        offers = self._pool.known(leg.model)
        if offers is None:
            raise errand.unknown.get(leg.model) or NoUpstream(f"No upstream serves {leg.model!r}.")
        now = self._clock.monotonic()
        known = self._affinity.known(offers, errand.demand, now)
        choice = policy.choose(
            offers,
            self._pool.board,
            errand.demand,
            errand.level,
            near=self.settings.near,
            most_out=self.settings.ejection.most,
            now=now,
            draw=self._draw,
            known=known,
            tried=errand.tried.get(leg.model, set()) | tried,
        )
        self._duration.observe(self._clock.monotonic() - now)
        return offers, choice, known

    def pick(self, errand: Errand) -> Pick | Waiting:
        """The first upstream that can, leg by leg; the place there belongs to `errand`. Raises why none can.

        Nobody waits for one model while another can answer at once.
        """
        waiting: Waiting | None = None
        refused: EdgeCacheError | None = None
        for leg in errand.legs:
            try:
                picked = self.leg(errand, leg)
            except EdgeCacheError as error:
                refused = refused if refused is not None and leg.why == "fallback" else error
                continue
            if isinstance(picked, Pick):
                return picked
            waiting = waiting or picked
        if waiting is None:
            raise refused or NoUpstream(f"No upstream serves {errand.call.model!r}.")
        return waiting

    def leg(self, errand: Errand, leg: Leg, tried: frozenset[str] = frozenset()) -> Pick | Waiting:
        """The same for one of the models, without the upstreams `tried`."""
        offers, choice, known = self.choose(errand, leg, tried)
        demand = errand.demand
        client = self._pool.client(choice.names[0]) if choice.names else None
        if client is not None:
            slot = self._traffic.enter(client.name, demand.prompt_tokens + demand.output_tokens, stream=demand.stream)
            errand.slot = slot
            return Pick(leg, offers, choice, known, client, slot)
        if choice.refusal not in refusals.PASSING:
            raise refusals.error(choice.refusal, demand, leg.model, choice.wait)
        seconds = offers.overhead + offers.prefill * demand.prompt_tokens + offers.decode * demand.output_tokens
        return Waiting(leg.model, choice.wait, float(seconds.min()))
