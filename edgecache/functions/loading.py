"""From an upload, or from a version that is kept, to a program that can be called. Which one runs is not known here."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from edgecache.clock import Clock
from edgecache.config.tree import Functions
from edgecache.errors import EdgeCacheError, FunctionFault, FunctionRefused
from edgecache.functions.grants import granted, isolated
from edgecache.functions.graveyard import Graveyard
from edgecache.functions.manifest import Build, Manifest
from edgecache.functions.smoke import smoke
from edgecache.functions.versions import Loaded, Unloadable, Version, artefact_digest
from edgecache.wasm.base import Limits, Program
from edgecache.wasm.compiler import Artefact, Compiler

Load = Callable[[Artefact, str | None], Program]
"""Loads compiled code, to run in the worker process of a trust group, with None here. Blocks; raises FunctionFault."""
_UNLOADABLE = "function_load"


class Upload(msgspec.Struct, frozen=True):
    """An upload that was compiled, loaded and tried. `warning` is what the trial had to say."""

    artefact: Artefact
    manifest: Manifest
    program: Program
    warning: str

    def version(self, tenant: str, number: int, digest: str, created: float) -> Version:
        """The version that it becomes."""
        return Version(
            tenant=tenant,
            name=self.manifest.name,
            number=number,
            digest=digest,
            artefact=self.artefact.digest,
            kind=self.artefact.kind,
            size=self.artefact.facts.bytes,
            manifest=msgspec.structs.replace(self.manifest, build=Build()),
            created=created,
            warning=self.warning,
            code=self.artefact.bytes,
            cpu=self.artefact.cpu,
            facts=self.artefact.facts,
        )


class Loader:
    """Compiles, loads and tries functions, and removes artefacts that no version uses. On one event loop."""

    def __init__(
        self,
        compiler: Compiler,
        load: Load,
        graveyard: Graveyard,
        *,
        used: Callable[[], set[str]],
        settings: Functions,
        clock: Clock,
    ) -> None:
        """Args: `used` gives the artefacts of all versions that are kept."""
        self._used = used
        self._compiler = compiler
        self._load = load
        self._graveyard = graveyard
        self._settings = settings
        self._clock = clock
        self._files = asyncio.Lock()
        self._held: Counter[str] = Counter()

    @asynccontextmanager
    async def holding(self, artefact: bytes) -> AsyncIterator[str]:
        """The digest of `artefact`, which is not removed while this lasts; afterwards it is, if no version uses it."""
        digest = await asyncio.to_thread(artefact_digest, artefact)
        async with self._files:
            self._held[digest] += 1
        try:
            yield digest
        finally:
            self._held[digest] -= 1
            self._held += Counter()  # drops what nobody holds
            await self.forget((digest,))

    async def upload(self, tenant: str, manifest: Manifest, artefact: bytes) -> Upload:
        """Compile, load and try an upload; whoever gets it buries its program. Raises FunctionRefused, Overloaded."""
        limits = granted(manifest, self._settings).limits
        compiled = await self._compiler.compile(artefact)
        _fits(compiled, limits)
        try:
            program = await asyncio.to_thread(self._load, compiled, self._group(tenant, manifest))
        except FunctionFault as fault:
            raise FunctionRefused(f"it cannot be loaded: {fault.message}", code=_UNLOADABLE) from fault
        try:
            warning = await asyncio.to_thread(smoke, program, limits, self._clock.now())
        except BaseException:
            self._graveyard.bury(program)
            raise
        return Upload(compiled, manifest, program, warning)

    async def stored(self, version: Version) -> Loaded:
        """A version that is kept, loaded. Raises FunctionRefused if that cannot be, Overloaded."""
        group = self._group(version.tenant, version.manifest)
        try:
            compiled = await self._compiler.stored(version.artefact)
            program = await asyncio.to_thread(self._load, compiled, group)
        except FunctionFault as fault:
            raise FunctionRefused(f"{version.label} cannot be loaded: {fault.message}", code=_UNLOADABLE) from fault
        return Loaded(version, program, self._graveyard.bury)

    async def attempted(self, version: Version) -> tuple[Loaded, str]:
        """The same; else what stands for the version, and why."""
        try:
            return await self.stored(version), ""
        except (EdgeCacheError, OSError) as error:
            trouble = str(error)
            return Loaded(version, Unloadable(version.kind, trouble), self._graveyard.bury), trouble

    async def kept(self) -> frozenset[str]:
        """The artefacts on disk."""
        return await asyncio.to_thread(self._compiler.vault.digests)

    async def forget(self, artefacts: Iterable[str]) -> None:
        """Remove those of `artefacts` that neither a version uses nor somebody is uploading now."""
        async with self._files:
            for digest in set(artefacts) - self._used() - set(self._held):
                await asyncio.to_thread(self._compiler.vault.forget, digest)

    def _group(self, tenant: str, manifest: Manifest) -> str | None:
        """Functions that run in a process of their own share it with those of their tenant, and with no other's."""
        return tenant if isolated(tenant, manifest, self._settings) else None


def _fits(artefact: Artefact, limits: Limits) -> None:
    """Raise FunctionRefused for a function that could never begin."""
    needed = artefact.facts.memory
    if needed > limits.memory:
        text = f"its memory has {needed:,} bytes at the start, of at most {limits.memory:,} (limits.memory_mb)"
        raise FunctionRefused(f"{text}: {needed - limits.memory:,} too many", code="memory")
