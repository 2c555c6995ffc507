"""What was deployed: versions, which of them runs, how that came about, and the loaded ones that calls are made to.

A version never changes: it is named by the hash of its artefact and manifest, and numbered per function from 1. Which
ones run is a `Split`; every change of it leaves a `Change`. Deciding changes is `functions.registry`'s part.
"""

import weakref
from collections.abc import Callable, Iterable
from hashlib import blake2b, sha256
from threading import Lock
from typing import Final, Literal

import msgspec

from edgecache.errors import Fault, FunctionFault
from edgecache.functions.canary import Trial
from edgecache.functions.manifest import Manifest, canonical
from edgecache.wasm.base import Host, Kind, Limits, Program, Request, Response, pack
from edgecache.wasm.facts import Facts

HISTORY: Final = 200
"""Changes that are remembered of one function."""

What = Literal["deploy", "promote", "rollback", "auto_rollback", "split"]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One uploaded state of a function.

    `digest` names it, `artefact` is the SHA-256 of what was uploaded, both in hex; `size` has its bytes, `code` those
    of its machine code, `cpu` the s that compiling took. `signer` is the fingerprint of the key that signed it,
    `warning` what its trial call ended in where that was no answer. `facts` are the artefact's, for people to read.
    """

    tenant: str
    name: str
    number: int
    digest: str
    artefact: str
    kind: Kind
    size: int
    manifest: Manifest
    created: float
    message: str = ""
    author: str = ""
    signer: str = ""
    warning: str = ""
    code: int = 0
    cpu: float = 0.0
    facts: Facts = Facts(bytes=0)

    @property
    def label(self) -> str:
        """As clients and logs see it: `name@number`."""
        return f"{self.name}@{self.number}"


class Split(msgspec.Struct, frozen=True):
    """Which versions run: all calls go to `stable`, but for a share `weight` that goes to `canary`, if there is one."""

    stable: int
    canary: int | None = None
    weight: float = 0.0

    def numbers(self) -> tuple[int, ...]:
        """The versions that run."""
        return (self.stable,) if self.canary is None else (self.stable, self.canary)

    @property
    def text(self) -> str:
        """For people: `@1`, or `@1 with @2 for 10.0%`."""
        return f"@{self.stable}" + ("" if self.canary is None else f" with @{self.canary} for {self.weight:.1%}")


class Change(msgspec.Struct, frozen=True):
    """One step of a function's history: when (Unix s), who, what and why, from which split to which."""

    at: float
    who: str
    what: What
    message: str
    before: Split | None
    after: Split


class Deployment(msgspec.Struct, frozen=True):
    """A function, identified by tenant and name. `last` is the highest number that a version of it ever had."""

    tenant: str
    name: str
    split: Split
    last: int
    history: tuple[Change, ...] = ()

    def changed(self, change: Change, last: int) -> "Deployment":
        """The deployment after `change`."""
        history = (*self.history, change)[-HISTORY:]
        return Deployment(self.tenant, self.name, change.after, max(self.last, last), history)

    def earlier(self) -> list[int]:
        """Versions that were stable before, the one to go back to first.

        Going back is an undo: from what was gone back to, the way leads further back, not forth again.
        """
        found: list[int] = []
        now = self.split.stable
        for change in reversed(self.history):
            if change.before is None or change.what in ("rollback", "auto_rollback"):
                continue
            if change.after.stable == now != change.before.stable:
                now = change.before.stable
                found.append(now)
        return found


def uploaded(now: Split | None, number: int, weight: float | None) -> Split:
    """The split after version `number` was uploaded, for a share `weight` of the calls or for all of them (None).

    `now` is None where nothing runs: what has nothing beside it runs alone.
    """
    if now is None or weight is None or number == now.stable:
        return Split(number)
    return Split(now.stable, number, weight)


def surplus(numbers: Iterable[int], split: Split, most: int) -> list[int]:
    """Of the versions that are kept, the oldest that are more than `most`; those that run always stay."""
    idle = sorted(set(numbers) - set(split.numbers()))
    return idle[: max(len(idle) + len(split.numbers()) - most, 0)]


def artefact_digest(artefact: bytes) -> str:
    """The name of an artefact: its SHA-256 in hex."""
    return sha256(artefact).hexdigest()


def version_digest(artefact: str, manifest: Manifest) -> str:
    """The name of a version: the SHA-256 over the artefact's and over the manifest, in hex."""
    return sha256(bytes.fromhex(artefact) + canonical(manifest)).hexdigest()


class Loaded:
    """A version that calls can be made to.

    Its program is handed back when nobody holds this object any more, so whoever can still call it need not fear that
    it is closed. `trial` is set while it takes part in a canary; `calls` are in progress.
    """

    __slots__ = ("__weakref__", "_finalizer", "_idle", "_lock", "calls", "program", "trial", "version")

    def __init__(self, version: Version, program: Program, released: Callable[[Program], object]) -> None:
        """Args: `released` takes the program when it may be closed; it is called in any thread, at any time."""
        self.version = version
        self.program = program
        self.trial: Trial | None = None
        self.calls = 0
        self._idle: Callable[[], object] | None = None
        self._lock = Lock()
        self._finalizer = weakref.finalize(self, released, program)
        self._finalizer.atexit = False

    def enter(self) -> None:
        """A call begins."""
        with self._lock:
            self.calls += 1

    def leave(self) -> None:
        """A call has ended."""
        with self._lock:
            self.calls -= 1
            idle, self._idle = (self._idle, None) if not self.calls else (None, self._idle)
        if idle is not None:
            idle()

    def when_idle(self, tell: Callable[[], object]) -> None:
        """Call `tell` once, as soon as no call is in progress, in whatever thread that is."""
        with self._lock:
            if self.calls:
                self._idle = tell
                return
        tell()

    def release(self) -> None:
        """Hand the program back now; only where nobody can call it any more."""
        self._finalizer()


class Active:
    """A function as it runs now. Immutable: every change makes a new one."""

    __slots__ = ("_key", "canary", "deployment", "stable", "trouble")

    def __init__(self, deployment: Deployment, stable: Loaded, canary: Loaded | None = None, trouble: str = "") -> None:
        """Args: `trouble` says what could not be loaded, and why; empty = all was."""
        self.deployment = deployment
        self.stable = stable
        self.canary = canary
        self.trouble = trouble
        chosen = canary.version.digest if canary else ""
        names = (deployment.tenant.encode("utf-8", "surrogatepass"), deployment.name.encode(), chosen.encode())
        self._key = blake2b(pack(*names), digest_size=32).digest()

    def pick(self, sticky: bytes) -> Loaded:
        """The version for a request whose key is `sticky`: the same for the same key.

        A larger weight only moves keys from the stable version to the canary, never back.
        """
        if self.canary is None:
            return self.stable
        place = int.from_bytes(blake2b(sticky, key=self._key, digest_size=8).digest())
        return self.canary if place < self.deployment.split.weight * 2.0**64 else self.stable


class Unloadable:
    """Stands for a version that could not be loaded: its calls fail, and `on_error` says what becomes of them."""

    def __init__(self, kind: Kind, trouble: str) -> None:
        self.kind = kind
        self._trouble = trouble

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:  # noqa: ARG002 - the protocol
        """Raise FunctionFault with what loading ended in."""
        raise FunctionFault(Fault.LOAD, self._trouble)

    def close(self) -> None:
        """Nothing to give back."""
