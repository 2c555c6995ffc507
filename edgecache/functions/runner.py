"""Runs functions: gives each call its limits, its host and a place to run, and has it booked.

A call is a `Job`. What its answer means is for its `read` to say, within the call, so that an answer that means nothing
counts as a failure of the version. Nobody's cancellation stops a call in a thread: its own deadline does.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from hashlib import blake2b
from itertools import count
from secrets import token_bytes
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from edgecache.clock import Clock
from edgecache.config import Functions
from edgecache.errors import Fault, FunctionFault
from edgecache.functions.accounts import Accounts, Entry
from edgecache.functions.capabilities import Capabilities
from edgecache.functions.context import Context
from edgecache.functions.journal import Journal
from edgecache.functions.manifest import Phase
from edgecache.functions.placing import INLINE, INLINE_BYTES, PROCESS, THREAD, Place
from edgecache.functions.registry import Registry
from edgecache.functions.secrets import Secrets
from edgecache.functions.tally import Stats, stats
from edgecache.functions.turns import Turn, Turns
from edgecache.functions.versions import Loaded, Version
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Tenant
from edgecache.wasm.base import Host, Limits, Request, Response, Usage
from edgecache.wasm.hostcalls import answered

T = TypeVar("T")
_OURS = frozenset((Fault.CPU, Fault.WALL, Fault.MEMORY, Fault.STACK, Fault.BUDGET, Fault.SIZE, Fault.POOL, Fault.CRASH))
"""Faults whose message is our own. Those of others hold what a function has thrown, with stack and values."""
_HELD = 64 * 1024
"""Bytes of log lines that a call on the event loop holds back."""


class Stream(Host, Protocol):
    """A host that answers `body.*`; `gone` once nobody wants the answer any more."""

    gone: bool


class Job(msgspec.Struct, Generic[T]):
    """One call of a function for a request of `tenant`; `read` raises FunctionFault for an answer that means nothing.

    `stream` takes what the function writes part by part.
    """

    loaded: Loaded
    phase: Phase
    request: Request
    read: Callable[[Response], T]
    tenant: Tenant
    request_id: str = ""
    model: str = ""
    stream: Stream | None = None


class _Ended(msgspec.Struct, Generic[T]):
    """How a call ended: with `result`, with `fault`, or on the loop with an answer too `large` to be read there."""

    begun: float
    seconds: float
    usage: Usage | None = None
    result: T | None = None
    fault: FunctionFault | None = None
    large: bool = False


class Runner:
    """Runs the functions of one POP. To be used on one event loop; `close` waits for calls in progress."""

    def __init__(
        self,
        registry: Registry,
        capabilities: Capabilities,
        journal: Journal,
        secrets: Secrets,
        *,
        settings: Functions,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._capabilities = capabilities
        self._secrets = secrets
        self._accounts = Accounts(registry, journal)
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._turns = Turns(settings.threads)
        self._generation = -1
        self._places: dict[tuple[str, str, str], Place] = {}
        self._key = token_bytes(32)
        self._calls = count()

    def seed(self) -> bytes:
        """What keys the randomness of one call: never the same, and known to nobody."""
        return blake2b(b"%d" % next(self._calls), key=self._key, digest_size=32).digest()

    # ------------------------------------------------------------------------------------------ where
    def place(self, version: Version) -> Place:
        """What is known of `version`; forgotten once it runs no more."""
        if self._registry.generation != self._generation:
            self._generation = self._registry.generation
            running = [
                each.version for active in self._registry.active() for each in (active.stable, active.canary) if each
            ]
            self._turns.shared = len({version.tenant for version in running}) > 1
            kept = set(map(_name, running))
            self._places = {name: place for name, place in self._places.items() if name in kept}
        name = _name(version)
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = Place(version, self._settings, self._metrics)
        return place

    def stats(self, version: Version) -> Stats:
        """What the calls of `version` took and how they ended, and where the next one would run."""
        self.flush()
        place = self.place(version)
        return stats(place.tally, place.where)

    def flush(self) -> None:
        """Book the calls that ended just now, which else waits for a moment."""
        self._accounts.flush()

    # ------------------------------------------------------------------------------------------ calls
    def now(self, job: Job[T]) -> T | None:
        """The result of a call on the event loop; None = it may not run there, or was stopped.

        Raises FunctionFault.
        """
        place = self.place(job.loaded.version)
        if len(job.request.body) > INLINE_BYTES or not place.inline:
            return None
        host = _Held(self, job, place)
        ended = self._call(job, place.tight, host)
        fault = ended.fault
        if fault is not None and fault.fault is Fault.CPU:
            place.suspect = True
            return None  # it had no effect yet, and is made again in a thread
        if ended.large:
            place.overdone()
            return None  # likewise
        self._note(job, place, INLINE, ended)
        if fault is not None:
            raise _told(job, fault)
        return ended.result

    async def run(self, job: Job[T]) -> T:
        """The result of a call. Raises FunctionFault."""
        result = self.now(job)
        return await self.start(job) if result is None else result

    def start(self, job: Job[T]) -> "asyncio.Future[T]":
        """A call in a thread; the future raises FunctionFault, as does this where no thread is to be had."""
        place, owner = self.place(job.loaded.version), job.loaded.version.tenant
        if count := self._turns.full(owner):
            fault = FunctionFault(
                Fault.POOL, f"{count} calls of functions of {owner} run or wait already, which is all it may have"
            )
            self._note(job, place, place.where, _Ended(self._clock.now(), 0.0, fault=fault))
            raise _told(job, fault)
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        work, ended = partial(self._in_thread, job, place), partial(self._ended, job, place, result)
        turn = Turn(owner, work, ended)
        self._turns.take(turn)
        result.add_done_callback(lambda _: self._turns.leave(turn))  # whoever waited has left
        return result

    def _ended(self, job: Job[T], place: Place, result: "asyncio.Future[T]", call: "Future[_Ended[T]]") -> None:
        """A call in a thread has ended, or was given up before it began."""
        if call.cancelled():
            result.cancel()
        elif (error := call.exception()) is not None:
            _settle(result, error)
        else:
            ended = call.result()
            place.judge(ended.fault.fault if ended.fault is not None else None, ended.usage)
            self._note(job, place, PROCESS if place.isolated else THREAD, ended)
            _settle(result, _told(job, ended.fault) if ended.fault is not None else None, ended.result)

    def _in_thread(self, job: Job[T], place: Place) -> _Ended[T]:
        return self._call(job, place.limits, self.host(job, place.limits))

    def host(self, job: Job[Any], limits: Limits) -> Host:
        """The host of a call that begins now."""
        deadline = self._clock.monotonic() + limits.wall
        context = Context(job.tenant, job.phase, deadline, job.request_id, job.model, job.stream)
        return self._capabilities.host(job.loaded.version, context)

    def _call(self, job: Job[T], limits: Limits, host: Host) -> _Ended[T]:
        loaded, clock = job.loaded, self._clock
        begun = clock.monotonic()
        ended: _Ended[T] = _Ended(clock.now(), 0.0)
        loaded.enter()
        try:
            response = loaded.program.run(job.request, limits, host)
            ended.usage = response.usage
            ended.large = isinstance(host, _Held) and len(response.body) > INLINE_BYTES
            if not ended.large:
                ended.result = job.read(response)
                if isinstance(host, _Held):
                    host.tell()
        except FunctionFault as fault:
            version = loaded.version  # what a script throws may hold what nobody may read
            ended.fault = FunctionFault(fault.fault, self._secrets.redact(version.tenant, version.name, fault.message))
        finally:
            loaded.leave()
        ended.seconds = clock.monotonic() - begun
        return ended

    def _note(self, job: Job[Any], place: Place, where: str, ended: _Ended[Any]) -> None:
        self._accounts.note(
            Entry(
                job.loaded,
                place,
                where,
                job.phase.value,
                job.request,
                job.request_id,
                ended.begun,
                ended.seconds,
                ended.usage,
                ended.fault,
                job.stream is not None and job.stream.gone,
            )
        )

    async def close(self) -> None:
        """Wait for calls in progress, which their deadlines end, and refuse those that wait for a thread."""
        await self._turns.close()
        self._accounts.flush()


class _Held:
    """The host of a call on the event loop: made when it is asked for, and what is logged is told when it has ended.

    A call that is stopped there is made again: what it logged must not stand there twice.
    """

    __slots__ = ("_bytes", "_host", "_job", "_lines", "_place", "_runner")

    def __init__(self, runner: Runner, job: Job[Any], place: Place) -> None:
        self._runner = runner
        self._job = job
        self._place = place
        self._host: Host | None = None
        self._lines: list[bytes] | None = None
        self._bytes = 0

    def call(self, op: str, argument: bytes) -> bytes:
        """As `wasm.base.Host`."""
        if op == "log" and self._bytes < _HELD:
            self._lines = [*(self._lines or ()), argument]
            self._bytes += len(argument) + 64
            return answered()
        return self._real().call(op, argument)

    def tell(self) -> None:
        """Log what was held; raises FunctionFault if that is more than the call may."""
        for line in self._lines or ():
            self._real().call("log", line)

    def _real(self) -> Host:
        if self._host is None:
            self._host = self._runner.host(self._job, self._place.tight)
        return self._host


def _name(version: Version) -> tuple[str, str, str]:
    return version.tenant, version.label, version.digest


def _told(job: Job[Any], fault: FunctionFault) -> FunctionFault:
    """`fault` for the client: by how much a limit was passed, but nothing that came out of the sandbox.

    Its cause is `fault` itself, for the function's developer.
    """
    label = job.loaded.version.label
    text = (
        f"{label}: {fault.message}." if fault.fault in _OURS else f"{label} failed ({fault.fault}); its log says more."
    )
    told = FunctionFault(fault.fault, f"Function {text}")
    told.__cause__ = fault
    return told


def _settle(result: "asyncio.Future[T]", error: BaseException | None, found: T | None = None) -> None:
    """Settle `result`, unless whoever waited for it has left."""
    if result.done():
        return
    if error is not None:
        result.set_exception(error)
    else:
        result.set_result(found)  # type: ignore[arg-type] # it ended with one or the other
