"""What the end-to-end tests run against: the scripted core, NVIDIA's Dynamo, or a server named on the command line."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecache.config import Upstream
from edgecache.upstream.dialects import DIALECTS

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-dynamo" / "bin" / "python"


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
        targets = [Target(dialect) for dialect in sorted(DIALECTS)]
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
