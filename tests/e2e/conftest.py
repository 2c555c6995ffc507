"""What the end-to-end tests run against: the scripted core, Dynamo, guidellm's mock server, one that is named."""

import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from edgecache.clock import SystemClock
from edgecache.config import Upstream
from edgecache.upstream.dialects import DIALECTS
from tests.conftest import Pop
from tests.e2e.scene import Scene, staged

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-dynamo" / "bin" / "python"
GUIDELLM = HERE.parents[1] / ".venv-guidellm" / "bin" / "guidellm"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Target:
    """The upstream under test: one at `url`, Dynamo itself if `real`, else the scripted core plays it."""

    dialect: str
    url: str | None = None
    real: bool = False
    model: str = "edge-test"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--upstream-url", help="base URL of a real server to run the upstream contract against")
    parser.addoption("--upstream-dialect", default="dynamo", choices=sorted(DIALECTS))
    parser.addoption("--upstream-model", default="edge-test")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" not in metafunc.fixturenames:
        return
    url = metafunc.config.getoption("--upstream-url", default=None)
    if url is None:
        targets = [Target(dialect) for dialect in sorted(DIALECTS.keys() - {"edgecache"})]
        targets.append(pytest.param(Target("dynamo", real=True), marks=pytest.mark.dynamo))
    else:
        dialect, model = (metafunc.config.getoption(f"--upstream-{name}") for name in ("dialect", "model"))
        targets = [Target(dialect, url, model=model)]
    metafunc.parametrize("target", targets, ids=lambda target: target.dialect + " itself" * target.real)


@pytest.fixture(params=["core", pytest.param("dynamo", marks=pytest.mark.dynamo)])
def upstream(request: pytest.FixtureRequest) -> SimpleNamespace:
    """What stands behind the POP, as its settings: the scripted core, and in `make e2e` NVIDIA's Dynamo too."""
    name = request.param
    url = request.getfixturevalue(name).url
    dialect = {"core": "trtllm", "dynamo": "dynamo"}[name]
    settings = Upstream(name=name, url=url, dialect=dialect, models=("edge-test",))
    return SimpleNamespace(name=name, url=url, settings=(settings,))


@contextmanager
def running(*arguments: str) -> Iterator[SimpleNamespace]:
    """Start it, yield `url`, `model`, `frontend_pid`, `mocker_pid` and `logs`, stop it."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing: run `make e2e`, which sets it up")
    process = subprocess.Popen(
        [str(PYTHON), str(HERE / "dynamo" / "start.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, said = process.communicate()
        pytest.fail(said)
    try:
        yield SimpleNamespace(**json.loads(line))
    finally:
        process.terminate()
        process.communicate(timeout=15)


@pytest.fixture(scope="session")
def dynamo() -> Iterator[SimpleNamespace]:
    """A Dynamo with the delays of its modelled GPU."""
    with running() as started:
        yield started


@pytest.fixture
def mortal_dynamo() -> Iterator[SimpleNamespace]:
    """One that a test may break."""
    with running() as started:
        yield started


@pytest.fixture
def start_dynamo() -> Iterator[Callable[..., SimpleNamespace]]:
    """Starts Dynamos that know nothing of each other, each with its own mocker; arguments are those of start.py."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(running(*arguments))


@contextmanager
def mock_server(folder: Path, *arguments: str) -> Iterator[SimpleNamespace]:
    """guidellm's mock server for the model `edge-test`: `url` and `pid`, stopped at the end."""
    if not GUIDELLM.exists():
        pytest.fail(f"{GUIDELLM} is missing: run `make e2e`, which sets it up")
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    log = folder / f"guidellm-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(GUIDELLM), "mock-server", "--host", LOOPBACK, "--port", str(port), "--model", "edge-test", *arguments],
            env={"PATH": os.defpath, "HOME": str(folder), "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        url = f"http://{LOOPBACK}:{port}"
        clock = SystemClock()
        deadline = clock.monotonic() + 60.0
        while not _lists_models(url):
            if process.poll() is not None or clock.monotonic() > deadline:
                pytest.fail(f"guidellm's mock server did not come up:\n{log.read_text(errors='replace')}")
        yield SimpleNamespace(url=url, pid=process.pid, model="edge-test")
    finally:
        process.kill()
        process.wait()


def _lists_models(url: str) -> bool:
    try:
        return httpx.get(url + "/v1/models", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def start_guidellm(tmp_path: Path) -> Iterator[Callable[..., SimpleNamespace]]:
    """Starts mock servers of guidellm; arguments are its own."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(mock_server(tmp_path, *arguments))


@pytest.fixture
async def scene(start_pop: Callable[..., Awaitable[Pop]]) -> AsyncIterator[Scene]:
    """A POP before scripted clusters; at its end nothing may be left over, unbooked, or over a border."""
    async with staged(start_pop) as made:
        yield made
