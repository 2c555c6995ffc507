"""Scripted clusters behind real clients, and a whole broker before them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec
import orjson
import pytest

from edgecache import config as settings
from edgecache.clock import Clock, ManualClock, SystemClock
from edgecache.config import tree as config
from edgecache.router.admission import Admission
from edgecache.router.affinity import Affinity
from edgecache.router.answer import RoutedAnswer
from edgecache.router.complexity import Complexity
from edgecache.router.dispatch import Dispatcher
from edgecache.router.health import Health
from edgecache.router.ledger import Ledger
from edgecache.router.limits import Limits
from edgecache.router.pool import Pool
from edgecache.router.reader import Reader
from edgecache.sim.upstream import ScriptedCore
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Account, Attempt, Call, Endpoint, Tenant, Terms, Wishes
from edgecache.upstream.client import UpstreamClient


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@contextlib.asynccontextmanager
async def cores() -> AsyncIterator[Callable[..., Awaitable[ScriptedCore]]]:
    """Starts scripted clusters that answer at once."""
    running: list[ScriptedCore] = []

    async def start(*models: str, **settings: Any) -> ScriptedCore:
        quick = {"time_to_first_token": 0.0, "inter_token_latency": 0.0, "dialect": "vllm"}
        core = ScriptedCore(config.Core(models=models or ("edge-test",), **{**quick, **settings}), SystemClock())
        await core.start()
        running.append(core)
        return core

    yield start
    for core in running:
        await core.stop()


@pytest.fixture
async def start_core() -> AsyncIterator[Callable[..., Awaitable[ScriptedCore]]]:
    async with cores() as start:
        yield start


@pytest.fixture
def dead_url() -> Iterator[str]:
    """Where nobody listens, for as long as the test runs."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
async def make_pool(clock: ManualClock) -> AsyncIterator[Callable[..., Pool]]:
    """A pool of clients named a, b, c …: each a URL, or a URL with its configured models."""
    clients: list[UpstreamClient] = []

    def build(*upstreams: str | tuple[str, tuple[str, ...]]) -> Pool:
        fresh = []
        for name, upstream in zip("abcdef", upstreams, strict=False):
            url, models = upstream if isinstance(upstream, tuple) else (upstream, ())
            settings = config.Upstream(name=name, url=url, dialect="vllm", models=models, connect_timeout=1.0)
            fresh.append(UpstreamClient(settings, metrics=Metrics()))
        clients.extend(fresh)
        return Pool(fresh, clock=clock)

    yield build
    for client in clients:
        await client.close()


@pytest.fixture
def make_call() -> Callable[..., Call]:
    def build(model: str = "edge-test", **fields: Any) -> Call:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
        return Call("r", Tenant("default"), Endpoint.CHAT, model, body, orjson.dumps(body))

    return build


def asked(
    model: str = "edge-test",
    *,
    terms: Terms | None = None,
    wishes: Wishes | None = None,
    include_usage: bool = False,
    endpoint: Endpoint = Endpoint.CHAT,
    **fields: Any,
) -> Call:
    """A request with an account of its own, which stays open, so that its attempts can be looked at."""
    content = {"messages": [{"role": "user", "content": "What do the lantern and the harbour have in common?"}]}
    body = {"model": model, **(content if endpoint is Endpoint.CHAT else {}), **fields}
    call = Call("r", Tenant("default", terms=terms or Terms()), endpoint, model, body, orjson.dumps(body))
    stream = body.get("stream") is True
    return msgspec.structs.replace(
        call, stream=stream, include_usage=include_usage, wishes=wishes or Wishes(), account=Account()
    )


async def whole(answer: RoutedAnswer) -> bytes:
    """The bytes of an answer, streamed or not; it is closed."""
    try:
        if not answer.streaming:
            return await answer.read()
        return b"".join([chunk.visible async for chunk in answer.chunks()])
    finally:
        await answer.aclose()


async def until(true: Callable[[], bool]) -> None:
    """Wait until `true` says so, five seconds at most."""
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.002)


@dataclass
class Broker:
    """A dispatcher, and the parts of it that tests look at."""

    dispatcher: Dispatcher
    pool: Pool
    metrics: Metrics
    tasks: Tasks
    admission: Admission
    health: Health
    limits: Limits
    ledger: Ledger
    violations: int = 0

    def count(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 where it has never been touched."""
        self.dispatcher.settle()
        return self.metrics.registry.get_sample_value(f"edgecache_{name}", labels) or 0.0

    @property
    def idle(self) -> bool:
        """Whether the board shows nothing in progress."""
        board = self.pool.board
        return not board.inflight.any() and not board.unanswered.any() and not (board.oldest < float("inf")).any()

    async def known_to_be(self, *, overhead: float = 0.01, decode: float = 0.0, spread: float = 0.005) -> None:
        """As if answers had taught how fast every upstream is: seconds to the first token, and a token after that."""
        offers = await self.pool.offers("edge-test")
        offers.overhead[:], offers.decode[:], offers.spread[:], offers.prefill[:] = overhead, decode, spread, 0.0
        offers.seen[:] = 100
        offers.heard[:] = offers.seen.sum()

    def begin(self, call: Call) -> asyncio.Task[RoutedAnswer]:
        """Dispatch `call` in a task of its own; what is left of it at the end of the test is cancelled."""
        return self.tasks.spawn(self.dispatcher.dispatch(call), name="request")

    async def served(self, call: Call) -> tuple[str, bytes]:
        """Who answered `call`, and with what."""
        answer = await self.dispatcher.dispatch(call)
        said = answer.upstream, await whole(answer)
        self.dispatcher.settle()
        return said


def outcomes(call: Call) -> list[tuple[str, str]]:
    """Who was asked for `call`, in order, and what became of it."""
    return [(attempt.upstream, attempt.outcome) for attempt in attempts(call)]


def attempts(call: Call) -> list[Attempt]:
    """The attempts booked for a call of `asked`."""
    assert call.account is not None
    return call.account.attempts


def judge(probability: float) -> Complexity:
    """An estimate that holds every question, of two numbers, for as easy as that."""
    weights = {"embedder": "tiny", "dimension": 2, "weights": [0.0, 0.0], "bias": 0.0, "slope": 1.0, "offset": 0.0}
    bounds = {"format": 1, "low": probability, "high": probability}
    return Complexity.decode(orjson.dumps(weights | bounds), "tiny", 2)


@contextlib.asynccontextmanager
async def brokers() -> AsyncIterator[Callable[..., Broker]]:
    """Brokers over the upstreams given by name: a URL, or a URL and settings.

    `levels` changes the level of every class, `easy` is how easy every question is held to be.
    """
    clients: list[UpstreamClient] = []
    made: list[Broker] = []

    def build(
        upstreams: Mapping[str, str | tuple[str, Mapping[str, Any]]],
        *,
        clock: Clock | None = None,
        levels: Mapping[str, Any] | None = None,
        seed: int = 1,
        easy: float | None = None,
        **router: Any,
    ) -> Broker:
        clock, metrics, tasks = clock or SystemClock(), Metrics(), Tasks()
        fresh = []
        for name, upstream in upstreams.items():
            url, own = upstream if isinstance(upstream, tuple) else (upstream, {})
            fields: dict[str, Any] = {"dialect": "vllm", "models": ("edge-test",), "connect_timeout": 1.0, **own}
            fresh.append(UpstreamClient(settings.Upstream(name=name, url=url, **fields), metrics=metrics))
        clients.extend(fresh)
        level = msgspec.structs.replace(settings.ServiceLevel(), **(levels or {}))
        classes = settings.ServiceLevels(realtime=level, interactive=level, standard=level, batch=level)
        rules = settings.Router(classes=classes, **router)
        pool = Pool(fresh, clock=clock)
        admission = Admission(rules.max_waiting, clock=clock, metrics=metrics)
        limits = Limits(clock=clock, metrics=metrics)
        health = Health(pool, rules.ejection, clock=clock, rng=Random(seed), metrics=metrics)
        ledger = Ledger(None, clock=clock, metrics=metrics, rate=lambda _model: (0.0, 0.0))
        dispatcher = Dispatcher(
            pool,
            Reader(rules, clock=clock, complexity=None if easy is None else judge(easy)),
            admission,
            ledger,
            limits,
            health,
            Affinity(),
            settings=rules,
            tasks=tasks,
            clock=clock,
            metrics=metrics,
            rng=Random(seed),
        )
        made.append(Broker(dispatcher, pool, metrics, tasks, admission, health, limits, ledger))
        return made[-1]

    yield build
    for broker in made:
        await broker.tasks.close()
        assert broker.count("residency_violations_total") == broker.violations
    for client in clients:
        await client.close()


@pytest.fixture
async def make_broker() -> AsyncIterator[Callable[..., Broker]]:
    async with brokers() as build:
        yield build


@pytest.fixture
def run_broker() -> Callable[[Callable[..., Awaitable[None]]], None]:
    """Runs `check(start_core, make_broker)` on an event loop of its own: for tests with many examples."""

    async def run(check: Callable[..., Awaitable[None]]) -> None:
        async with cores() as start, brokers() as build:
            await check(start, build)

    return lambda check: asyncio.run(run(check))


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Script], Awaitable[str]]]:
    """Starts servers that follow `script(reader, writer, connection number)` once they have read a request's head."""
    opened: list[asyncio.Server] = []

    async def start(script: Script) -> str:
        count = 0

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await reader.readuntil(b"\r\n\r\n")
                await script(reader, writer, count)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        opened.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in opened:
        server.close()
