import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from edgecache.functions.journal import Record
from tests.conftest import Pop
from tests.http.admin.test_functions import ROOT, upload

LOGS = ROOT + "/greet/logs"
QUESTION = "What is the capital of France?"


@pytest.fixture
async def admin(pop: Pop) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=pop.admin_url, timeout=60) as client:
        assert (await client.post(ROOT, **upload())).status_code == 200
        yield client


def say(pop: Pop, text: str, **more: object) -> None:
    pop.daemon.runtime.journal.publish("default", "greet", Record(at=1.0, event="log", text=text, **more))


async def test_the_latest_records_are_told_and_can_be_narrowed(pop: Pop, admin) -> None:
    say(pop, "quiet", level="debug", phase="hit")
    say(pop, "loud", level="error", phase="miss", request_id="req-1", version=1)
    logged = {"event": "log"}
    texts = [each["text"] for each in (await admin.get(LOGS, params=logged)).json()["records"]]
    assert texts == ["quiet", "loud"]
    for narrowed in (
        {"level": "warn"},
        {"phase": "miss"},
        {"search": "LOU"},
        {"request": "req-1"},
        {"version": "1"},
        {"lines": "1"},
    ):
        records = (await admin.get(LOGS, params=logged | narrowed)).json()["records"]
        assert [each["text"] for each in records] == ["loud"], narrowed


async def test_a_call_is_there_once_it_has_been_answered(pop: Pop, admin) -> None:
    routed = {"name": "greet", "bind": [{"phase": "route"}]}
    assert (await admin.post(ROOT, **upload("two", routed))).status_code == 200
    async with httpx.AsyncClient(base_url=pop.url) as client:
        assert (await client.get("/fn/greet")).headers["x-said"] == "two"
    (call,) = (await admin.get(LOGS, params={"event": "call"})).json()["records"]
    assert (call["phase"], call["version"]) == ("route", 2)


async def test_a_tail_tells_what_was_and_goes_on_with_what_comes(pop: Pop, admin) -> None:
    say(pop, "before")
    told: list[str] = []
    async with admin.stream("GET", LOGS, params={"follow": "true", "event": "log"}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line[6:])["text"])
                if told == ["before"]:
                    say(pop, "after")
                if len(told) == 2:
                    break
    assert told == ["before", "after"]


async def test_a_tail_ends_with_the_function(admin) -> None:
    async with admin.stream("GET", LOGS, params={"follow": "true", "lines": "0"}) as answer:
        assert (await admin.delete(ROOT + "/greet")).status_code == 200
        async with asyncio.timeout(5):
            await answer.aread()
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "query",
    ["level=loud", "event=x", "version=one", "sample=0", "sample=2", "lines=-1", "follow=perhaps", "colour=red"],
)
async def test_a_filter_that_makes_no_sense_is_refused_by_name(admin, query: str) -> None:
    answer = await admin.get(f"{LOGS}?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["detail"]
