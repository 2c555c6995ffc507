"""What runs, on disk and in memory: the records, loaded versions, and the change of one split to another.

Who may change what, and when, is `functions.registry`'s part.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from edgecache.clock import Clock
from edgecache.config.tree import Functions
from edgecache.errors import NotFound, StoreCorrupt
from edgecache.functions.canary import Trial
from edgecache.functions.journal import Journal, Record
from edgecache.functions.ledger import Books, Ledger, Owner
from edgecache.functions.loading import Loader
from edgecache.functions.versions import Active, Change, Deployment, Loaded, Split, Version, What, surplus
from edgecache.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_AT_ONCE: Final = 4
"""Functions that are loaded side by side at the start."""


class Said(msgspec.Struct, frozen=True):
    """Who wants a change, and what they say of it; harmless to print."""

    author: str
    message: str


class Roster:
    """The functions of one POP as they are. Used on one event loop; whoever changes a function holds its lock."""

    def __init__(
        self,
        ledger: Ledger,
        loader: Loader,
        *,
        condemned: Callable[[Owner, int, str], None],
        settings: Functions,
        journal: Journal,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Args: `condemned` is told, in any thread, which canary (by number) must go, and why."""
        self._ledger = ledger
        self._loader = loader
        self._condemned = condemned
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self.deployments: dict[Owner, Deployment] = {}
        self.versions: dict[Owner, dict[int, Version]] = {}
        self.active: dict[Owner, Active] = {}
        self.snapshot: tuple[Active, ...] = ()
        self.generation = 0

    def found(self, owner: Owner) -> Deployment:
        """A function; raises NotFound."""
        try:
            return self.deployments[owner]
        except KeyError:
            raise NotFound(f"There is no function {owner[1][:63]!r}.", code="no_function") from None

    def artefacts(self) -> set[str]:
        """The artefacts of all versions that are kept."""
        return {version.artefact for versions in self.versions.values() for version in versions.values()}

    async def load(self) -> None:
        """Read what is kept, and load what ran. What cannot be loaded fails its calls; `Active.trouble` says why.

        Raises StoreCorrupt where a function or its stable version cannot be read: without it, answers would pass that
        it keeps back. Other versions that cannot be read are left out.
        """
        books = await asyncio.to_thread(self._ledger.load)
        _check(books)
        if books.damaged:
            log.error("%d records of versions cannot be read and are left out", books.damaged)
        self.deployments = books.deployments
        self.versions = {owner: books.versions.get(owner, {}) for owner in books.deployments}
        turn = asyncio.Semaphore(_AT_ONCE)
        made = await asyncio.gather(*(self._started(turn, owner) for owner in self.deployments))
        self._show(dict(zip(self.deployments, made, strict=True)))
        if not books.damaged:  # else something may still need what seems unused
            await self._loader.forget(await self._loader.kept())

    async def _started(self, turn: asyncio.Semaphore, owner: Owner) -> Active:
        deployment, versions = self.deployments[owner], self.versions[owner]
        number = deployment.split.canary
        async with turn:
            loaded, trouble = await self._loader.attempted(versions[deployment.split.stable])
            canary, failed = None, "" if number is None else f"its canary, version {number}, cannot be read"
            if number in versions:
                canary, failed = await self._loader.attempted(versions[number])
        if trouble or failed:
            log.error("function %s of %s: %s", owner[1], owner[0], "; ".join(filter(None, (trouble, failed))))
        return self._made(deployment, loaded, None if failed else canary, trouble or failed)

    async def switch(
        self,
        owner: Owner,
        split: Split,
        what: What,
        said: Said,
        *,
        fresh: Version | None = None,
        loaded: tuple[Loaded, ...] = (),
        at_once: bool = False,
    ) -> Deployment:
        """Let `split` run, on disk first, or `at_once`. The caller has the lock of the function's changes."""
        before = self.deployments.get(owner)
        if before is not None and before.split == split and not fresh and self._sound(owner):
            return before
        versions = self.versions.get(owner, {}) | ({fresh.number: fresh} if fresh else {})
        stable, canary = await self._at_hand(owner, split, versions, loaded)
        change = Change(self._clock.now(), said.author, what, said.message, before.split if before else None, split)
        deployment = (before or Deployment(*owner, split, 0)).changed(change, max(split.numbers()))
        gone = surplus(versions, split, self._settings.versions)
        save = partial(self._ledger.save, deployment, fresh=fresh, gone=gone, first=before is None)
        if not at_once:
            await asyncio.to_thread(save)
        self.deployments[owner] = deployment
        self.versions[owner] = {number: version for number, version in versions.items() if number not in gone}
        self._show(self.active | {owner: self._made(deployment, stable, canary)})
        self._tell(deployment, change)
        if at_once:
            await asyncio.to_thread(save)
        await self._loader.forget({versions[number].artefact for number in gone})
        return deployment

    def _sound(self, owner: Owner) -> bool:
        active = self.active.get(owner)
        return active is not None and not active.trouble

    async def _at_hand(
        self, owner: Owner, split: Split, versions: dict[int, Version], loaded: tuple[Loaded, ...]
    ) -> tuple[Loaded, Loaded | None]:
        """The versions of `split`: those given, those that run already, and what is left to load."""
        found = {each.version.number: each for each in loaded}
        active = self.active.get(owner)
        for each in (active.stable, active.canary) if active and not active.trouble else ():
            if each is not None:
                found.setdefault(each.version.number, each)
        for number in split.numbers():
            if number not in versions:
                raise NotFound(f"Version {number} of {owner[1]} cannot be read.", code="no_version")
            if number not in found:
                found[number] = await self._loader.stored(versions[number])
        return found[split.stable], None if split.canary is None else found[split.canary]

    def _made(self, deployment: Deployment, stable: Loaded, canary: Loaded | None, trouble: str = "") -> Active:
        owner, before = (deployment.tenant, deployment.name), self.active.get((deployment.tenant, deployment.name))
        trial = None
        if canary is not None:
            number = canary.version.number
            same = before is not None and before.deployment.split.numbers() == deployment.split.numbers()
            trial = before.stable.trial if before is not None and same else None
            trial = trial or Trial(
                number,
                calls=self._settings.canary_calls,
                margin=self._settings.canary_margin,
                condemned=partial(self._condemned, owner, number),
            )
            canary.trial = trial
        stable.trial = trial
        return Active(deployment, stable, canary, trouble)

    def _show(self, active: dict[Owner, Active]) -> None:
        """Make `active` what readers see."""
        for owner in self.active.keys() - active.keys():
            self._metrics.function_code.remove(*owner)
        for owner, each in active.items():
            code = each.stable.version.code + (each.canary.version.code if each.canary else 0)
            self._metrics.function_code.labels(*owner).set(code)
        self.active = active
        self.snapshot = tuple(each for _, each in sorted(active.items()))
        self.generation += 1

    def _tell(self, deployment: Deployment, change: Change) -> None:
        automatic = change.what == "auto_rollback"
        steps = f"{change.before.text} -> {change.after.text}" if change.before else change.after.text
        text = f"{change.what}: {steps}" + (f": {change.message}" if change.message else "")
        level = logging.WARNING if automatic else logging.INFO
        log.log(level, "function %s of %s: %s", deployment.name, deployment.tenant, text)
        record = Record(
            at=change.at,
            event="deploy",
            level="warn" if automatic else "info",
            text=text,
            version=change.after.stable,
            data={"who": change.who, "what": change.what},
        )
        self._journal.publish(deployment.tenant, deployment.name, record)

    async def remove(self, owner: Owner) -> tuple[Active | None, set[str]]:
        """Forget a function, on disk first: how it ran, and the artefacts of its versions. Raises NotFound."""
        self.found(owner)
        await asyncio.to_thread(self._ledger.remove, *owner)
        del self.deployments[owner]
        artefacts = {version.artefact for version in self.versions.pop(owner).values()}
        active = self.active.get(owner)
        self._show({each: found for each, found in self.active.items() if each != owner})
        return active, artefacts

    def clear(self) -> None:
        """Let go of all programs; only where no call can be made any more."""
        held = [loaded for active in self.snapshot for loaded in (active.stable, active.canary) if loaded]
        self._show({})
        for loaded in held:
            loaded.release()


def _check(books: Books) -> None:
    """Raise StoreCorrupt for functions of which it cannot be said what runs."""
    spoilt = [f"the record of {who} is damaged" for who in books.lost] + [
        f"version {each.split.stable} of function {name} of {tenant}, its stable one, is damaged or gone"
        for (tenant, name), each in sorted(books.deployments.items())
        if each.split.stable not in books.versions.get((tenant, name), {})
    ]
    if spoilt:
        raise StoreCorrupt(
            f"{'; '.join(spoilt)}. Restore data/functions/state from a backup, delete it and deploy anew, or set"
            " functions.enabled = false"
        )
