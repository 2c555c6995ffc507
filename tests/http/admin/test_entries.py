from typing import Any

import httpx
import pytest

from edgecache.config import Admission, Auth, AuthTenant, Cache
from edgecache.store.epochs import Kind, Selector
from tests.conftest import MODEL, Pop, read

QUESTION = "What is the capital of France?"


@pytest.fixture
async def admin(pop: Pop):
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        yield client


async def stored(pop: Pop, **controls: Any) -> int:
    await read(await pop.ask(QUESTION, **controls))
    await pop.settled()
    entry_id = (await pop.ask(QUESTION, **controls)).cache.entry_id
    assert entry_id is not None
    return entry_id


async def test_an_entry_is_told_without_its_answer_unless_that_is_asked_for(pop: Pop, admin) -> None:
    entry_id = await stored(pop, tags=("geo",))
    report = (await admin.get(f"/admin/v1/entries/{entry_id}")).json()
    assert (report["id"], report["tenant"], report["model"]) == (entry_id, "default", MODEL)
    assert (report["question"], report["writer"], report["held"]) == (QUESTION, "", "")
    assert (report["tags"], report["uses"], report["stale"]) == (["geo"], 1, False)
    assert report["expires"] > report["created"]
    assert "body" not in report
    whole = (await admin.get(f"/admin/v1/entries/{entry_id}?body=true")).json()
    assert whole["body"]["choices"][0]["message"]["content"]
    assert "body" not in (await admin.get(f"/admin/v1/entries/{entry_id}?body=false")).json()


async def test_the_writer_is_the_name_of_the_key_and_never_the_key(start_pop, core) -> None:
    auth = Auth(mode="keys", tenant=(AuthTenant(id="acme", keys=("sk-secret",)),))
    pop = await start_pop(core.url, auth=auth, cache=Cache(admission=Admission(writer="end_user")))
    body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "user": "ann@example.org"}
    async with httpx.AsyncClient(base_url=pop.url, headers={"authorization": "Bearer sk-secret"}) as client:
        await client.post("/v1/chat/completions", json=body)
        await pop.settled()
        hit = await client.post("/v1/chat/completions", json=body)
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        told = await client.get(f"/admin/v1/entries/{hit.headers['x-edgecache-entry']}?body=true")
    key, _, user = told.json()["writer"].partition(".")
    assert key == pop.daemon.services.auth.tenant("Bearer sk-secret").writer
    assert len(user) == 16
    assert "secret" not in told.text
    assert "ann@" not in told.text


@pytest.mark.parametrize("entry_id", ["0", "999", "99999999999999999999", "-1", "x", "1%2F2"])
async def test_what_is_not_there_is_404(pop: Pop, admin, entry_id: str) -> None:
    await stored(pop)
    assert (await admin.get(f"/admin/v1/entries/{entry_id}")).status_code == 404


async def test_a_purged_entry_is_404_and_a_wrong_flag_400(pop: Pop, admin) -> None:
    entry_id = await stored(pop)
    assert (await admin.get(f"/admin/v1/entries/{entry_id}?body=perhaps")).status_code == 400
    await pop.daemon.store.purge(Selector(Kind.TENANT, "default"))
    assert (await admin.get(f"/admin/v1/entries/{entry_id}")).status_code == 404
