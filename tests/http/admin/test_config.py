import httpx

from edgecache.config import Admin, Auth, AuthTenant
from edgecache.errors import ConfigError
from tests.conftest import MODEL, Pop


async def test_the_configuration_in_force_is_shown_without_its_secrets(start_pop, core) -> None:
    auth = Auth(mode="keys", tenant=(AuthTenant(id="acme", keys=("sk-secret",)),))
    pop: Pop = await start_pop(core.url, admin=Admin(listen="127.0.0.1:0", token="tok-secret"), auth=auth)
    async with httpx.AsyncClient(base_url=pop.admin_url, headers={"Authorization": "Bearer tok-secret"}) as client:
        answer = await client.get("/admin/v1/config")
    assert answer.json()["auth.mode"] == "keys"
    assert "secret" not in answer.text


async def test_a_wrong_token_is_a_problem_as_rfc_9457_has_it(start_pop, core) -> None:
    pop: Pop = await start_pop(core.url, admin=Admin(listen="127.0.0.1:0", token="tok"))
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        answer = await client.get("/admin/v1/config")
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.json()["status"] == 401


async def test_unknown_urls_and_methods_are_problems_too(pop: Pop) -> None:
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        assert (await client.get("/v1/models")).json()["code"] == "unknown_url"
        answer = await client.get("/admin/v1/purge")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_reload_says_what_became_of_it(pop: Pop) -> None:
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        assert (await client.post("/admin/v1/reload")).json()["needs_restart"] == []


async def test_a_reload_of_a_bad_file_is_400_with_its_reason(pop: Pop) -> None:
    async def bad() -> dict[str, object]:
        raise ConfigError("edgecache.toml:3: unknown key `listne`")

    pop.daemon.services.reload = bad
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        answer = await client.post("/admin/v1/reload")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_config")
    assert "listne" in answer.json()["detail"]


async def test_models_and_the_embedder_are_listed(pop: Pop) -> None:
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        found = (await client.get("/admin/v1/models")).json()
    assert found["models"][0]["id"] == MODEL
    assert found["embedder"]["name"] == "hashing"
