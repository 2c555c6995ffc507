import httpx
import pytest

from tests.conftest import MODEL, Pop

QUESTION = "What is the capital of France"
REWORDED = "what is the capital of france?"


@pytest.fixture
async def admin(pop: Pop):
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        yield client


async def ask(pop: Pop, question: str = QUESTION) -> httpx.Headers:
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
    async with httpx.AsyncClient(base_url=pop.url) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    await pop.settled()
    return answer.headers


async def entry_of(pop: Pop) -> str:
    await ask(pop)
    return (await ask(pop))["x-edgecache-entry"]


async def test_the_report_counts_requests_and_hits_and_names_bad_pairs(pop: Pop, admin: httpx.AsyncClient) -> None:
    empty = (await admin.get("/admin/v1/quality")).json()
    assert (empty["total"]["requests"], empty["segments"], empty["bad"], empty["marks"]) == (0, [], [], [])
    await entry_of(pop)
    hit = await ask(pop, REWORDED)
    said = {"request_id": hit["x-request-id"], "verdict": "bad", "note": "not it"}
    assert (await admin.post("/admin/v1/feedback", json=said)).json()["effect"] == "pair-evicted"
    report = (await admin.get("/admin/v1/quality")).json()
    assert (report["total"]["requests"], report["total"]["hits"]) == (3, 1)
    assert [(part["tenant"], part["model"]) for part in report["segments"]] == [("default", MODEL)]
    (bad,) = report["bad"]
    assert (bad["stored"], bad["asked"], bad["origin"], bad["note"]) == (QUESTION, None, "operator", "not it")
    await ask(pop, REWORDED)  # stores an answer of its own: now both questions can be shown
    assert (await admin.get("/admin/v1/quality")).json()["bad"][0]["asked"] == REWORDED


async def test_a_banned_answer_is_neither_served_nor_stored_until_it_is_released(
    pop: Pop, admin: httpx.AsyncClient
) -> None:
    entry = await entry_of(pop)
    assert (await admin.post(f"/admin/v1/entries/{entry}/ban")).json() == {
        "entry": int(entry), "mark": "ban", "question": QUESTION,
    }  # fmt: skip
    statuses = [(await ask(pop, question))["x-edgecache-status"] for question in (QUESTION, QUESTION, REWORDED)]
    assert statuses == ["MISS"] * 3
    assert [mark["mark"] for mark in (await admin.get("/admin/v1/quality")).json()["marks"]] == ["ban"]
    await admin.post(f"/admin/v1/entries/{entry}/release")
    assert (await ask(pop))["x-edgecache-status"] == "HIT"


async def test_a_pinned_answer_goes_on_serving(pop: Pop, admin: httpx.AsyncClient) -> None:
    entry = await entry_of(pop)
    assert (await admin.post(f"/admin/v1/entries/{entry}/pin")).json()["mark"] == "pin"
    assert (await ask(pop))["x-edgecache-status"] == "HIT"


async def test_an_operator_speaks_of_any_tenants_entry(pop: Pop, admin: httpx.AsyncClient) -> None:
    entry = await entry_of(pop)
    said = await admin.post("/admin/v1/feedback", json={"entry": entry, "verdict": "bad"})
    assert said.json()["effect"] == "answer-purged"
    assert (await ask(pop))["x-edgecache-status"] == "MISS"


@pytest.mark.parametrize("entry", ["999", "x", "-1", "9" * 30])
@pytest.mark.parametrize("verb", ["pin", "ban", "release"])
async def test_an_entry_that_is_not_there_is_404(admin: httpx.AsyncClient, entry: str, verb: str) -> None:
    assert (await admin.post(f"/admin/v1/entries/{entry}/{verb}")).status_code == 404


async def test_a_wrong_verdict_is_a_problem_document(admin: httpx.AsyncClient) -> None:
    for body, status in (({"verdict": "bad"}, 400), ({"verdict": "bad", "request_id": "r", "tenant": "x"}, 404)):
        answer = await admin.post("/admin/v1/feedback", json=body)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_what_cannot_be_stored_is_503(pop: Pop, admin: httpx.AsyncClient) -> None:
    entry = await entry_of(pop)
    await admin.post(f"/admin/v1/entries/{entry}/ban")
    pop.daemon.store.close()
    assert (await admin.post("/admin/v1/feedback", json={"entry": entry, "verdict": "bad"})).status_code == 503
    assert (await admin.post(f"/admin/v1/entries/{entry}/release")).status_code == 503
