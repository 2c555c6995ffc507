"""The parts of the broker, put together from the configuration: built once, and changed by a reload or a discovery."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType

from edgecache.clock import Clock
from edgecache.config import Config, Router
from edgecache.embed import manifest, vocabulary
from edgecache.embed.base import Embedder
from edgecache.errors import ConfigError, StoreError
from edgecache.router import routes
from edgecache.router.admission import Admission
from edgecache.router.affinity import Affinity
from edgecache.router.complexity import Complexity
from edgecache.router.dispatch import Dispatcher
from edgecache.router.health import Health
from edgecache.router.ledger import Ledger
from edgecache.router.limits import Limits, period
from edgecache.router.pool import Pool
from edgecache.router.probe import Prober
from edgecache.router.reader import Reader
from edgecache.store.ledger import LedgerStore
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Allowance, Tenant, Tier
from edgecache.upstream.client import UpstreamClient

log = logging.getLogger(__name__)

_PERIODS = MappingProxyType({name: Allowance("", period=name) for name in ("day", "month")})


@dataclass(slots=True)
class Broker:
    """What decides on misses. `no_ledger` says why no books are kept, empty where they are."""

    pool: Pool
    health: Health
    reader: Reader
    admission: Admission
    limits: Limits
    ledger: Ledger
    dispatcher: Dispatcher
    prober: Prober
    no_ledger: str = ""

    def take(self, settings: Router) -> None:
        """Go on with other settings."""
        self.dispatcher.settings = settings
        self.health.settings = settings.ejection
        self.prober.interval = settings.probe_interval
        self.admission.max_waiting = settings.max_waiting

    async def close(self) -> None:
        """Close the connections to upstreams, then the books."""
        self.dispatcher.settle()
        for client in self.pool.clients:
            await client.close()
        await self.ledger.stop()

    async def learn(self, config: Config, embedder: Embedder) -> None:
        """Read what the reader needs of files: tokenizers, and the complexity estimate where a route uses it.

        Raises ConfigError.
        """
        vocabularies, complexity = await asyncio.to_thread(
            lambda: (vocabulary.read(config.upstream), estimate(config, embedder))
        )
        self.reader.replace(config.router, complexity=complexity, vocabularies=vocabularies)

    async def restore(self, tenants: Iterable[Tenant], now: float) -> None:
        """Keep the books of the limits of `tenants`, and know what was spent before this start."""
        known = list(tenants)
        self.limits.replace(known)
        starts = {name: period(allowance, now)[0] for name, allowance in _PERIODS.items()}
        spent = await self.ledger.spent(starts)
        allowances = [allowance for tenant in known for allowance in tenant.terms.allowances]
        self.limits.restore({each.holder: spent[each.period].get(each.holder, 0.0) for each in allowances})


def build(
    config: Config,
    clients: Sequence[UpstreamClient],
    tasks: Tasks,
    *,
    clock: Clock,
    metrics: Metrics,
    rng: Random,
) -> Broker:
    """The parts; nothing runs yet. To be called in a running event loop."""
    settings = config.router
    store, no_ledger = _store(config, clock, metrics)
    pool = Pool(clients, clock=clock)
    health = Health(pool, settings.ejection, clock=clock, rng=rng, metrics=metrics)
    reader = Reader(settings, clock=clock)
    admission = Admission(settings.max_waiting, clock=clock, metrics=metrics)
    limits = Limits(clock=clock, metrics=metrics)
    prices = Prices(pool)
    ledger = Ledger(store, clock=clock, metrics=metrics, rate=prices.rate)
    dispatcher = Dispatcher(
        pool,
        reader,
        admission,
        ledger,
        limits,
        health,
        Affinity(),
        settings=settings,
        tasks=tasks,
        clock=clock,
        metrics=metrics,
        rng=rng,
    )
    prices.dispatcher = dispatcher
    prober = Prober(pool, health, interval=settings.probe_interval, tasks=tasks, clock=clock, metrics=metrics, rng=rng)
    return Broker(pool, health, reader, admission, limits, ledger, dispatcher, prober, no_ledger)


def _store(config: Config, clock: Clock, metrics: Metrics) -> tuple[LedgerStore | None, str]:
    """The ledger's file, or why there is none: requests are served without it."""
    if not config.router.ledger.enabled:
        return None, ""
    folder = Path(config.server.data) / "ledger"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = LedgerStore(folder, config.router.ledger, clock=clock, metrics=metrics, sync=config.store.sync)
    except (StoreError, OSError) as error:
        log.error("serving without a usage ledger: %s", error)  # noqa: TRY400 - the message says it all
        return None, str(error)
    return found, ""


class Prices:
    """What tokens of a model would have cost, had they not come from the cache. `dispatcher` comes after the ledger."""

    def __init__(self, pool: Pool) -> None:
        self.dispatcher: Dispatcher | None = None
        self._pool = pool

    def rate(self, model: str) -> tuple[float, float]:
        """USD for a prompt token and a generated one: the cheapest upstream's that is no neighbour POP; else zeros."""
        chosen = self.dispatcher.settings.route if self.dispatcher is not None else ()
        target = routes.legs(chosen, model, "", b"", None)[0].model
        offers = self._pool.known(target)
        own = [row for row in range(len(offers)) if offers.tier[row] != Tier.PEER.rank] if offers is not None else []
        if offers is None or not own:
            return 0.0, 0.0
        best = min(own, key=lambda row: (offers.price_in[row] + offers.price_out[row], row))
        return float(offers.price_in[best]), float(offers.price_out[best])


def estimate(config: Config, embedder: Embedder) -> Complexity | None:
    """The complexity estimate, where a route sends easy questions to a small model. Raises ConfigError."""
    if not any(route.small is not None for route in config.router.route):
        return None
    if not config.cache.semantic.enabled:
        raise ConfigError("router.route.small needs the embedder: cache.semantic.enabled is off")
    path = manifest.default_path().parent / "complexity" / "model.json"
    return Complexity.read(path, embedder.name, embedder.dimension)
