"""What the HTTP handlers work with: the collaborators of one daemon, and the state of its listeners."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING, Any

from aiohttp import web

from edgecache.clock import Clock
from edgecache.config import Config
from edgecache.http.auth import Authenticator
from edgecache.http.repeats import Repeats
from edgecache.telemetry.log import AccessLog
from edgecache.telemetry.metrics import Metrics

if TYPE_CHECKING:  # for annotations only: neither listener needs the engines to start
    from edgecache.cache.semantic import SemanticTier
    from edgecache.embed.batcher import Batcher
    from edgecache.functions.runtime import Runtime
    from edgecache.pipeline.explain import Explainer
    from edgecache.pipeline.feedback import Feedback
    from edgecache.pipeline.learner import Learner
    from edgecache.pipeline.serve import Pipeline
    from edgecache.router.dispatch import Dispatcher
    from edgecache.router.ledger import Ledger
    from edgecache.router.limits import Limits
    from edgecache.router.pool import Pool
    from edgecache.store.entries import EntryStore

Reload = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing a healthy POP has. A failed check that is not `required` means degraded, not unready."""

    name: str
    ok: bool
    detail: str = ""
    required: bool = True


class Readiness:
    """Whether this POP should get traffic, and what is missing if not."""

    def __init__(self) -> None:
        self.started = False
        self.draining = False
        self._probes: list[Callable[[], Check]] = []

    def add(self, probe: Callable[[], Check]) -> None:
        """Ask `probe` on every readiness request: it looks at state in memory and does no I/O."""
        self._probes.append(probe)

    def checks(self) -> list[Check]:
        """The word of each probe now; the first two are about the daemon itself."""
        return [
            Check("started", self.started, "" if self.started else "still starting"),
            Check("accepting", not self.draining, "draining" if self.draining else ""),
            *(probe() for probe in self._probes),
        ]

    @property
    def ready(self) -> bool:
        """All required checks pass."""
        return all(check.ok or not check.required for check in self.checks())


class Inflight:
    """The requests in progress on the public listener."""

    def __init__(self) -> None:
        self.count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> int:
        """One request more; how many there are now."""
        if self.count == 0:
            self._idle.clear()
        self.count += 1
        return self.count

    def leave(self) -> None:
        """One request fewer."""
        self.count -= 1
        if self.count == 0:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until there is none."""
        await self._idle.wait()


class RequestIds:
    """Request ids: unique, not secret. A random prefix for the process and a counter cost a tenth of a UUID."""

    def __init__(self) -> None:
        self._prefix = "req_" + secrets.token_hex(8)
        self._count = count(1)

    def mint(self) -> str:
        """A new id."""
        return f"{self._prefix}{next(self._count):08x}"


class Dates:
    """The `Date` header of the current second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def at(self, now: float) -> str:
        """RFC 9110, section 5.6.7, for Unix time `now`."""
        if int(now) != self._second:
            self._second = int(now)
            self._text = formatdate(self._second, usegmt=True)
        return self._text


@dataclass(slots=True)
class Services:
    """Everything the two listeners use, built by the daemon. `config` and `auth` are replaced by a reload."""

    config: Config
    auth: Authenticator
    clock: Clock
    metrics: Metrics
    pipeline: Pipeline
    explainer: Explainer
    learner: Learner
    feedback: Feedback
    dispatcher: Dispatcher
    limits: Limits
    ledger: Ledger
    pool: Pool
    batcher: Batcher
    store: EntryStore
    semantic: SemanticTier
    reload: Reload
    access: AccessLog | None = None
    readiness: Readiness = field(default_factory=Readiness)
    inflight: Inflight = field(default_factory=Inflight)
    ids: RequestIds = field(default_factory=RequestIds)
    dates: Dates = field(default_factory=Dates)
    runtime: Runtime | None = None
    repeats: Repeats = field(default_factory=Repeats)


SERVICES = web.AppKey("services", Services)
