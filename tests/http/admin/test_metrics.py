import httpx

from tests.conftest import Pop


async def test_the_metrics_are_in_prometheus_text_format(pop: Pop) -> None:
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "\nedgecache_build_info{" in answer.text
    assert "\nedgecache_connections " in answer.text
