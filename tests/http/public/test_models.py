import pytest
from openai import AsyncOpenAI, NotFoundError, PermissionDeniedError

from edgecache.config import Auth, AuthTenant, Upstream
from edgecache.telemetry.metrics import Metrics
from edgecache.types import Tier
from edgecache.upstream.client import UpstreamClient
from tests.conftest import MODEL, Pop
from tests.http.conftest import request


def sdk(pop: Pop, key: str = "x") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=pop.url + "/v1", api_key=key, max_retries=0)


async def test_the_models_of_the_upstreams_and_the_embedder_are_listed(pop: Pop) -> None:
    async with sdk(pop) as client:
        assert [model.id async for model in client.models.list()] == [MODEL, "edgecache/hashing"]


async def test_a_model_can_be_asked_for_also_with_a_slash_in_its_name(pop: Pop) -> None:
    async with sdk(pop) as client:
        assert (await client.models.retrieve(MODEL)).id == MODEL
        assert (await client.models.retrieve("edgecache/hashing")).owned_by == "edgecache"
        with pytest.raises(NotFoundError) as caught:
            await client.models.retrieve("nope")
    assert caught.value.code == "model_not_found"


async def test_a_tenant_sees_only_the_models_it_may_use(start_pop, core) -> None:
    tenants = (AuthTenant(id="a", keys=("sk-a",), models=(MODEL,)), AuthTenant(id="b", keys=("sk-b",), models=("y",)))
    pop: Pop = await start_pop(core.url, auth=Auth(mode="keys", tenant=tenants))
    async with sdk(pop, "sk-a") as first, sdk(pop, "sk-b") as second:
        assert [model.id async for model in first.models.list()] == [MODEL]
        assert [model.id async for model in second.models.list()] == []
        with pytest.raises(NotFoundError):
            await second.models.retrieve(MODEL)


async def test_a_neighbour_is_told_all_models_in_its_own_name_and_nothing_else(start_pop, core) -> None:
    tenant = AuthTenant(id="a", keys=("sk-a",), models=("y",))
    pop: Pop = await start_pop(core.url, auth=Auth(mode="keys", tenant=(tenant,), peers=("pop",)))
    settings = Upstream(name="n", url=pop.url, dialect="edgecache", tier=Tier.PEER, api_key="pop")
    client = UpstreamClient(settings, metrics=Metrics())
    try:
        assert MODEL in dict(await client.models())
    finally:
        await client.close()
    async with sdk(pop, "pop") as neighbour:
        assert (await neighbour.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(PermissionDeniedError, match="EdgeCache-Tenant"):
            await neighbour.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "?"}])
        for wrong in ("nobody", ""):
            with pytest.raises(PermissionDeniedError):
                await neighbour.models.list(extra_headers={"EdgeCache-Tenant": wrong})
        assert [each.id async for each in neighbour.models.list(extra_headers={"EdgeCache-Tenant": "a"})] == []


async def test_head_answers_like_get_without_the_body(site) -> None:
    made = await site()

    class Models:
        async def models(self, *, neighbours: bool) -> list[tuple[str, str]]:
            assert neighbours
            return [("m", "o")]

    class Embedder:
        name = "e"

    class Batcher:
        embedder = Embedder()

    made.services.pool, made.services.batcher = Models(), Batcher()
    raw = await made.connect()
    await raw.send(request("GET", "/v1/models"))
    length = (await raw.response()).headers["content-length"]
    await raw.send(request("HEAD", "/v1/models") + request("GET", "/v1/models"))
    head = await raw.reader.readuntil(b"\r\n\r\n")
    assert f"content-length: {length}".encode() in head
    assert (await raw.response()).status == 200
