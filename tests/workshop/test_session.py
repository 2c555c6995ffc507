import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edgecache.clock import SystemClock
from edgecache.config import Functions
from edgecache.errors import FunctionFault
from edgecache.functions.manifest import Phase
from edgecache.functions.runner import Job
from edgecache.functions.runtime import Runtime
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Tenant
from edgecache.wasm.base import Request, Response
from edgecache.workshop import project
from edgecache.workshop.cases import Case, Expected
from edgecache.workshop.scripted import ScriptedAnswers
from edgecache.workshop.session import TENANT, Session

pytestmark = pytest.mark.slow
SOURCE = """
export default { fetch(request) {
  console.log("asked by", request.headers.get("x-user"));
  if (request.headers.get("x-user") === "Eve") throw new Error("go away");
  return new Response(edgecache.kv("seen").increment("calls") > 0 ? "hello" : "");
} };
"""
MANIFEST = 'name = "greet"\n[[bind]]\nphase = "route"\n[allow]\nkv = ["seen"]\n[build]\nartefact = "greet.js"\n'
ENVIRONMENT = dict(os.environ)  # noqa: TID251 - of the child


class Desk:
    """A developer's folder, a POP's functions, and what `fn dev` says."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self.folder = folder
        self.runtime = runtime
        self.said: list[str] = []
        self.deployed = asyncio.Event()
        self.session = self.begin()

    def begin(self) -> Session:
        return Session(
            self.runtime,
            project.find(self.folder),
            environment=ENVIRONMENT,
            clock=SystemClock(),
            say=self.say,
        )

    def say(self, line: str) -> None:
        self.said.append(line)
        if line.startswith("deployed"):
            self.deployed.set()

    def write(self, text: str) -> None:
        (self.folder / "greet.js").write_text(text)

    async def call(self, user: str) -> str:
        """What the function answers to a request of `user`."""
        active = self.runtime.registry.running(TENANT, "greet")
        assert active is not None
        headers = (("x-edgecache-phase", "hit"), ("x-user", user))
        request = Request("POST", "/v1/chat/completions", headers, b"{}", 1, bytes(32))
        job: Job[Response] = Job(active.stable, Phase.HIT, request, lambda response: response, Tenant(TENANT))
        return (await self.runtime.runner.run(job)).body.decode()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    folder = tmp_path / "greet"
    folder.mkdir()
    (folder / "function.toml").write_text(MANIFEST)
    (folder / "greet.js").write_text(SOURCE)
    tasks = Tasks()
    runtime = Runtime(
        tmp_path / "functions",
        Functions(instances=8),
        ScriptedAnswers(Case(name="none", expect=Expected())),
        sync=False,
        clock=SystemClock(),
        metrics=Metrics(),
        tasks=tasks,
    )
    await runtime.start()
    yield Desk(folder, runtime)
    await tasks.close()
    await runtime.close()


async def test_a_change_is_deployed_and_shown_on_the_calls_of_before(desk: Desk) -> None:
    assert await desk.session.deploy()
    assert desk.said[-1].startswith("deployed greet@1: script, ")
    assert not await desk.session.look()
    assert [await desk.call("Ada"), await desk.call("Ada"), await desk.call("Bob")] == ["hello"] * 3
    desk.said.clear()
    desk.write(SOURCE.replace('"hello"', '"goodbye"'))
    assert await desk.session.look()
    assert desk.said[0] == "changed: greet.js"
    assert desk.said[1].startswith("deployed greet@2")
    assert desk.said[2:5] == [
        "  hit /v1/chat/completions x-user=Ada",
        '    body: - "hello"',
        '    body: + "goodbye"',
    ]
    assert desk.said[-1] == "replayed 2 calls: 2 changed"
    assert await desk.call("Ada") == "goodbye"


async def test_a_call_that_fails_now_is_shown_too(desk: Desk) -> None:
    await desk.session.deploy()
    await desk.call("Ada")
    desk.write(SOURCE.replace('"Eve"', '"Ada"'))
    await desk.session.look()
    assert any("go away" in line and line.startswith("    fault: none -> ") for line in desk.said)
    with pytest.raises(FunctionFault):
        await desk.call("Ada")
    desk.said.clear()
    desk.write(SOURCE)
    await desk.session.look()
    assert any(line.endswith("-> none") for line in desk.said)


async def test_what_cannot_be_deployed_is_told_and_the_last_version_stays(desk: Desk) -> None:
    await desk.session.deploy()
    desk.write("export default {")
    assert await desk.session.look()
    assert desk.said[-1].startswith("not deployed: ")
    assert not await desk.session.look()
    assert await desk.call("Ada") == "hello"
    (desk.folder / "function.toml").write_text(MANIFEST.replace("greet", "greeting"))
    await desk.session.look()
    assert desk.said[-1] == "not deployed: the function was called greet: start `fn dev` again"


async def test_calls_are_remembered_over_a_restart(desk: Desk) -> None:
    await desk.session.deploy()
    await desk.call("Ada")
    desk.session.hits.save()
    again = desk.begin()
    await again.deploy()
    assert desk.said[-1] == "replayed 1 calls: nothing changed"


async def test_the_log_is_shown_until_it_is_stopped(desk: Desk) -> None:
    stop, seen = asyncio.Event(), asyncio.Event()
    lines: list[Any] = []

    def shown(record: Any) -> str:
        lines.append(record)
        if record["event"] == "call":
            seen.set()
        return "shown"

    running = asyncio.ensure_future(desk.session.run(shown, stop.wait(), watch=True))  # noqa: TID251 - of the test
    async with asyncio.timeout(60):
        await desk.deployed.wait()
        await desk.call("Ada")
        await seen.wait()
    stop.set()
    await running
    assert [line["text"] for line in lines if line["event"] == "log"] == ["asked by Ada"]
    assert "shown" in desk.said
    assert (desk.folder / ".edgecache" / "hits.jsonl").exists()
