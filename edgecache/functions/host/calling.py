"""One call of a function, as the operations of its host see it: who calls, what it may do, and with what it is done."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from edgecache.clock import Clock
from edgecache.functions.answers import Answers
from edgecache.functions.budget import Budget
from edgecache.functions.context import Context
from edgecache.functions.grants import Grants
from edgecache.functions.host.waiting import Waiting
from edgecache.functions.journal import Event, Journal, Level, Record
from edgecache.functions.secrets import Secrets
from edgecache.functions.versions import Version
from edgecache.store.kv import KvStore
from edgecache.upstream.outbound import Outbound
from edgecache.wasm.hostcalls import Code, HostRefused

T = TypeVar("T")
_NO_DATA: Mapping[str, Any] = {}
_LONGEST = 200
"""Characters of what an audit is about."""


@dataclass(frozen=True, slots=True)
class Services:
    """Who does what functions ask for; one set a daemon."""

    kv: KvStore
    secrets: Secrets
    journal: Journal
    clock: Clock
    outbound: Outbound
    answers: Answers
    waiting: Waiting


class Calling:
    """One call of one version of a function. Runs in one thread.

    `subject` and `effect` say for the audit what the operation at hand is about, and whether it changes, reveals or
    spends something; never a value. `tokens` are those that it took, by type.
    """

    __slots__ = ("budget", "context", "effect", "grants", "services", "subject", "tokens", "version")

    def __init__(self, version: Version, context: Context, grants: Grants, budget: Budget, services: Services) -> None:
        self.version = version
        self.context = context
        self.grants = grants
        self.budget = budget
        self.services = services
        self.subject = ""
        self.effect = False
        self.tokens: Mapping[str, int] = {}

    def about(self, subject: str, *, effect: bool = False) -> None:
        """Say what the operation is about, before it may be refused."""
        self.subject = subject
        self.effect = effect
        self.tokens = {}

    def audit(self, op: str, result: str) -> None:
        """Keep that `op` was denied, or done with an effect."""
        level: Level = "warn" if result == Code.DENIED else "info"
        about = f"{op} {self._redacted(self.subject)[:_LONGEST]}".rstrip()  # whole first: no half of a secret is left
        tokens = {f"{kind}_tokens": number for kind, number in self.tokens.items()}
        self.publish("audit", level, f"{about}: {result}", data={"op": op, "result": result, **tokens})

    def publish(self, event: Event, level: Level, line: str, *, data: Mapping[str, Any] = _NO_DATA) -> None:
        """Put a record into the function's journal, without its secrets."""
        tenant, name = self.version.tenant, self.version.name
        record = Record(
            at=self.services.clock.now(),
            event=event,
            level=level,
            text=self._redacted(line),
            version=self.version.number,
            phase=self.context.phase.value,
            request_id=self.context.request_id,
            data=data,
        )
        self.services.journal.publish(tenant, name, record)

    def _redacted(self, line: str) -> str:
        return self.services.secrets.redact(self.version.tenant, self.version.name, line)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` comes to on the daemon's loop, in the time that is left; raises HostRefused."""
        return self.services.waiting.result(work, self.budget.time_left)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what does it, what it takes (for the message), and how many fields at least and at most."""

    run: Callable[[Calling, list[bytes]], Iterable[bytes]]
    takes: str
    least: int
    most: int | None


def text(field: bytes) -> str:
    """The text in `field`; raises HostRefused where it is not UTF-8."""
    try:
        return field.decode()
    except UnicodeDecodeError as error:
        raise HostRefused(Code.INVALID, f"text is not UTF-8, at byte {error.start}") from error
