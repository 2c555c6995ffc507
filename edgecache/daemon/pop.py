"""One POP: its parts, the order in which they are built, started and stopped, and what a reload changes.

A POP that cannot open its store or load its pair verifier still serves: without a cache, or equal wording only.
`/readyz?verbose` names what is missing. It does not start without functions that it has: they may be what keeps answers
from those whom they do not concern.
"""

import asyncio
import logging
import random
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgecache.cache import policy
from edgecache.cache.evict import Sweeper
from edgecache.cache.scorer import Scorer
from edgecache.cache.semantic import SemanticTier
from edgecache.clock import Clock, SystemClock
from edgecache.config import Cache, Config, Upstream, address, check
from edgecache.config import reload as restart
from edgecache.config.load import Loaded
from edgecache.daemon import broker, functions, garbage, stores, watch
from edgecache.daemon.summary import Summary
from edgecache.embed import open_embedder, open_verifier
from edgecache.embed.base import Embedder
from edgecache.embed.batcher import Batcher
from edgecache.embed.hashing import HashingEmbedder
from edgecache.errors import ConfigError, StoreError
from edgecache.functions.phases import Rules
from edgecache.http.admin import health
from edgecache.http.app import Listener, admin_listener, drain, public_listener
from edgecache.http.auth import Authenticator
from edgecache.http.services import Services
from edgecache.pipeline.assembly import Engines, FunctionParts, assemble
from edgecache.pipeline.coalesce import Flights
from edgecache.pipeline.inference import LocalAnswers
from edgecache.router import discovery
from edgecache.store.vectors import VectorIndex
from edgecache.tasks import Tasks
from edgecache.telemetry import log as logs
from edgecache.telemetry.log import AccessLog
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Tenant
from edgecache.upstream.client import UpstreamClient

if TYPE_CHECKING:
    from edgecache.embed.verifier import Verifier
    from edgecache.functions.runtime import Runtime

log = logging.getLogger(__name__)

Reload = Callable[[], Loaded]


class Daemon:
    """One POP: after `start`, `url` and `admin_url` answer, until `stop`."""

    def __init__(
        self, loaded: Loaded, *, reload: Reload | None = None, core_url: str | None = None, clock: Clock | None = None
    ) -> None:
        """`reload` reads the configuration again (default: the same one); `core_url` is the embedded core's."""
        self.config = loaded.config
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.tasks = Tasks()
        self.flights = Flights(self.tasks)
        self.url = self.admin_url = ""
        self.no_cache = self.no_verifier = self.no_functions = ""
        self.runtime: Runtime | None = None
        self.verifier: Verifier | None = None
        self._core_url = core_url
        self._digest = loaded.digest
        self._found: list[Upstream] = []
        self._reload = reload or (lambda: loaded)
        self._exit = AsyncExitStack()
        self._rng = random.Random()  # noqa: S311 - jitter, not secrets

    # ------------------------------------------------------------------------------------------ start and stop
    async def run(self, ready: Callable[[Summary], None]) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once. SIGHUP reloads."""
        loop, stop, now = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def on_stop() -> None:
            (now if stop.is_set() else stop).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.tasks.spawn(self._on_hangup(), name="reload"))
        await self.start()
        garbage.tame()
        self.tasks.spawn(garbage.sweep(lambda: not self.services.inflight.count), name="garbage")
        try:
            ready(self.summary())
            await stop.wait()
            draining = self.tasks.spawn(self.drain(), name="drain")
            impatient = self.tasks.spawn(now.wait(), name="second-signal")
            await asyncio.wait((draining, impatient), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self.stop()

    async def start(self) -> None:
        """Build everything and begin to serve. Raises ConfigError (weights missing or altered, address taken)."""
        try:
            await self._engines()
            self._parts()
            await self.broker.learn(self.config, self.embedder.embedder)
            await self.broker.restore(self.services.auth.tenants, self.clock.now())
            if self.runtime is not None:
                await self.runtime.start()
            self.admin_url = await self._listen(admin_listener(self.services), self.config.admin.listen)
            if self.config.cache.semantic.enabled:  # else the vectors in the store are another embedder's: leave them
                await self.semantic.start()
                self._exit.push_async_callback(self._save_snapshot)
            self.public = public_listener(self.services)
            self.url = await self._listen(self.public, self.config.server.listen)
            self.tasks.spawn(self._sweeper.run(), name="sweeper")
            self.tasks.spawn(self.parts.learner.run(), name="learner")
            self.tasks.spawn(self.broker.prober.run(), name="prober")
            if (file := self.config.router.discovery) is not None:
                self.tasks.spawn(discovery.Discovery(file, self._discovered).run(), name="discovery")
            self.tasks.spawn(watch.loop_lag(self.metrics), name="loop-lag")
            stats = watch.store_stats(self.store, self.index, self.semantic, self.metrics)
            self.tasks.spawn(stats, name="store-stats")
            self._exit.push_async_callback(self._save_evidence)
            self._exit.push_async_callback(self.tasks.close)
            self._exit.push_async_callback(self.flights.settle)
            self.services.readiness.started = True
        except BaseException:
            await self.stop()
            raise

    async def drain(self) -> None:
        """Stop taking requests and let those in progress finish, at most `server.drain_timeout` seconds."""
        log.info("draining")
        self.parts.shadow.close()
        self.parts.mirrors.close()
        await drain(self.services, self.public)

    async def stop(self) -> None:
        """Stop everything, in reverse order of starting; fills in progress are finished first."""
        await self._exit.aclose()

    # ------------------------------------------------------------------------------------------ building
    async def _engines(self) -> None:
        """The parts with threads and files."""
        config = self.config
        folder = Path(config.server.data)
        self.store, self.no_cache = stores.entries(
            folder, config.store, self._exit, clock=self.clock, metrics=self.metrics
        )
        self._exit.callback(self.store.close)
        embedder = await asyncio.to_thread(self._open_embedder)
        self.embedder = Batcher(embedder, config.embed, self.metrics, self.clock)
        self._exit.callback(self.embedder.close)
        self.embedder.start()
        await self._open_verifier()
        self.index = VectorIndex(config.store, dimension=embedder.dimension, rng=self._rng)
        self._exit.callback(self.index.close)
        snapshot = folder / "index.snapshot"
        self.semantic = SemanticTier(self.store, self.index, embedder=embedder.fingerprint, path=snapshot)
        self._sweeper = Sweeper(
            self.store,
            self.semantic if config.cache.semantic.enabled else None,
            self.clock,
            config.store,
            grace=_grace(config),
            metrics=self.metrics,
        )

    def _open_embedder(self) -> Embedder:
        if not self.config.cache.semantic.enabled:
            return HashingEmbedder()  # never asked; the model stays out of memory
        return open_embedder(self.config.embed)

    async def _open_verifier(self) -> None:
        """The pair verifier and the scorer that knows what its word is worth; without them equal wording still hits."""
        self.scorer: Scorer | None = None
        if not self.config.cache.semantic.enabled:
            return
        try:
            found = await asyncio.to_thread(open_verifier, self.config.embed)
            self.scorer = Scorer.decode(found.calibration) if found is not None else None
        except ConfigError as error:
            self.no_verifier = str(error)
            log.error("of other wordings only equal ones will hit: %s", error)  # noqa: TRY400 - it says it all
            return
        if found is not None:
            from edgecache.embed.verifier import Verifier  # noqa: PLC0415 - torch, only where it is used

            settings, turn = self.config.embed, self.embedder.turn
            self.verifier = Verifier(found.engine, settings, self.metrics, self.clock, turn=turn)
            self._exit.callback(self.verifier.close)
            self.verifier.start()

    def _parts(self) -> None:
        """Everything that is only objects."""
        self.broker = broker.build(
            self.config,
            [UpstreamClient(settings, metrics=self.metrics) for settings in self.config.upstream],
            self.tasks,
            clock=self.clock,
            metrics=self.metrics,
            rng=self._rng,
        )
        self.pool = self.broker.pool
        self._exit.push_async_callback(self.broker.close)
        function_parts = self._functions()
        self.parts = parts = assemble(
            Engines(self.store, self.semantic, self.embedder, self.verifier, self.scorer),
            self.broker.dispatcher,
            self.flights,
            self.tasks,
            config=self.config,
            settings=self._cache_settings(self.config),
            clock=self.clock,
            metrics=self.metrics,
            rng=self._rng,
            functions=function_parts,
        )
        self.pipeline, self.lookup = parts.pipeline, parts.lookup
        self.services = self._services()
        self.metrics.inflight.set_function(lambda: self.services.inflight.count)
        self._tell_digest(self._digest)
        no_cache, no_verifier, readiness = self.no_cache, self.no_verifier, self.services.readiness
        no_ledger = self.broker.no_ledger
        readiness.add(lambda: health.functions(self.runtime, self.no_functions))
        readiness.add(lambda: health.store(self.config.server.data, no_cache))
        readiness.add(lambda: health.ledger(self.config.router.ledger, no_ledger))
        readiness.add(lambda: health.embedder(self.embedder))
        readiness.add(lambda: health.verifier(self.verifier, no_verifier))
        readiness.add(lambda: health.upstream([client.settings for client in self.pool.clients], self._core_url))

    def _functions(self) -> FunctionParts | None:
        config = self.config
        rules = Rules(self._admit, config.limits.max_json_depth, config.limits.max_messages)
        answers = LocalAnswers(self.embedder, rules, clock=self.clock)
        self.runtime, self.no_functions = functions.runtime(
            config, answers, clock=self.clock, metrics=self.metrics, tasks=self.tasks
        )
        if self.runtime is None:
            return None
        self._exit.push_async_callback(self.runtime.close)
        return FunctionParts(self.runtime.bindings, self.runtime.runner, answers, rules)

    def _admit(self, tenant: Tenant, model: str) -> None:
        self.services.auth.admit(tenant, model)

    def _services(self) -> Services:
        access = None
        if self.config.log.access:
            access = AccessLog(sys.stderr, self.metrics)
            self._exit.callback(access.close)
        return Services(
            config=self.config,
            auth=Authenticator(self.config.auth, self.config.router),
            clock=self.clock,
            metrics=self.metrics,
            pipeline=self.pipeline,
            explainer=self.parts.explainer,
            learner=self.parts.learner,
            feedback=self.parts.feedback,
            dispatcher=self.broker.dispatcher,
            limits=self.broker.limits,
            ledger=self.broker.ledger,
            pool=self.pool,
            batcher=self.embedder,
            store=self.store,
            semantic=self.semantic,
            reload=self.reload,
            access=access,
            runtime=self.runtime,
        )

    async def _listen(self, listener: Listener, where: str) -> str:
        place = address.parse(where)
        self._exit.push_async_callback(listener.stop)
        try:
            host, port = await listener.start(place.host, place.port)
        except OSError as error:
            raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from error
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    # ------------------------------------------------------------------------------------------ reload
    async def _on_hangup(self) -> None:
        try:
            await self.reload()
        except ConfigError as error:
            log.error("reload refused, the old configuration stays in force: %s", error)  # noqa: TRY400

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again and take what can be taken; says what needs a restart.

        Raises ConfigError, and changes nothing, when the new one is unusable.
        """
        try:
            loaded = await asyncio.to_thread(self._reload)
            merged = restart.merge(self.config, loaded.config)
            _refuse_unless_sound(merged)
            auth = Authenticator(merged.auth, merged.router)
            await self.broker.learn(merged, self.embedder.embedder)
        except ConfigError:
            self.metrics.reloads.labels("refused").inc()
            raise
        waiting = restart.waiting(self.config, loaded.config)
        self._take(merged, auth)
        self._tell_digest(loaded.digest)
        self.metrics.reloads.labels("ok").inc()
        log.info("configuration reloaded; needs a restart: %s", ", ".join(waiting) or "nothing")
        return {"hash": loaded.digest, "needs_restart": list(waiting)}

    def _take(self, config: Config, auth: Authenticator) -> None:
        self.config = self.services.config = config
        self._connect()
        self.broker.take(config.router)
        self.broker.limits.replace(auth.tenants)
        self.services.auth = auth
        self.pipeline.settings = self._cache_settings(config)
        self.parts.learner.config = config
        self.parts.mirrors.settings = config.router
        self._sweeper.grace = _grace(config)
        logs.setup(config.log.level)

    def _discovered(self, found: list[Upstream]) -> None:
        self._found = found
        self._connect()

    def _connect(self) -> None:
        """Have a client for each upstream that is configured or was discovered, and part with the others."""
        wanted = discovery.merged(self.config.upstream, self._found)
        kept = {client.settings: client for client in self.pool.clients}
        clients = [kept.get(settings) or UpstreamClient(settings, metrics=self.metrics) for settings in wanted]
        for client in self.pool.replace(clients):
            self.tasks.spawn(self._retire(client), name=f"retire {client.name}")

    def _tell_digest(self, digest: str) -> None:
        """Which configuration is in force."""
        self._digest = digest
        self.metrics.config_info.clear()
        self.metrics.config_info.labels(digest).set(1)

    def _cache_settings(self, config: Config) -> Cache:
        return msgspec.structs.replace(config.cache, enabled=False) if self.no_cache else config.cache

    async def _retire(self, client: UpstreamClient) -> None:
        """Close a client that gets no new requests once its last one has ended."""
        try:
            await client.idle()
        finally:
            await client.close()

    async def _save_snapshot(self) -> None:
        """The next start loads it; without one the index is rebuilt from LMDB."""
        if not self.no_cache:
            try:
                await self.semantic.save()
            except StoreError as error:
                log.warning("no snapshot of the index: %s", error)

    async def _save_evidence(self) -> None:
        """What is written behind, once nothing changes it any more."""
        try:
            await self.parts.learner.flush()
        except StoreError as error:
            log.warning("the latest evidence is lost: %s", error)

    # ------------------------------------------------------------------------------------------ watching
    def summary(self) -> Summary:
        """What this POP is made of."""
        embedder, config = self.embedder.embedder, self.config
        return Summary(
            url=self.url,
            admin_url=self.admin_url,
            data=config.server.data,
            embedder=embedder.name if config.cache.semantic.enabled else "none (semantic tier off)",
            device=embedder.device,
            precision=embedder.precision,
            upstreams=config.upstream,
            core_url=self._core_url,
            hits=policy.in_words(config.cache.semantic),
            functions=health.functions(self.runtime, self.no_functions).detail,
            cache=self.no_cache,
        )


def _refuse_unless_sound(merged: Config) -> None:
    """A file that is fine by itself may not be with what waits for a restart: no keys, and the open listener."""
    if problems := [f"{key}: {what} (until a restart)" for key, what in check.findings(merged)]:
        raise ConfigError("; ".join(problems))


def _grace(config: Config) -> float:
    """Seconds past expiry that an answer may still be of use."""
    return max(config.cache.stale_if_error, config.cache.stale_while_revalidate)
