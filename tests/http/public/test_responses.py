import pytest
from openai import AsyncOpenAI, NotFoundError

from edgecache.config import Upstream
from tests.conftest import MODEL, Pop
from tests.http.conftest import Site, request


async def test_a_stored_response_can_be_read_listed_cancelled_and_deleted(pop: Pop) -> None:
    async with AsyncOpenAI(base_url=pop.url + "/v1", api_key="x", max_retries=0) as client:
        made = await client.responses.create(model=MODEL, input="Say hello.", store=True)
        assert made.output_text
        assert (await client.responses.retrieve(made.id)).output_text == made.output_text
        assert (await client.responses.input_items.list(made.id)).data
        await client.responses.delete(made.id)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(made.id)


async def test_every_upstream_is_asked_for_a_stored_response(start_pop, core) -> None:
    gone = Upstream(name="gone", url="http://127.0.0.1:1", dialect="trtllm", models=("other",), connect_timeout=0.5)
    here = Upstream(name="core", url=core.url, dialect="trtllm", models=(MODEL,))
    pop: Pop = await start_pop(core.url, upstream=(gone, here))
    async with AsyncOpenAI(base_url=pop.url + "/v1", api_key="x", max_retries=0) as client:
        made = await client.responses.create(model=MODEL, input="Say hello.", store=True)
        found = await client.responses.with_raw_response.retrieve(made.id)
    assert found.headers["x-edgecache-upstream"] == "core"
    assert found.headers["cache-status"] == "edgecache; fwd=bypass; fwd-status=200; detail=stored-response"


@pytest.mark.parametrize("response_id", ["a%2Fb", "..%2f..%2fadmin", "a%00", "x" * 129, "a.b"])
async def test_an_id_that_could_be_a_path_is_refused_here(site, response_id: str) -> None:
    made: Site = await site()
    raw = await made.connect()
    await raw.send(request("GET", f"/v1/responses/{response_id}"))
    assert (await raw.response()).status in {400, 404}
    assert (await made.log())[0]["upstream" if "upstream" in made.lines.lines[0] else "cache"] in {None, "NONE"}
