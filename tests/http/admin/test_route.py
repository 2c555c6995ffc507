from typing import Any

import aiohttp
import orjson
import pytest

from edgecache.config import Auth, AuthTenant, Upstream
from tests.conftest import MODEL

ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "What is tea?"}]}


async def explained(pop: Any, body: Any = ASKED, headers: dict[str, str] | None = None, **query: str) -> Any:
    url = f"{pop.admin_url}/admin/v1/route/explain"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=orjson.dumps(body), params=query, headers=headers) as answer,
    ):
        return answer.status, orjson.loads(await answer.read())


async def test_it_says_where_a_request_would_go_and_sends_nothing(pop, core) -> None:
    before = core.seen.requests
    status, report = await explained(pop)
    assert status == 200
    (leg,) = report["legs"]
    assert leg["model"] == MODEL
    (line,) = leg["upstreams"]
    assert (line["name"], line["chosen"]) == ("core", 1)
    assert report["demand"]["service_class"] == "standard"
    assert core.seen.requests == before


async def test_headers_and_tenant_are_taken_as_those_of_a_client(start_pop, core) -> None:
    upstreams = (
        Upstream(name="here", url=core.url, dialect="trtllm", models=(MODEL,), jurisdiction="EU"),
        Upstream(name="there", url=core.url, dialect="trtllm", models=(MODEL,), jurisdiction="US"),
    )
    tenants = (AuthTenant(id="clinic", keys=("k",), residency=("EU",)),)
    pop = await start_pop(core.url, upstream=upstreams, auth=Auth(mode="keys", tenant=tenants))
    _, report = await explained(pop, headers={"EdgeCache-Class": "batch"}, tenant="clinic")
    assert report["demand"]["service_class"] == "batch"
    refused = {line["name"]: line["refusal"] for line in report["legs"][0]["upstreams"]}
    assert refused == {"here": None, "there": "residency"}


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [({"model": MODEL}, {}, 400), (ASKED, {"endpoint": "images"}, 400), ({"messages": []}, {}, 400)],
)
async def test_what_is_no_request_is_refused(pop, body, query, status) -> None:
    assert (await explained(pop, body, **query))[0] == status


async def test_a_tenant_that_does_not_exist_is_not_found(start_pop, core) -> None:
    tenants = (AuthTenant(id="clinic", keys=("k",)),)
    pop = await start_pop(core.url, auth=Auth(mode="keys", tenant=tenants))
    assert (await explained(pop, tenant="nobody"))[0] == 404


async def test_a_model_that_nobody_serves_is_said_and_no_error(pop) -> None:
    status, report = await explained(pop, ASKED | {"model": "absent"})
    assert status in {200, 404}
    assert "absent" in orjson.dumps(report).decode()
