import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import main
from edgecache.errors import EdgeCacheError

QUESTION = "what is tea"


class Operator:
    """Somebody at a shell beside a running POP."""

    def __init__(self, pop: Any) -> None:
        self._address = pop.admin_url.removeprefix("http://")

    async def run(self, *arguments: object) -> Result:
        command = ["cache", *map(str, arguments), "--admin", self._address]
        return await asyncio.to_thread(CliRunner().invoke, main.app, command)

    async def told(self, *arguments: object) -> Any:
        result = await self.run(*arguments, "--json")
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)


async def stored(pop: Any) -> int:
    """The id of an answer to the question."""
    assert (await pop.ask(QUESTION)).cache.status == "MISS"
    await pop.settled()
    entry: int = (await pop.ask(QUESTION, request_id="hit")).cache.entry_id
    return entry


async def test_pin_ban_and_release(pop: Any) -> None:
    operator, entry = Operator(pop), await stored(pop)
    assert (await operator.told("pin", entry))["mark"] == "pin"
    assert (await operator.told("ban", entry))["mark"] == "ban"
    assert (await pop.ask(QUESTION)).cache.status == "MISS"
    assert (await operator.told("quality"))["marks"][0]["entry"] == entry
    assert (await operator.told("release", entry))["mark"] is None
    assert (await pop.ask(QUESTION)).cache.status == "HIT"
    assert isinstance((await operator.run("pin", 999)).exception, EdgeCacheError)


@pytest.mark.parametrize("by", ["--entry", "--request"])
async def test_a_bad_answer_is_removed(pop: Any, by: str) -> None:
    operator, entry = Operator(pop), await stored(pop)
    which = entry if by == "--entry" else "hit"
    assert (await operator.told("feedback", "good", by, which))["effect"] == "answer-confirmed"
    assert (await operator.told("feedback", "bad", by, which, "--note", "no"))["effect"] == "answer-purged"
    assert (await pop.ask(QUESTION)).cache.status == "MISS"


async def test_feedback_needs_a_verdict_and_one_answer(pop: Any) -> None:
    operator = Operator(pop)
    for words in (("maybe", "--entry", 1), ("good",), ("good", "--entry", 1, "--request", "r")):
        assert (await operator.run("feedback", *words)).exit_code == 2
    missing = await operator.run("feedback", "bad", "--request", "r", "--tenant", "acme")
    assert isinstance(missing.exception, EdgeCacheError)


async def test_quality_prints_totals_then_segments_pairs_and_marks(pop: Any) -> None:
    operator, entry = Operator(pop), await stored(pop)
    lines = (await operator.run("quality")).stdout.splitlines()
    assert "requests\t2" in lines
    assert not any(line.startswith("tenant\tentry") for line in lines)
    await operator.run("feedback", "bad", "--entry", entry, "--note", "too old")
    await operator.told("quality")
    plain = (await operator.run("quality")).stdout
    assert "tenant\tnamespace\tmodel" in plain
    assert "too old" in plain
