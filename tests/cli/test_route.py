import asyncio
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from edgecache.cli import main
from edgecache.errors import EdgeCacheError
from tests.conftest import MODEL

ASKED = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "What is tea?"}]}).encode()


async def run(pop: Any, *arguments: str, typed: bytes | None = None) -> Result:
    command = ["route", "explain", *arguments, "--admin", pop.admin_url.removeprefix("http://")]
    return await asyncio.to_thread(CliRunner().invoke, main.app, command, input=typed)


async def test_it_says_who_would_be_asked_and_why(pop: Any, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_bytes(ASKED)
    told = await run(pop, str(file), "--class", "batch", "--deadline", "20")
    assert told.exit_code == 0, told.output
    assert "core" in told.stdout
    assert "batch" in told.stdout
    report = json.loads((await run(pop, "-", "--json", typed=ASKED)).stdout)
    assert report["legs"][0]["upstreams"][0]["name"] == "core"


async def test_what_cannot_be_read_is_said(pop: Any, tmp_path: Path) -> None:
    assert isinstance((await run(pop, str(tmp_path / "absent"))).exception, EdgeCacheError)
    assert isinstance((await run(pop, "-", typed=b"{")).exception, EdgeCacheError)
    assert isinstance((await run(pop, "-", "--class", "urgent", typed=ASKED)).exception, EdgeCacheError)
