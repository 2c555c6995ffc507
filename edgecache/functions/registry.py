"""Which functions there are and which version of each runs: deploying, canaries, rolling back, deleting.

Readers get an immutable snapshot and never lock; every change makes a new one. A version that was swapped out is closed
when its last holder has let it go, so no change drops a request. Changes of one function follow one another, and so do
its uploads; an upload that is being compiled holds up no rollback.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar, cast
from weakref import WeakValueDictionary

import msgspec

from edgecache.clock import Clock
from edgecache.config.tree import Functions
from edgecache.errors import BadRequest, ClientError, EdgeCacheError, FunctionRefused, NotFound
from edgecache.functions import manifest as manifests
from edgecache.functions.graveyard import Graveyard
from edgecache.functions.journal import Journal, escaped
from edgecache.functions.ledger import Ledger, Owner
from edgecache.functions.loading import Load, Loader, Upload
from edgecache.functions.manifest import Manifest
from edgecache.functions.roster import Roster, Said
from edgecache.functions.secrets import Secrets
from edgecache.functions.signature import Signatures
from edgecache.functions.versions import (
    Active,
    Deployment,
    Loaded,
    Split,
    Version,
    What,
    uploaded,
    version_digest,
)
from edgecache.store.functions import FunctionStore
from edgecache.store.kv import KvStore
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.wasm.compiler import Compiler

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_FUNCTIONS: Final = 256
"""Functions of one tenant."""
_MESSAGE: Final = 1000
"""Characters of a message, and of who wrote it."""
_SELF: Final = "edgecache"
"""Who rolls back by itself."""


class Registry:
    """The functions of one POP. Made and used on one event loop, but for `observe` and `active`."""

    def __init__(
        self,
        store: FunctionStore,
        compiler: Compiler,
        load: Load,
        *,
        settings: Functions,
        kv: KvStore,
        secrets: Secrets,
        journal: Journal,
        clock: Clock,
        metrics: Metrics,
        tasks: Tasks,
    ) -> None:
        """Raises ConfigError for keys in `functions.trusted` that are none."""
        self._graveyard = Graveyard(tasks)
        self._loader = Loader(
            compiler,
            load,
            self._graveyard,
            used=lambda: self._roster.artefacts(),  # noqa: PLW0108 - it is made next
            settings=settings,
            clock=clock,
        )
        self._roster = Roster(
            Ledger(store),
            self._loader,
            condemned=self._condemned,
            settings=settings,
            journal=journal,
            clock=clock,
            metrics=metrics,
        )
        self._settings = settings
        self._signatures = Signatures(settings.signatures, settings.trusted)
        self._kv = kv
        self._secrets = secrets
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._locks: WeakValueDictionary[tuple[str, Owner], asyncio.Lock] = WeakValueDictionary()

    # ------------------------------------------------------------------------------------------ reading

    @property
    def generation(self) -> int:
        """Changes with every snapshot."""
        return self._roster.generation

    def active(self) -> tuple[Active, ...]:
        """The functions as they run now, in the order of tenant and name."""
        return self._roster.snapshot

    def running(self, tenant: str, name: str) -> Active | None:
        """How a function runs now; None if there is no such."""
        return self._roster.active.get((tenant, name))

    def deployment(self, tenant: str, name: str) -> Deployment:
        """A function; raises NotFound."""
        return self._roster.found((tenant, name))

    def deployments(self, tenant: str | None = None) -> tuple[Deployment, ...]:
        """The functions of `tenant`, with None of all."""
        found = sorted(self._roster.deployments.items())
        return tuple(each for owner, each in found if tenant is None or owner[0] == tenant)

    def versions(self, tenant: str, name: str) -> tuple[Version, ...]:
        """The versions of a function that are kept, oldest first; raises NotFound."""
        self._roster.found((tenant, name))
        return tuple(version for _, version in sorted(self._roster.versions[tenant, name].items()))

    def keeps(self, version: Version) -> bool:
        """Whether `version` is one of its function: not once that was deleted, whatever has its name since."""
        return self._roster.versions.get((version.tenant, version.name), {}).get(version.number) is version

    # ------------------------------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        """Load what is deployed, and compile anew what another engine compiled: that may take long.

        It is waited for, because a POP that serves without its functions could show what they hide. What cannot be
        loaded fails its calls, and `Active.trouble` says why. Raises StoreCorrupt for a function that cannot be read.
        """
        await self._roster.load()

    async def close(self) -> None:
        """Close all programs. Calls must have ended before."""
        self._roster.clear()
        await self._graveyard.close()

    # ------------------------------------------------------------------------------------------ changing

    async def deploy(
        self,
        tenant: str,
        manifest: Manifest,
        artefact: bytes,
        *,
        canary: float | None = None,
        message: str = "",
        author: str = "",
        signature: bytes | None = None,
    ) -> Version:
        """Take an upload and let it run: at once, or for a share `canary` of the calls beside the stable version.

        The first version of a function has nothing beside it and runs at once. What was uploaded before is the same
        version again. Raises FunctionRefused, BadRequest, StoreError; Overloaded when too many wait to be compiled.
        """
        owner, said = (tenant, manifest.name), _said(author, message)
        with self._counted("deploy"):
            weight = None if canary is None else _share(canary, "canary")
            self._admit(owner, manifest)
            async with self._lock("upload", owner), self._loader.holding(artefact) as digest:
                signer = self._signatures.verify(digest, manifest, signature)
                upload = await self._loader.upload(tenant, manifest, artefact)
                return await self._surely(self._deployed(owner, upload, weight, said, signer))

    def _admit(self, owner: Owner, manifest: Manifest) -> None:
        if not self._settings.enabled:
            raise FunctionRefused("functions are switched off at this POP (functions.enabled)", code="functions_off")
        manifests.check(manifest)
        if owner not in self._roster.deployments and len(self.deployments(owner[0])) >= MAX_FUNCTIONS:
            raise FunctionRefused(f"a tenant has at most {MAX_FUNCTIONS} functions", code="too_many_functions")

    async def _deployed(self, owner: Owner, upload: Upload, weight: float | None, said: Said, signer: str) -> Version:
        """Number an upload and let it run."""
        async with self._lock("change", owner):
            now = self._roster.deployments.get(owner)
            digest = version_digest(upload.artefact.digest, upload.manifest)
            kept = self._roster.versions.get(owner, {}).values()
            known = next((each for each in kept if each.digest == digest), None)
            version = known or upload.version(owner[0], now.last + 1 if now else 1, digest, self._clock.now())
            if not known:
                version = msgspec.structs.replace(version, message=said.message, author=said.author, signer=signer)
            loaded = Loaded(version, upload.program, self._graveyard.bury)
            if now is None:  # what a deleted function of that name may have left behind is not this one's
                await asyncio.to_thread(self._kv.drop, *owner)
                await self._secrets.drop(*owner)
            split = uploaded(now.split if now else None, version.number, weight)
            await self._roster.switch(owner, split, "deploy", said, fresh=None if known else version, loaded=(loaded,))
            return version

    async def promote(self, tenant: str, name: str, message: str = "", *, author: str = "") -> Deployment:
        """Make the canary the stable version. Raises BadRequest without one, NotFound, FunctionRefused, StoreError."""
        return await self._change((tenant, name), "promote", _said(author, message), lambda now: Split(_canary(now)))

    async def split(self, tenant: str, name: str, weight: float, message: str = "", *, author: str = "") -> Deployment:
        """Give the canary another share of the calls. Raises as `promote` does."""
        share = _share(weight, "weight")
        return await self._change(
            (tenant, name), "split", _said(author, message), lambda now: Split(now.split.stable, _canary(now), share)
        )

    async def rollback(
        self, tenant: str, name: str, number: int | None = None, message: str = "", *, author: str = ""
    ) -> Deployment:
        """Let version `number` run alone. Without one: end the canary if there is one, else go one version back.

        Raises NotFound for a version that is not kept, BadRequest where none is left to go back to, FunctionRefused,
        StoreError.
        """
        decide = partial(self._back, number=number)
        return await self._change((tenant, name), "rollback", _said(author, message), decide)

    def _back(self, now: Deployment, number: int | None) -> Split:
        kept = self._roster.versions[now.tenant, now.name]
        if number is None and now.split.canary is not None:
            return Split(now.split.stable)
        found = [number] if number is not None else now.earlier()
        for each in found:
            if each in kept:
                return Split(each)
        numbers = ", ".join(map(str, sorted(kept)))
        if number is None:
            raise BadRequest(f"{now.name} has no earlier version to go back to; kept: {numbers}.", code="no_version")
        raise NotFound(f"{now.name} has no version {number}; kept: {numbers}.", code="no_version")

    async def delete(self, tenant: str, name: str) -> None:
        """Remove a function with its versions, data, secrets and logs. Raises NotFound, StoreError.

        It runs no more at once; what it keeps goes when its last call has ended.
        """
        with self._counted("delete"):
            await self._surely(self._deleted((tenant, name)))

    async def _deleted(self, owner: Owner) -> None:
        async with self._lock("change", owner):
            active, artefacts = await self._roster.remove(owner)
            for loaded in (active.stable, active.canary) if active else ():
                await self._idle(loaded)
            await asyncio.to_thread(self._kv.drop, *owner)
            await self._secrets.drop(*owner)
            self._journal.forget(*owner)
            await self._loader.forget(artefacts)
        log.info("function %s of %s: deleted", owner[1], owner[0])

    async def _idle(self, loaded: Loaded | None) -> None:
        """Wait for calls in progress, as long as one may take."""
        ended = asyncio.Event()
        if loaded is not None:
            loaded.when_idle(partial(self._loop.call_soon_threadsafe, ended.set))
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), self._settings.max_wall + 1)

    # ------------------------------------------------------------------------------------------ canaries

    def observe(self, loaded: Loaded, ok: bool) -> None:  # noqa: FBT001 - said once a call
        """Count a call that ended well or failed; a canary that fails too often goes. Cheap, from any thread."""
        trial = loaded.trial
        if trial is not None:
            trial.observe(loaded.version.number, ok=ok)

    def _condemned(self, owner: Owner, number: int, why: str) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it all calls
            self._loop.call_soon_threadsafe(self._withdraw, owner, number, why)

    def _withdraw(self, owner: Owner, number: int, why: str) -> None:
        self._tasks.spawn(self._withdrawn(owner, number, why), name="withdraw a canary")

    async def _withdrawn(self, owner: Owner, number: int, why: str) -> None:
        async with self._lock("change", owner):
            now = self._roster.deployments.get(owner)
            if now is not None and now.split.canary == number:
                with self._counted("auto_rollback"):
                    split = Split(now.split.stable)
                    await self._roster.switch(owner, split, "auto_rollback", Said(_SELF, why), at_once=True)

    # ------------------------------------------------------------------------------------------ keeping order

    async def _change(self, owner: Owner, what: What, said: Said, decide: Callable[[Deployment], Split]) -> Deployment:
        async def run() -> Deployment:
            async with self._lock("change", owner):
                return await self._roster.switch(owner, decide(self._roster.found(owner)), what, said)

        with self._counted(what):
            return await self._surely(run())

    def _lock(self, what: str, owner: Owner) -> asyncio.Lock:
        lock = self._locks.get((what, owner))
        if lock is None:
            lock = self._locks[what, owner] = asyncio.Lock()
        return lock

    async def _surely(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives; it is finished even if whoever asked for it has gone: half a change is none."""
        task = self._tasks.spawn(_ended(work), name="change a function")
        try:
            value, error = await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise
        if error is not None:
            raise error
        return cast("T", value)  # there is one or the other

    @contextmanager
    def _counted(self, action: str) -> Iterator[None]:
        result = "failed"
        try:
            yield
            result = "ok"
        except ClientError:
            result = "refused"
            raise
        finally:
            self._metrics.function_deploys.labels(action, result).inc()


async def _ended(work: Coroutine[Any, Any, T]) -> tuple[T | None, EdgeCacheError | None]:
    """What `work` gives or raises, as a value: what its caller will be told is no failure of a background task."""
    try:
        return await work, None
    except EdgeCacheError as error:
        return None, error


def _said(author: str, message: str) -> Said:
    return Said(escaped(author, _MESSAGE), escaped(message, _MESSAGE))


def _share(value: float, param: str) -> float:
    if not 0 <= value <= 1:  # nor NaN
        raise BadRequest(f"`{param}` is a share from 0 to 1, not {value:g}.", param=param)
    return value


def _canary(now: Deployment) -> int:
    if now.split.canary is None:
        raise BadRequest(f"{now.name} has no canary: {now.split.text}.", code="no_canary")
    return now.split.canary
