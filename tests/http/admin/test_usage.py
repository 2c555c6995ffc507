import asyncio
import csv
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from edgecache.config import Admin, Ledger, Price, Router, Upstream
from tests.conftest import MODEL, Pop

PATH = "/admin/v1/usage"


@pytest.fixture
async def priced(start_pop: Callable[..., Awaitable[Pop]], core: Any) -> Pop:
    """A POP before a core that costs 1 USD per million prompt tokens and 2 USD per million generated ones."""
    price = Price(input=1.0, output=2.0, version="2026-01")
    upstream = Upstream(
        name="core", url=core.url, dialect="trtllm", models=(MODEL,), region="eu-west", price=price, connect_timeout=1.0
    )
    return await start_pop(core.url, upstream=(upstream,))


@pytest.fixture
async def admin(priced: Pop):
    async with httpx.AsyncClient(base_url=priced.admin_url) as client:
        yield client


async def ask(pop: Pop, *questions: str, stream: bool = False) -> list[dict[str, Any]]:
    """The `usage` of each answer."""
    told = []
    async with httpx.AsyncClient(base_url=pop.url) as client:
        for question in questions:
            body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "stream": stream}
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200
            told.append({} if stream else answer.json()["usage"])
            await pop.settled()
    return told


async def counted(admin: httpx.AsyncClient, requests: int, **query: str) -> dict[str, Any]:
    """The report, once so many requests are in it."""
    async with asyncio.timeout(10):
        while True:
            answer = await admin.get(PATH, params=query)
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            if found["total"]["requests"] >= requests:
                return found
            await asyncio.sleep(0.01)


async def test_the_report_has_what_the_answers_said_and_what_they_cost(priced: Pop, admin: httpx.AsyncClient) -> None:
    first, second, hit = await ask(priced, "what is tea?", "what is coffee?", "what is tea?")
    report = await counted(admin, 3, by="tenant,tier,upstream,region,cache")
    assert (report["by"], report["damaged"], report["until"]) == (
        ["tenant", "tier", "upstream", "region", "cache"], 0, None,
    )  # fmt: skip
    miss, stored = report["rows"]
    assert list(miss.values())[:5] == ["default", "core", "core", "eu-west", "MISS"]
    assert list(stored.values())[:5] == ["default", "", "", "", "HIT"]
    prompt, completion = (first[name] + second[name] for name in ("prompt_tokens", "completion_tokens"))
    assert (miss["requests"], miss["upstream_requests"], miss["prompt_tokens"], miss["completion_tokens"]) == (
        2, 2, prompt, completion,
    )  # fmt: skip
    assert miss["cost_usd"] == pytest.approx((prompt + 2 * completion) / 1e6)
    assert (stored["hits"], stored["upstream_requests"], stored["cost_usd"]) == (1, 0, 0.0)
    assert stored["avoided_tokens"] == hit["prompt_tokens"] + hit["completion_tokens"]
    assert stored["avoided_usd"] == pytest.approx((hit["prompt_tokens"] + 2 * hit["completion_tokens"]) / 1e6)
    total = report["total"]
    assert total["served_tokens"] == prompt + completion + stored["avoided_tokens"]
    assert total["usd_per_million_with"] < total["usd_per_million_without"]
    assert total["ttft_p50"] > 0


async def test_the_report_comes_as_csv(priced: Pop, admin: httpx.AsyncClient) -> None:
    await ask(priced, "what is tea?")
    await counted(admin, 1)
    answer = await admin.get(PATH, params={"by": "tenant, model", "format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert (row["tenant"], row["model"], row["requests"]) == ("default", MODEL, "1")


async def test_only_the_span_that_was_asked_for_counts(priced: Pop, admin: httpx.AsyncClient) -> None:
    await ask(priced, "what is tea?")
    await counted(admin, 1, since="1h")
    for query in ({"until": "1h"}, {"since": "2001-01-01", "until": "2002-01-01"}):
        found = (await admin.get(PATH, params=query)).json()
        assert (found["rows"], found["total"]["requests"]) == ([], 0)


async def test_records_are_lines_of_json_with_their_attempts(priced: Pop, admin: httpx.AsyncClient) -> None:
    await ask(priced, "what is tea?", "what is tea?")
    await ask(priced, "what is coffee?", stream=True)
    await counted(admin, 3)
    answer = await admin.get(PATH + "/records")
    assert answer.headers["content-type"] == "application/x-ndjson"
    first, second, third = (json.loads(line) for line in answer.text.splitlines())
    assert (first["cache"], second["cache"], third["cache"]) == ("MISS", "HIT", "MISS")
    assert (first["tenant"], first["model"], first["outcome"], first["price"]) == ("default", MODEL, "ok", "2026-01")
    (attempt,) = first["attempts"]
    assert (attempt["upstream"], attempt["outcome"], attempt["cost"]) == ("core", "ok", first["cost"])
    assert second["attempts"] == []
    assert third["attempts"][0]["ttft"] > 0
    assert first["at"] <= second["at"] <= third["at"]


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_records_end_at_the_limit(priced: Pop, admin: httpx.AsyncClient, limit: int) -> None:
    await ask(priced, "what is tea?", "what is coffee?", "what is cocoa?")
    await counted(admin, 3)
    answer = await admin.get(PATH + "/records", params={"limit": str(limit)})
    assert len(answer.text.splitlines()) == min(limit, 3)


async def test_no_records_are_an_empty_answer(priced: Pop, admin: httpx.AsyncClient) -> None:
    answer = await admin.get(PATH + "/records", params={"since": "2001-01-01", "until": "2002-01-01"})
    assert (answer.status_code, answer.text) == (200, "")


async def test_what_went_wrong_is_in_the_books_too(priced: Pop, admin: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=priced.url) as client:
        assert (await client.post("/v1/chat/completions", content=b"{")).status_code == 400
        body = {"model": "absent", "messages": [{"role": "user", "content": "x"}]}
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 404
    report = await counted(admin, 2, by="model")
    assert report["total"]["upstream_requests"] == 0
    lines = (await admin.get(PATH + "/records")).text.splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["rejected", "rejected"]


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        (PATH, {"by": "colour"}, "not 'colour'"),
        (PATH, {"by": "day,day"}, "once"),
        (PATH, {"since": "yesterday"}, "`since` is a time"),
        (PATH, {"until": "nan"}, "`until` is a time"),
        (PATH, {"since": "1h", "until": "2h"}, "`until` is after `since`"),
        (PATH, {"format": "xml"}, "json, csv"),
        (PATH, {"limit": "5"}, "no parameter `limit`"),
        (PATH + "/records", {"by": "day"}, "no parameter `by`"),
        (PATH + "/records", {"limit": "0"}, "number from 1"),
        (PATH + "/records", {"limit": "-1"}, "number from 1"),
        (PATH + "/records", {"limit": "9" * 20}, "number from 1"),
    ],
)
async def test_a_wrong_parameter_is_a_problem_document(
    admin: httpx.AsyncClient, path: str, query: dict[str, str], said: str
) -> None:
    answer = await admin.get(path, params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert said in answer.json()["detail"]


@pytest.mark.parametrize("path", [PATH, PATH + "/records"])
async def test_a_pop_without_a_ledger_says_so(start_pop: Callable[..., Awaitable[Pop]], core: Any, path: str) -> None:
    pop = await start_pop(core.url, router=Router(ledger=Ledger(enabled=False)))
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert "router.ledger.enabled" in answer.json()["detail"]


@pytest.mark.parametrize("path", [PATH, PATH + "/records"])
async def test_only_the_operator_may_look(start_pop: Callable[..., Awaitable[Pop]], core: Any, path: str) -> None:
    pop = await start_pop(core.url, admin=Admin(listen="127.0.0.1:0", token="secret"))
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        assert (await client.get(path)).status_code == 401
        allowed = await client.get(path, headers={"authorization": "Bearer secret"})
    assert allowed.status_code == 200
