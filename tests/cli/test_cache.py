import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import main
from edgecache.config import Admin
from edgecache.errors import EdgeCacheError


class Operator:
    """Somebody at a shell beside a running POP."""

    def __init__(self, pop: Any, *options: str) -> None:
        self._pop = pop
        self._options = ("--admin", pop.admin_url.removeprefix("http://"), *options)

    async def run(self, *arguments: str | Path, typed: bytes | None = None) -> Result:
        command = ["cache", *(str(each) for each in arguments), *self._options]
        return await asyncio.to_thread(CliRunner().invoke, main.app, command, input=typed)

    async def told(self, *arguments: str | Path, typed: bytes | None = None) -> Any:
        result = await self.run(*arguments, "--json", typed=typed)
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)


async def entries(operator: Operator) -> int:
    count: int = (await operator.told("stats"))["entries"]
    return count


async def test_stats_count_what_is_stored(pop: Any) -> None:
    operator = Operator(pop)
    assert await entries(operator) == 0
    await fill(pop, "what is tea?", "what is coffee?")
    assert await entries(operator) == 2
    assert "entries\t2\n" in (await operator.run("stats")).stdout


async def fill(pop: Any, *questions: str, **controls: Any) -> None:
    for question in questions:
        assert (await pop.ask(question, **controls)).status == 200
    await pop.settled()


async def test_explain_tells_the_rule_that_decided(pop: Any, tmp_path: Path) -> None:
    operator = Operator(pop)
    await fill(pop, "what is tea?")
    body = msgspec.json.encode({"model": "edge-test", "messages": [{"role": "user", "content": "what is tea?"}]})
    assert (await operator.told("explain", "-", typed=body))["verdict"] == "HIT"
    file = tmp_path / "request.json"
    file.write_bytes(body.replace(b"tea", b"cocoa"))
    report = await operator.told("explain", file)
    assert report["verdict"] == "MISS"
    plain = (await operator.run("explain", file)).stdout
    assert "policy.floor\t0.6\n" in plain
    assert "verdict\tMISS\n" in plain


async def test_explain_refuses_what_is_no_request(pop: Any, tmp_path: Path) -> None:
    operator = Operator(pop)
    assert isinstance((await operator.run("explain", tmp_path / "absent")).exception, EdgeCacheError)
    assert isinstance((await operator.run("explain", "-", typed=b"{")).exception, EdgeCacheError)


@pytest.mark.parametrize(
    "options", [("--all", "--yes"), ("--tag", "hot"), ("--model", "edge-test"), ("--tenant", "default")]
)
async def test_purged_answers_are_gone(pop: Any, options: tuple[str, ...]) -> None:
    operator = Operator(pop)
    await fill(pop, "what is tea?", tags=("hot",))
    await operator.told("purge", *options)
    reply = await pop.ask("what is tea?")
    assert reply.cache.status == "MISS"


async def test_an_entry_is_shown_and_what_its_writer_wrote_can_be_purged(
    start_pop: Callable[..., Awaitable[Any]], core: Any
) -> None:
    pop = await start_pop(core.url)
    operator, asked = Operator(pop), {"messages": [{"role": "user", "content": "what is tea?"}], "user": "ann"}
    for _ in range(2):
        reply = await pop.ask(asked)
        await pop.settled()
    report = await operator.told("show", reply.cache.entry_id)
    assert report["question"] == "what is tea?"
    assert "body" not in report
    assert "choices" in (await operator.told("show", reply.cache.entry_id, "--body"))["body"]
    assert f"writer\t{report['writer']}\n" in (await operator.run("show", reply.cache.entry_id)).stdout
    await operator.told("purge", "--writer", "nobody")
    assert (await pop.ask(asked)).cache.status == "HIT"
    await operator.told("purge", "--writer", report["writer"])
    assert isinstance((await operator.run("show", reply.cache.entry_id)).exception, EdgeCacheError)


async def test_a_purge_needs_one_choice_and_everything_a_confirmation(pop: Any) -> None:
    operator = Operator(pop)
    for options in (
        (),
        ("--soft",),
        ("--all", "--model", "m"),
        ("--entry", "1", "--tag", "x"),
        ("--writer", "w", "--all"),
    ):
        assert (await operator.run("purge", *options)).exit_code == 2
    assert (await operator.run("purge", "--all", typed=b"n\n")).exit_code == 1


async def test_an_export_brings_another_pop_the_same_answers(
    pop: Any, start_pop: Callable[..., Awaitable[Any]], core: Any, tmp_path: Path
) -> None:
    await fill(pop, "what is tea?", "what is coffee?")
    file = tmp_path / "backup"
    assert (await Operator(pop).told("export", file))["bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o077 == 0
    other = await start_pop(core.url, data=tmp_path / "other")
    assert (await Operator(other).told("import", file))["stored"] == 2
    assert (await other.ask("what is tea?")).cache.status == "HIT"


async def test_a_damaged_export_is_refused(pop: Any, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_bytes(b"\xc1 no export")
    assert isinstance((await Operator(pop).run("import", file)).exception, EdgeCacheError)


async def test_the_token_opens_the_admin_api(start_pop: Callable[..., Awaitable[Any]], core: Any) -> None:
    guarded = await start_pop(core.url, admin=Admin(listen="127.0.0.1:0", token="hush"))
    assert isinstance((await Operator(guarded).run("stats")).exception, EdgeCacheError)
    assert await entries(Operator(guarded, "--token", "hush")) == 0
