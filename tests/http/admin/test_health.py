import httpx

from edgecache.http.services import Check
from tests.conftest import Pop


async def test_a_started_pop_is_alive_started_and_ready(pop: Pop) -> None:
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        for path in ("/livez", "/startupz", "/readyz"):
            answer = await client.get(path)
            assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_what_is_missing_is_named_and_the_pop_stays_alive(pop: Pop) -> None:
    pop.daemon.services.readiness.add(lambda: Check("moon", ok=False, detail="new"))
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "not ready: moon\n")
        report = (await client.get("/readyz?verbose")).json()
        assert report["ready"] is False
        assert report["checks"][-1] == {"name": "moon", "ok": False, "required": True, "detail": "new"}
        assert {check["name"] for check in report["checks"]} >= {
            "started",
            "accepting",
            "store",
            "embedder",
            "upstream",
        }
        assert (await client.get("/livez")).status_code == 200


async def test_a_draining_pop_is_not_ready(pop: Pop) -> None:
    pop.daemon.services.readiness.draining = True
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/startupz?verbose")).json()["ready"] is True
