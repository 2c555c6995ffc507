import asyncio
from pathlib import Path

import httpx
import msgspec
import orjson
import pytest

from tests.conftest import MODEL, Pop

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture
async def admin(pop: Pop):
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        yield client


async def ask(pop: Pop) -> httpx.Headers:
    async with httpx.AsyncClient(base_url=pop.url) as client:
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert answer.status_code == 200
    await pop.settled()
    return answer.headers


async def test_the_stats_count_what_is_stored(pop: Pop, admin: httpx.AsyncClient) -> None:
    assert (await admin.get("/admin/v1/cache/stats")).json()["entries"] == 0
    await ask(pop)
    stats = (await admin.get("/admin/v1/cache/stats")).json()
    assert stats["entries"] == 1
    assert (stats["quality"]["requests"], stats["quality"]["hits"], stats["quality"]["rate"]) == (1, 0, 0.0)


async def test_explain_tells_the_verdict_without_serving(pop: Pop, admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/admin/v1/cache/explain", json=ASK)).json()["verdict"] == "MISS"
    await ask(pop)
    assert (await admin.post("/admin/v1/cache/explain", json=ASK)).json()["verdict"] == "HIT"
    other = await admin.post("/admin/v1/cache/explain?tenant=somebody", json=ASK)
    assert other.json()["verdict"] == "MISS"
    bypass = await admin.post("/admin/v1/cache/explain", json=ASK, headers={"EdgeCache-Mode": "bypass"})
    assert bypass.json()["verdict"] == "BYPASS"


@pytest.mark.parametrize(("query", "body"), [("?endpoint=nope", b"{}"), ("", b"{"), ("", b'{"model":"m"}')])
async def test_explain_refuses_what_is_no_request(admin: httpx.AsyncClient, query: str, body: bytes) -> None:
    assert (await admin.post("/admin/v1/cache/explain" + query, content=body)).status_code == 400


@pytest.mark.parametrize("selector", [{"all": True}, {"model": MODEL}, {"tenant": "default"}, {"entry": None}])
async def test_a_purged_answer_is_not_served_again(pop: Pop, admin: httpx.AsyncClient, selector: dict) -> None:
    await ask(pop)
    hit = await ask(pop)
    assert hit["x-edgecache-status"] == "HIT"
    chosen = {"entry": int(hit["x-edgecache-entry"])} if "entry" in selector else selector
    answer = await admin.post("/admin/v1/purge", json=chosen)
    assert answer.status_code == 200
    assert len(answer.json()["purges"]) == 1
    assert (await ask(pop))["x-edgecache-status"] == "MISS"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"al":true}', b'{"all":true,"soft":true}'])
async def test_a_purge_of_nothing_or_of_everything_softly_is_400(admin: httpx.AsyncClient, body: bytes) -> None:
    assert (await admin.post("/admin/v1/purge", content=body)).status_code == 400


async def test_an_export_can_be_imported_elsewhere(pop: Pop, admin, start_pop, core, tmp_path: Path) -> None:
    await ask(pop)
    exported = await admin.get("/admin/v1/cache/export")
    assert exported.headers["content-type"] == "application/msgpack"
    other: Pop = await start_pop(core.url, data=tmp_path / "other")
    async with httpx.AsyncClient(base_url=other.admin_url) as client:
        done = await client.post("/admin/v1/cache/import", content=exported.content)
    assert done.json()["stored"] == 1
    assert (await ask(other))["x-edgecache-status"] == "HIT"


async def test_a_damaged_or_foreign_import_is_400(pop: Pop, admin: httpx.AsyncClient) -> None:
    await ask(pop)
    whole = (await admin.get("/admin/v1/cache/export")).content
    for damaged in (b"", b"nonsense", orjson.dumps({"x": 1}), whole[:-5]):
        assert (await admin.post("/admin/v1/cache/import", content=damaged)).status_code == 400


async def test_an_import_that_stalls_is_408(pop: Pop) -> None:
    pop.daemon.services.config = _impatient(pop)
    host, port = pop.admin_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /admin/v1/cache/import HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
    assert b" 408 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


def _impatient(pop: Pop):
    config = pop.daemon.services.config
    return msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, body_timeout=0.1))
