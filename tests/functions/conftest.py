"""A host with everything real behind it but the pipeline: key-value data in LMDB, secrets, journal, HTTP, a loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from edgecache.clock import ManualClock, SystemClock
from edgecache.config.tree import Functions
from edgecache.functions.answers import Found, Inference, Options
from edgecache.functions.capabilities import Capabilities, Context, FunctionHost
from edgecache.functions.host.calling import Services
from edgecache.functions.host.waiting import Waiting
from edgecache.functions.journal import Journal
from edgecache.functions.manifest import Allow, Manifest, Phase, Quotas
from edgecache.functions.registry import Registry
from edgecache.functions.secrets import Secrets
from edgecache.functions.versions import Version, version_digest
from edgecache.store.functions import FunctionStore
from edgecache.store.kv import KvStore
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Tenant
from edgecache.upstream.network import Reach
from edgecache.upstream.outbound import Outbound
from edgecache.wasm.base import Host, Kind, Limits, Program, Request, Response, pack
from edgecache.wasm.compiler import Artefact, Compiler
from edgecache.wasm.engine import Engine
from edgecache.wasm.hostcalls import Code, HostRefused, result
from edgecache.wasm.load import load


class Loopback:
    """Every name is this machine."""

    async def addresses(self, _host: str, _port: int, _owner: str) -> list[Any]:
        return [ip_address("127.0.0.1")]


class Parrot:
    """Answers that repeat the question. Serves one model, embeds in two dimensions, has one answer stored."""

    def __init__(self) -> None:
        self.options: list[Options] = []
        self.errors: dict[str, Exception] = {}

    async def infer(self, context: Context, model: str, prompt: str, options: Options) -> Inference:
        if model != "parrot":
            raise HostRefused(Code.NOT_FOUND, f"there is no model {model}")
        self.options.append(options)
        if prompt == "wait":
            await asyncio.Event().wait()
        if prompt in self.errors:
            raise self.errors[prompt]
        return Inference(f"{context.tenant.id}: {prompt}", len(prompt), 2)

    async def embed(self, _context: Context, _model: str, texts: Any) -> tuple[int, list[bytes]]:
        return sum(map(len, texts)), [bytes(8)] * len(texts)

    async def lookup(self, _context: Context, _model: str, question: str) -> Found | None:
        return Found(b'{"stored":true}', 0.97, 7) if question == "known" else None


@pytest.fixture(scope="session")
def loop_beside() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, as the daemon's is for the threads of functions."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Bench:
    """Hosts of functions with this or that manifest, and what they leave behind."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.answers = Parrot()
        self.state = FunctionStore(folder / "state", sync=False)
        self.secrets = Secrets(self.state, folder / "key", clock=self.clock)
        self.journal = Journal(lines=100)
        self.settings = Functions(fetch=True, kv_bytes=10_000, kv_keys=10)
        self.services = Services(
            kv=KvStore(self.state, clock=self.clock, max_bytes=10_000, max_keys=10),
            secrets=self.secrets,
            journal=self.journal,
            clock=self.clock,
            outbound=Outbound(Reach(["127.0.0.0/8"]), Loopback(), most=1024 * 1024),
            answers=self.answers,
            waiting=Waiting(loop),
        )

    def host(
        self,
        allow: Allow | None = None,
        *,
        tenant: str = "acme",
        name: str = "f",
        seconds: float = 10.0,
        variables: dict[str, str] | None = None,
        stream: Any = None,
        **quotas: int,
    ) -> FunctionHost:
        """The host of one call of a function that is granted `allow`."""
        manifest = Manifest(name=name, allow=allow or Allow(), limits=Quotas(**quotas), variables=variables or {})
        version = Version(
            tenant=tenant,
            name=name,
            number=3,
            digest=version_digest("00" * 32, manifest),
            artefact="00" * 32,
            kind=Kind.CORE,
            size=1,
            manifest=manifest,
            created=0.0,
        )
        made = Capabilities(self.services, settings=self.settings, metrics=self.metrics)
        deadline = self.clock.monotonic() + seconds
        context = Context(Tenant(tenant), Phase.HIT, deadline, request_id="req-1", model="m", stream=stream)
        return made.host(version, context)

    def counted(self, op: str, result: str, *, tenant: str = "acme", name: str = "f") -> float:
        """How often the metrics have seen a host call."""
        return self.metrics.function_host_calls.labels(tenant, name, op, result)._value.get()

    def tokens(self, kind: str) -> float:
        """How many tokens of that type the metrics have seen."""
        return self.metrics.function_tokens.labels("acme", "f", kind)._value.get()

    def close(self) -> None:
        self.state.close()


@pytest.fixture
def bench(tmp_path: Path, loop_beside: asyncio.AbstractEventLoop) -> Iterator[Bench]:
    made = Bench(tmp_path, loop_beside)
    yield made
    made.close()


@pytest.fixture
def ask() -> Callable[..., list[bytes]]:
    """Makes a host call: the fields of its answer, or HostRefused."""

    def make(host: FunctionHost, op: str, *fields: str | bytes) -> list[bytes]:
        packed = pack(*(field.encode() if isinstance(field, str) else field for field in fields))
        return result(host.call(op, packed))

    return make


@pytest.fixture
def refusal(ask: Callable[..., list[bytes]]) -> Callable[..., tuple[Code, str]]:
    """Makes a host call that is refused: code and message."""

    def make(host: FunctionHost, op: str, *fields: str | bytes) -> tuple[Code, str]:
        with pytest.raises(HostRefused) as caught:
            ask(host, op, *fields)
        return caught.value.code, caught.value.message

    return make


# ---------------------------------------------------------------------------------------------- deployed functions


@pytest.fixture(scope="session")
def wasm_engine() -> Iterator[Engine]:
    """As a POP has it, but smaller."""
    made = Engine(instances=16, memory=16 * 1024 * 1024, tick=0.001)
    yield made
    made.close()


@pytest.fixture(scope="session")
def compiled_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Machine code that all tests share: compiling is what takes time."""
    return tmp_path_factory.mktemp("code")


class Home:
    """What a POP keeps of its functions in one folder, and a registry over it that can be stopped and started again."""

    def __init__(self, folder: Path, engine: Engine, code: Path) -> None:
        self.folder = folder
        self.engine = engine
        self.clock = ManualClock()
        self.closed: list[Program] = []
        self.isolated: list[bool] = []
        folder.mkdir()
        (folder / "code").symlink_to(code)

    async def start(self, *, fingerprint: str = "", **settings: Any) -> Registry:
        """A registry that has started, with all that belongs to it."""
        self.settings = Functions(**settings)
        self.metrics, self.tasks = Metrics(), Tasks()
        self.state = FunctionStore(self.folder / "state", sync=False)
        self.kv = KvStore(self.state, clock=self.clock, max_bytes=10_000, max_keys=10)
        self.secrets = Secrets(self.state, self.folder / "key", clock=self.clock)
        self.journal = Journal(lines=100)
        self.compiler = Compiler(
            self.folder, self.settings, key=bytes(32), fingerprint=fingerprint or self.engine.fingerprint
        )
        self.registry = Registry(
            self.state,
            self.compiler,
            self.load,
            settings=self.settings,
            kv=self.kv,
            secrets=self.secrets,
            journal=self.journal,
            clock=self.clock,
            metrics=self.metrics,
            tasks=self.tasks,
        )
        await self.registry.start()
        return self.registry

    def load(self, artefact: Artefact, group: str | None) -> Program:
        """The program of `artefact`, in this process; remembers when it is closed."""
        self.isolated.append(group is not None)
        return Noted(load(self.engine, artefact), self.closed)

    async def stop(self) -> None:
        """Stop it as a daemon does."""
        await self.registry.close()
        await self.tasks.close()
        self.state.close()

    async def settled(self) -> None:
        """Until what is to be done in the background is done."""
        await asyncio.sleep(0)
        while len(self.tasks):
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await asyncio.sleep(0)

    def deploys(self, action: str, result: str) -> float:
        """How often the metrics have seen a change."""
        return self.metrics.function_deploys.labels(action, result)._value.get()


class Noted:
    """A program that says when it is closed."""

    def __init__(self, program: Program, closed: list[Program]) -> None:
        self.kind = program.kind
        self.program = program
        self._closed = closed

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        return self.program.run(request, limits, host)

    def close(self) -> None:
        self.program.close()
        self._closed.append(self)


@pytest.fixture
async def home(tmp_path: Path, wasm_engine: Engine, compiled_code: Path) -> AsyncIterator[Home]:
    made = Home(tmp_path / "functions", wasm_engine, compiled_code)
    yield made
    if hasattr(made, "registry"):
        await made.stop()


@pytest.fixture(scope="session")
def make_home() -> type[Home]:
    """For tests that need several."""
    return Home


@pytest.fixture(scope="session")
def guest() -> Callable[..., bytes]:
    """Makes core modules: that answer with a text, after whatever `first` does, with `memory` pages at the start."""

    def make(answer: str = "hello", *, first: str = "", memory: int = 1, imports: str = "") -> bytes:
        said = f"200\\n\\n{answer}"
        length = len(said.replace("\\n", "\n"))
        return bytes(
            wat2wasm(
                f"""(module {imports}
                  (memory (export "memory") {memory}) (data (i32.const 0) "{said}")
                  (func (export "alloc") (param i32) (result i32) (i32.const 1024))
                  (func (export "handle") (param i32 i32) (result i64) {first} (i64.const {length})))"""
            )
        )

    return make
