from pathlib import Path
from typing import Any

import httpx
import pytest

from edgecache.config import Auth, AuthTenant, Cache, Learning
from tests.conftest import MODEL, Pop

QUESTION = "What is the capital of France"
REWORDED = "what is the capital of france?"


class Client:
    """An application that asks and says what it thinks of the answers."""

    def __init__(self, pop: Pop, api_key: str = "") -> None:
        self._pop = pop
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}

    async def ask(self, question: str, **headers: str) -> httpx.Headers:
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
        async with httpx.AsyncClient(base_url=self._pop.url, headers=self._headers) as client:
            answer = await client.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200
        await self._pop.settled()
        return answer.headers

    async def say(self, verdict: str, **which: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self._pop.url, headers=self._headers) as client:
            return await client.post("/v1/feedback", json={"verdict": verdict} | which)

    async def status(self, question: str) -> str:
        return (await self.ask(question))["x-edgecache-status"]


@pytest.fixture
async def pop(start_pop, core) -> Pop:
    """A POP that asks nobody else whether its hits are right: by chance that would be a word to the contrary."""
    return await start_pop(core.url, cache=Cache(learning=Learning(sample=0.0)))


@pytest.fixture
async def reworded(pop: Pop) -> tuple[Client, httpx.Headers]:
    """A client, and the headers of a hit by meaning that it got."""
    client = Client(pop)
    assert await client.status(QUESTION) == "MISS"
    hit = await client.ask(REWORDED)
    assert hit["x-edgecache-status"] == "SEMANTIC_HIT"
    return client, hit


async def test_after_bad_the_rewording_misses_and_the_own_question_still_hits(
    pop: Pop, reworded: tuple[Client, httpx.Headers], start_pop, core
) -> None:
    client, hit = reworded
    said = await client.say("bad", request_id=hit["x-request-id"], note="that is not it")
    assert said.status_code == 200
    assert said.json() == {
        "verdict": "bad",
        "effect": "pair-evicted",
        "entry": int(hit["x-edgecache-entry"]),
        "request_id": hit["x-request-id"],
    }
    assert said.headers["cache-control"] == "private, no-store"
    missed = await client.ask(REWORDED, **{"edgecache-mode": "readonly"})
    assert missed["x-edgecache-status"] == "MISS"
    assert "bad-pair" in missed["cache-status"]
    assert await client.status(QUESTION) == "HIT"
    await pop.daemon.stop()
    client = Client(await start_pop(core.url, data=Path(pop.daemon.config.server.data)))
    assert await client.status(QUESTION) == "HIT"
    assert (await client.ask(REWORDED, **{"edgecache-mode": "readonly"}))["x-edgecache-status"] == "MISS"
    again = await client.say("bad", request_id=hit["x-request-id"])
    assert again.json() == said.json()


async def test_after_good_the_rewording_still_hits_and_a_changed_mind_counts(
    reworded: tuple[Client, httpx.Headers],
) -> None:
    client, hit = reworded
    assert (await client.say("good", request_id=hit["x-request-id"])).json()["effect"] == "pair-confirmed"
    confirmed = await client.ask(REWORDED)
    assert confirmed["x-edgecache-status"] == "SEMANTIC_HIT"
    await client.say("bad", request_id=hit["x-request-id"])
    assert await client.status(REWORDED) == "MISS"


@pytest.mark.parametrize("asked", [1, 2, 3], ids=["a fresh answer", "an exact hit", "the short cut"])
async def test_bad_on_ones_own_question_removes_the_answer(pop: Pop, asked: int) -> None:
    client = Client(pop)
    for _ in range(asked):
        headers = await client.ask(QUESTION)
    assert (await client.say("bad", request_id=headers["x-request-id"])).json()["effect"] == "answer-purged"
    assert await client.status(QUESTION) == "MISS"
    assert await client.status(QUESTION) == "HIT"


async def test_an_entry_is_named_as_in_the_header(pop: Pop) -> None:
    client = Client(pop)
    await client.ask(QUESTION)
    entry = (await client.ask(QUESTION))["x-edgecache-entry"]
    assert (await client.say("good", entry=int(entry))).json()["effect"] == "answer-confirmed"
    assert (await client.say("bad", entry=entry)).json()["effect"] == "answer-purged"
    assert (await client.say("bad", entry=entry)).status_code == 404
    assert await client.status(QUESTION) == "MISS"


async def test_another_tenant_reaches_neither_request_nor_entry(start_pop, core) -> None:
    tenants = tuple(AuthTenant(id=name, keys=(f"key of {name}",)) for name in ("acme", "else"))
    pop = await start_pop(core.url, auth=Auth(mode="keys", tenant=tenants))
    acme, other = Client(pop, "key of acme"), Client(pop, "key of else")
    await acme.ask(QUESTION)
    hit = await acme.ask(QUESTION)
    for said in (
        await other.say("bad", request_id=hit["x-request-id"]),
        await other.say("bad", entry=hit["x-edgecache-entry"]),
    ):
        assert said.status_code == 404
        assert said.json()["error"]["code"] == "not_found"
    assert (await Client(pop).say("bad", entry=1)).status_code == 401
    assert await acme.status(QUESTION) == "HIT"


async def test_what_is_wrong_is_said_in_openais_envelope(pop: Pop) -> None:
    client = Client(pop)
    answers = [
        await client.say("maybe", entry=1),
        await client.say("bad"),
        await client.say("bad", entry=1, request_id="r"),
        await client.say("bad", entry=1, stars=5),
        await client.say("bad", entry=1, note="x" * 1025),
    ]
    assert [answer.status_code for answer in answers] == [400] * 5
    assert [answer.json()["error"]["param"] for answer in answers] == [
        "verdict", "request_id", "request_id", "stars", "note",
    ]  # fmt: skip
    assert (await client.say("bad", request_id="never")).status_code == 404
    async with httpx.AsyncClient(base_url=pop.url) as plain:
        assert (await plain.post("/v1/feedback", content=b"{")).status_code == 400
        assert (await plain.get("/v1/feedback")).status_code == 405


async def test_what_cannot_be_stored_is_503_and_not_acknowledged(pop: Pop, reworded) -> None:
    client, hit = reworded
    pop.daemon.store.close()
    said = await client.say("bad", request_id=hit["x-request-id"])
    assert said.status_code == 503
    assert said.headers["retry-after"] == "1"
