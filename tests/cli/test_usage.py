import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import main
from edgecache.errors import EdgeCacheError


async def run(pop: Any, *arguments: str | Path) -> Result:
    command = ["usage", *(str(each) for each in arguments), "--admin", pop.admin_url.removeprefix("http://")]
    return await asyncio.to_thread(CliRunner().invoke, main.app, command)


@pytest.fixture
async def used(pop: Any) -> Any:
    """A POP that has answered two requests, one of them from the cache, both booked."""
    body = {"model": "edge-test", "messages": [{"role": "user", "content": "what is tea?"}]}
    async with httpx.AsyncClient(base_url=pop.url) as client:
        for _ in range(2):
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
            await pop.settled()
    async with httpx.AsyncClient(base_url=pop.admin_url) as client, asyncio.timeout(10):
        while (await client.get("/admin/v1/usage")).json()["total"]["requests"] < 2:
            await asyncio.sleep(0.01)
    return pop


async def test_the_report_is_a_table_with_a_total(used: Any) -> None:
    result = await run(used, "report", "--by", "tenant,cache", "--since", "1h")
    assert result.exit_code == 0, result.exception
    rows = list(csv.DictReader(io.StringIO(result.stdout), delimiter="\t"))
    assert {(row["tenant"], row["cache"], row["requests"], row["hits"]) for row in rows} == {
        ("default", "MISS", "1", "0"), ("default", "HIT", "1", "1"), ("total", "", "2", "1"),
    }  # fmt: skip


async def test_without_dimensions_there_is_the_total_alone(used: Any) -> None:
    result = await run(used, "report", "--by", "")
    (row,) = csv.DictReader(io.StringIO(result.stdout), delimiter="\t")
    assert (row["requests"], row["upstream_requests"]) == ("2", "1")


async def test_the_report_is_json_or_csv(used: Any) -> None:
    told = json.loads((await run(used, "report", "--json")).stdout)
    assert told["by"] == ["tenant", "model", "tier"]
    assert told["total"]["requests"] == 2
    rows = list(csv.DictReader(io.StringIO((await run(used, "report", "--csv")).stdout)))
    assert {(row["model"], row["tier"], row["requests"]) for row in rows} == {
        ("edge-test", "core", "1"), ("edge-test", "", "1"),
    }  # fmt: skip
    assert (await run(used, "report", "--csv", "--json")).exit_code == 2


async def test_a_span_that_nothing_fell_into_is_empty(used: Any) -> None:
    told = json.loads((await run(used, "report", "--since", "2001-01-01", "--until", "2002-01-01", "--json")).stdout)
    assert (told["rows"], told["total"]["requests"]) == ([], 0)


async def test_a_wrong_dimension_is_told(used: Any) -> None:
    result = await run(used, "report", "--by", "colour")
    assert isinstance(result.exception, EdgeCacheError)
    assert "colour" in result.exception.message


async def test_records_are_exported_to_a_file_that_only_the_owner_can_read(used: Any, tmp_path: Path) -> None:
    file = tmp_path / "usage.ndjson"
    result = await run(used, "export", file, "--since", "1h", "--json")
    assert json.loads(result.stdout) == {"file": str(file), "records": 2}
    assert [json.loads(line)["cache"] for line in file.read_text().splitlines()] == ["MISS", "HIT"]
    assert file.stat().st_mode & 0o077 == 0
    assert list(tmp_path.glob("*.part")) == []


async def test_records_are_exported_to_standard_output(used: Any) -> None:
    result = await run(used, "export", "-", "--limit", "1", "--until", "2100-01-01")
    (line,) = result.stdout_bytes.splitlines()
    assert json.loads(line)["cache"] == "MISS"


async def test_a_file_that_cannot_be_written_is_told_and_nothing_is_left(used: Any, tmp_path: Path) -> None:
    result = await run(used, "export", tmp_path / "absent" / "usage.ndjson")
    assert isinstance(result.exception, EdgeCacheError)
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    command = ["usage", "report", "--admin", "127.0.0.1:1"]
    result = await asyncio.to_thread(CliRunner().invoke, main.app, command)
    assert isinstance(result.exception, EdgeCacheError)
