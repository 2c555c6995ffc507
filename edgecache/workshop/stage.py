"""Where a case runs: what a POP gives a function, over empty stores that hold what the case says and nothing else.

Grants, budgets, key-value store, secrets and log are the real ones; network, models and cache are `scripted`.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgecache.clock import Clock
from edgecache.config.tree import Functions
from edgecache.errors import EdgeCacheError
from edgecache.functions.capabilities import Capabilities, Services
from edgecache.functions.context import Context
from edgecache.functions.host.waiting import Waiting
from edgecache.functions.journal import Journal
from edgecache.functions.manifest import Manifest, Quotas
from edgecache.functions.secrets import Secrets
from edgecache.functions.versions import Version, version_digest
from edgecache.store.functions import FunctionStore
from edgecache.store.kv import KvStore, Space
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Tenant
from edgecache.wasm.base import Host, Limits
from edgecache.wasm.compiler import Artefact
from edgecache.workshop.cases import Case
from edgecache.workshop.scripted import ScriptedAnswers, ScriptedNetwork

_REQUEST_ID = "case"


class CaseClock:
    """Shows the time of the case, while what is measured takes as long as it takes."""

    def __init__(self, now: float, clock: Clock) -> None:
        self._now = now
        self._clock = clock

    def now(self) -> float:
        """The time of the case, Unix s."""
        return self._now

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return self._clock.monotonic()


class Stage:
    """One case set up. `version` is the function as the case has it, `limits` those of its calls."""

    def __init__(self, case: Case, version: Version, services: Services, settings: Functions, clock: Clock) -> None:
        self.version = version
        self._case = case
        self._services = services
        self._clock = clock
        self._capabilities = Capabilities(services, settings=settings, metrics=Metrics())

    @property
    def limits(self) -> Limits:
        """What one call may take."""
        return self._capabilities.grants(self.version).limits

    def host(self) -> Host:
        """The host of one call."""
        case, deadline = self._case, self._clock.monotonic() + self.limits.wall
        tenant = Tenant(case.request.tenant)
        return self._capabilities.host(
            self.version, Context(tenant, case.phase, deadline, _REQUEST_ID, case.request.model)
        )

    def log(self) -> tuple[str, ...]:
        """The lines that the function wrote."""
        records = self._services.journal.records(self.version.tenant, self.version.name)
        return tuple(record.text for record in records if record.event == "log")

    def value(self, store: str, key: str) -> str | None:
        """What a store holds now, as text."""
        found = self._services.kv.get(Space(self.version.tenant, self.version.name, store), key)
        return None if found is None else found.decode("utf-8", "backslashreplace")


@asynccontextmanager
async def staged(
    case: Case, manifest: Manifest, artefact: Artefact, settings: Functions, clock: Clock
) -> AsyncIterator[Stage]:
    """Everything that `case` needs, while the block runs. Raises EdgeCacheError for what it says and cannot be."""
    settings = msgspec.structs.replace(
        settings, fetch=True
    )  # nothing leaves the machine, and the manifest still decides
    at = CaseClock(case.now, clock)
    version = version_of(case, manifest, artefact)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgecache-case-")))
        store = await asyncio.to_thread(FunctionStore, folder / "state", sync=False)
        stack.callback(store.close)
        kv = KvStore(store, clock=at, max_bytes=settings.kv_bytes, max_keys=settings.kv_keys)
        secrets = Secrets(store, folder / "key", clock=at)
        if case.secrets:
            await secrets.put(version.tenant, version.name, case.secrets)
        await asyncio.to_thread(_fill, kv, version, case.kv)
        waiting = Waiting(asyncio.get_running_loop())
        services = Services(
            kv=kv,
            secrets=secrets,
            journal=Journal(lines=settings.log_lines),
            outbound=ScriptedNetwork(case),
            answers=ScriptedAnswers(case),
            waiting=waiting,
            clock=at,
        )
        yield Stage(case, version, services, settings, at)


def _fill(kv: KvStore, version: Version, stores: dict[str, dict[str, str]]) -> None:
    for store, values in stores.items():
        for key, value in values.items():
            kv.set(Space(version.tenant, version.name, store), key, value.encode())


def version_of(case: Case, manifest: Manifest, artefact: Artefact) -> Version:
    """The function with the limits and variables of `case`; raises EdgeCacheError for limits that there are not."""
    said: dict[str, Any] = {**msgspec.to_builtins(manifest.limits), **case.limits}
    try:
        limits = msgspec.convert(said, Quotas)
    except msgspec.ValidationError as error:
        raise EdgeCacheError(f"`limits` of the case: {error}") from error
    changed = msgspec.structs.replace(manifest, limits=limits, variables=manifest.variables | case.variables)
    return Version(
        tenant=case.request.tenant,
        name=manifest.name,
        number=1,
        digest=version_digest(artefact.digest, changed),
        artefact=artefact.digest,
        kind=artefact.kind,
        size=artefact.facts.bytes,
        manifest=changed,
        created=case.now,
    )
