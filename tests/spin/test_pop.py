"""Apps built with Spin's own tools (`make spin`) on a whole POP: on their own routes, on hits, and what `llm` gets."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from edgecache.clock import SystemClock
from edgecache.config import Core, Embed, Upstream
from edgecache.sim.upstream import ScriptedCore
from tests.conftest import MODEL, Pop

pytestmark = [pytest.mark.spin, pytest.mark.timeout(600)]

BUILT = Path(__file__).parents[2] / "build" / "spin"
LIMITS = {"cpu_ms": 1000, "wall_ms": 10_000, "memory_mb": 64}
LLAMA = "llama2-chat"
"""The model that `support` asks for."""


async def deployed(pop: Pop, app: str, **manifest: Any) -> None:
    """Upload `app` as `make spin` left it."""
    said = {"name": app, "bind": [{"phase": "route"}], "limits": LIMITS} | manifest
    artefact = (BUILT / f"{app}.wasm").read_bytes()
    parts: dict[str, Any] = {"manifest": (None, msgspec.json.encode(said)), "artefact": (None, artefact)}
    async with httpx.AsyncClient(base_url=pop.admin_url, timeout=300) as admin:
        answer = await admin.post("/admin/v1/functions", files=parts)
    assert (answer.status_code, answer.json().get("kind")) == (200, "component"), answer.text


@pytest.fixture
async def client(pop: Pop) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=pop.url, timeout=60) as made:
        yield made


async def test_a_javascript_app_answers_on_its_route_and_runs_on_hits(pop: Pop, client: httpx.AsyncClient) -> None:
    await deployed(pop, "shop", bind=[{"phase": "route"}, {"phase": "hit"}])
    greeted = await client.get("/fn/shop/greet", headers={"x-user": "Ada"})
    assert (greeted.status_code, greeted.text) == (200, "Hello Ada!")
    assert greeted.headers["x-edgecache-function"] == "shop@1"
    priced = await client.post("/fn/shop/price", json={"amount": 10, "currency": "USD"})
    assert priced.json() == {"amount": 11, "currency": "USD"}
    photo = bytes(range(256)) * 1000
    shown = await client.post("/fn/shop/photo", content=photo)
    assert (shown.content, shown.headers["content-type"]) == (photo, "image/png")
    assert (await client.get("/fn/shop/nothing")).status_code == 404

    # It knows nothing of the API's paths and says 404, which is a fault there: the answer goes out as it is.
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "What does it cost?"}]}
    fresh = await client.post("/v1/chat/completions", json=asked)
    await pop.settled()
    stored = await client.post("/v1/chat/completions", json=asked)
    assert (stored.status_code, stored.headers["x-edgecache-status"]) == (200, "HIT")
    assert stored.headers["x-edgecache-function"] == "shop@1"
    assert stored.json()["choices"] == fresh.json()["choices"]


async def test_a_python_app_keeps_its_visitors_and_greets_them(pop: Pop, client: httpx.AsyncClient) -> None:
    await deployed(
        pop, "guestbook", allow={"kv": ["default"], "variables": ["greeting"]}, variables={"greeting": "grüezi"}
    )
    for visit in (1, 2):
        answer = await client.get("/fn/guestbook/", params={"name": "Ada"})
        assert (answer.status_code, answer.json()["text"], answer.json()["visit"]) == (200, "grüezi Ada", visit)


async def test_a_python_app_runs_on_hits(pop: Pop, client: httpx.AsyncClient) -> None:
    """What it answers is no chat completion, so the manifest decides: the client gets the stored answer."""
    await deployed(
        pop,
        "guestbook",
        bind=[{"phase": "hit"}],
        allow={"kv": ["default"], "variables": ["greeting"]},
        variables={"greeting": "grüezi"},
    )
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Who was here?"}]}
    await client.post("/v1/chat/completions", json=asked)
    await pop.settled()
    stored = await client.post("/v1/chat/completions", json=asked)
    assert stored.headers["x-edgecache-status"] == "HIT"
    async with httpx.AsyncClient(base_url=pop.admin_url) as admin:
        kept = await admin.get("/admin/v1/functions/guestbook/kv/default/names")
    assert kept.json() == ["friend"]  # it ran, and what it kept was the only thing that it changed


@pytest.mark.model
async def test_an_llm_app_has_its_vectors_from_this_pop_and_its_text_from_the_cache(start_pop) -> None:
    core = ScriptedCore(Core(time_to_first_token=0, inter_token_latency=0, models=(LLAMA,)), SystemClock())
    url = await core.start("127.0.0.1", 0)
    upstream = (Upstream(name="core", url=url, dialect="trtllm", models=(LLAMA,)),)
    try:
        pop = await start_pop(url, upstream=upstream, embed=Embed(deadline=30.0))
        await deployed(pop, "support", allow={"llm": ["*"]})
        async with httpx.AsyncClient(base_url=pop.url, timeout=60) as client:
            first = await client.post("/fn/support/", content="How can I return it?")
            assert first.status_code == 200, first.text
            found = first.json()
            assert (found["page"], found["dimension"]) == ("Returns are free for 30 days.", 384)
            assert "Returns are free for 30 days." in found["answer"]
            await pop.settled()
            sent = core.seen.paths["/v1/chat/completions"]
            again = await client.post("/fn/support/", content="How can I return it?")
            assert again.json() == found
        assert core.seen.paths["/v1/chat/completions"] == sent == 1
    finally:
        await core.stop()
