"""All that runs functions in one POP, put together: state on disk, compiler, sandboxes, versions, runner.

What a function may ask of the pipeline (`answers`) is handed in: the pipeline is made later, since functions run in it.
"""

import asyncio
from pathlib import Path
from typing import Final

from edgecache.clock import Clock
from edgecache.config.tree import Functions
from edgecache.errors import ConfigError, StoreError
from edgecache.functions.answers import Answers
from edgecache.functions.bindings import Bindings
from edgecache.functions.capabilities import Capabilities, Services
from edgecache.functions.host.waiting import Waiting
from edgecache.functions.journal import Journal
from edgecache.functions.registry import Registry
from edgecache.functions.report import Report
from edgecache.functions.runner import Runner
from edgecache.functions.secrets import Secrets
from edgecache.store.functions import FunctionStore
from edgecache.store.kv import KvStore
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.upstream.names import SystemNames
from edgecache.upstream.network import Reach
from edgecache.upstream.outbound import Outbound
from edgecache.wasm.base import Program
from edgecache.wasm.compiler import Artefact, Compiler
from edgecache.wasm.engine import Engine
from edgecache.wasm.load import load
from edgecache.wasm.remote import Workers
from edgecache.wasm.vault import read_key

_SWEEP: Final = 60.0
"""Seconds between two sweeps of expired key-value data."""


class Runtime:
    """The functions of one POP. Built on the event loop; `start` before the first request, `close` after the last."""

    def __init__(
        self,
        folder: Path,
        settings: Functions,
        answers: Answers,
        *,
        sync: bool,
        clock: Clock,
        metrics: Metrics,
        tasks: Tasks,
    ) -> None:
        """Raises ConfigError where the state in `folder` cannot be used: functions may be what keeps answers in."""
        self.settings = settings
        self._tasks = tasks
        self._sweeping: asyncio.Task[None] | None = None
        key = read_key(folder / "code.key")
        self._engine = Engine(instances=settings.instances, memory=settings.max_memory, tick=settings.tick, clock=clock)
        try:
            self._store = _opened(folder, sync=sync)
        except ConfigError:
            self._engine.close()
            raise
        self._compiler = Compiler(folder, settings, key=key, fingerprint=self._engine.fingerprint)
        self._workers = Workers(settings, clock)
        self._names = SystemNames()
        self.kv = KvStore(self._store, clock=clock, max_bytes=settings.kv_bytes, max_keys=settings.kv_keys)
        self.secrets = Secrets(self._store, folder / "secrets.key", clock=clock)
        self.journal = Journal(lines=settings.log_lines)
        self.registry = Registry(
            self._store,
            self._compiler,
            self._load,
            settings=settings,
            kv=self.kv,
            secrets=self.secrets,
            journal=self.journal,
            clock=clock,
            metrics=metrics,
            tasks=tasks,
        )
        self._capabilities = Capabilities(self._services(answers, clock=clock), settings=settings, metrics=metrics)
        self.runner = Runner(
            self.registry,
            self._capabilities,
            self.journal,
            self.secrets,
            settings=settings,
            clock=clock,
            metrics=metrics,
        )
        self.bindings = Bindings(self.registry)
        self.report = Report(self.registry, self.runner, settings)
        metrics.function_instances.set_function(lambda: self._engine.live)

    def _services(self, answers: Answers, *, clock: Clock) -> Services:
        settings = self.settings
        return Services(
            kv=self.kv,
            secrets=self.secrets,
            journal=self.journal,
            clock=clock,
            outbound=Outbound(Reach(settings.private), self._names, most=settings.max_response_bytes),
            answers=answers,
            waiting=Waiting(asyncio.get_running_loop()),
        )

    def _load(self, artefact: Artefact, group: str | None) -> Program:
        return load(self._engine, artefact) if group is None else self._workers.load(artefact, group)

    async def start(self) -> None:
        """Load what is deployed. Raises ConfigError where the records cannot be read."""
        try:
            await self.registry.start()
        except StoreError as error:
            raise ConfigError(f"the functions of this POP cannot be read: {error.message}") from error
        self._sweeping = self._tasks.spawn(self._sweep(), name="functions-sweep")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            await asyncio.to_thread(self.kv.sweep)

    async def close(self) -> None:
        """End tails, wait for calls in progress, close programs, engine and state."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.journal.close()
        await self.runner.close()
        await self.registry.close()
        await asyncio.to_thread(self._workers.close)
        await asyncio.to_thread(self._engine.close)
        self._names.close()
        self._store.close()


def _opened(folder: Path, *, sync: bool) -> FunctionStore:
    try:
        return FunctionStore(folder / "state", sync=sync)
    except StoreError as error:
        raise ConfigError(f"the functions in {folder} cannot be used: {error.message}") from error
