import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from edgecache.cli.fn_tail import line
from edgecache.errors import EdgeCacheError
from edgecache.functions.journal import Filter

SCRIPT = """
export default { async fetch(request) {
  const user = request.headers.get("x-user");
  console.log("asked by", user);
  if (user === "Eve") throw new Error("go away");
  return new Response(null, { status: 204 });
} };
"""


def test_a_record_is_a_line() -> None:
    record = {
        "at": 1.5, "event": "call", "version": 3, "phase": "hit", "outcome": "ok", "request_id": "r1",
        "usage": {"cpu": 0.001, "wall": 0.0021, "host_calls": 0, "memory": 0},
    }  # fmt: skip
    assert line(record).split(".", 1)[1] == "500 ok     @3 hit 2.10 ms [r1]"
    assert line({"at": 0, "event": "log", "level": "warn", "text": "a\x1b[0m"}).endswith(" WARN   a\\x1b[0m")
    assert line({"at": 0, "event": "deploy", "text": "@1 -> @2"}).endswith(" deploy @1 -> @2")


@pytest.mark.slow
async def test_what_a_function_said_can_be_narrowed(start_developer: Callable[..., Awaitable[Any]]) -> None:
    developer = await start_developer()
    (developer.folder / "function.wasm").write_text(SCRIPT)
    await developer.here("deploy")
    journal, called = developer.pop.daemon.services.runtime.journal, 0
    with journal.subscribe("default", "greet", Filter(events=("call",))) as calls:
        for user in ("Ada", "Ada", "Eve", "Eve"):  # the first one misses
            await ask(developer.pop, user)
        async with asyncio.timeout(60):
            while called < 3:
                await anext(calls)
                called += 1

    async def records(*options: str) -> list[dict[str, Any]]:
        told = await developer.run("tail", "--no-follow", "--format", "json", "--name", "greet", *options)
        assert told.exit_code == 0, told.exception
        return [json.loads(each) for each in told.stdout.splitlines()]

    assert {each["event"] for each in await records()} == {"deploy", "log", "call"}
    assert [each["text"] for each in await records("--search", "by ada")] == ["asked by Ada"]
    assert {each["outcome"] for each in await records("--status", "ok")} == {"ok"}
    assert {each["outcome"] for each in await records("--status", "error")} == {"trap"}
    assert {each["level"] for each in await records("--level", "warn")} <= {"warn", "error"}
    assert await records("--version", "2") == []
    assert {each.get("phase") for each in await records("--phase", "hit")} == {"hit"}
    assert len(await records("--lines", "1")) == 1
    assert [each["text"] for each in await records("--event", "log")][:2] == ["asked by Ada", "asked by Eve"]
    pretty = await developer.run("tail", "--no-follow", "--name", "greet")
    assert "INFO   @1 hit asked by Ada" in pretty.stdout


async def ask(pop: Any, user: str) -> None:
    """One question over HTTP, so that the function gets to see who asks."""
    body = {"model": "edge-test", "messages": [{"role": "user", "content": "What is tea?"}]}
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{pop.url}/v1/chat/completions", json=body, headers={"x-user": user})
    assert answer.status_code == 200
    await pop.settled()


@pytest.mark.slow
async def test_a_filter_that_there_is_not_is_an_error(developer: Any) -> None:
    await developer.here("deploy")
    wrong = await developer.run("tail", "--no-follow", "--name", "greet", "--level", "loud")
    assert isinstance(wrong.exception, EdgeCacheError)
    assert (await developer.run("tail", "--format", "xml", "--name", "greet")).exit_code == 2
    assert isinstance((await developer.run("tail", "--name", "absent")).exception, EdgeCacheError)


@pytest.mark.slow
async def test_it_follows_until_the_function_is_gone(developer: Any) -> None:
    await developer.here("deploy", "-m", "first")
    command = [sys.executable, "-u", "-m", "edgecache", "fn", "tail", "--name", "greet", *developer.options]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert b"first" in await process.stdout.readline()
        developer.change(b"two")
        await developer.here("deploy", "-m", "second")
        assert b"second" in await process.stdout.readline()
        await developer.here("delete", "--yes")
        assert await process.wait() == 0
