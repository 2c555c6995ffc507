"""The whole POP in this process: what it says of itself, what it does without its parts, reload, drain."""

import asyncio
import json
from pathlib import Path

import aiohttp
import msgspec
import openai
import pytest

from edgecache.config import Auth, AuthTenant, Cache, Config, Embed, Router, Semantic, Server, Upstream
from edgecache.config.load import Loaded
from edgecache.daemon import Daemon
from edgecache.errors import ConfigError
from edgecache.types import CacheStatus, Mode, Tier
from tests.conftest import MODEL, Pop, configuration, read

QUESTION = "Which river runs through Vienna?"


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def checks(pop: Pop) -> dict[str, dict]:
    _, text = await get(pop.admin_url + "/readyz?verbose")
    return {check["name"]: check for check in json.loads(text)["checks"]}


async def test_an_application_only_changes_its_base_url(pop: Pop) -> None:
    async with openai.AsyncOpenAI(base_url=pop.url + "/v1", api_key="none") as client:
        ask = client.chat.completions.with_raw_response.create
        messages = [{"role": "user", "content": QUESTION}]
        miss = await ask(model=MODEL, messages=messages)
        await pop.settled()
        hit = await ask(model=MODEL, messages=messages)
        assert [miss.headers["x-edgecache-status"], hit.headers["x-edgecache-status"]] == ["MISS", "HIT"]
        assert hit.parse().choices[0].message.content == miss.parse().choices[0].message.content
        stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text == hit.parse().choices[0].message.content
        assert [model.id async for model in client.models.list()] == [MODEL, "edgecache/hashing"]


async def test_the_probes_and_metrics_are_on_the_admin_listener(pop: Pop) -> None:
    assert await get(pop.admin_url + "/livez") == (200, "ok\n")
    assert (await get(pop.admin_url + "/readyz"))[0] == 200
    assert (await get(pop.admin_url + "/startupz"))[0] == 200
    assert "edgecache_build_info" in (await get(pop.admin_url + "/metrics"))[1]
    assert (await get(pop.url + "/metrics"))[0] == 404


async def test_readiness_names_store_embedder_and_upstream(pop: Pop) -> None:
    said = await checks(pop)
    assert said["embedder"]["detail"] == "hashing on cpu in fp32"
    assert said["upstream"]["detail"].startswith("core (trtllm, http://127.0.0.1")
    assert said["store"]["ok"]


async def test_the_embedded_core_is_called_what_it_is(tmp_path: Path, core) -> None:
    daemon = Daemon(Loaded(configuration(tmp_path / "data", core.url), {}, ""), core_url=core.url)
    await daemon.start()
    try:
        assert "scripted, no model behind it" in (await checks(Pop(daemon)))["upstream"]["detail"]
        assert daemon.summary().core_url == core.url
    finally:
        await daemon.stop()


async def test_a_store_that_cannot_be_opened_costs_the_cache_and_not_the_service(start_pop, core, tmp_path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    pop = await start_pop(core.url, data=blocked)
    for _ in range(2):
        reply = await pop.ask(QUESTION)
        assert (reply.status, reply.cache.status) == (200, CacheStatus.BYPASS)
    said = (await checks(pop))["store"]
    assert not said["ok"]
    assert "blocked" in said["detail"]


async def test_weights_that_are_not_there_refuse_to_start(start_pop, core, tmp_path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        await start_pop(core.url, embed=Embed(path=str(tmp_path / "nowhere")))


async def test_without_a_verifier_the_same_words_hit_and_readiness_says_so(pop: Pop) -> None:
    said = (await checks(pop))["verifier"]
    assert (said["ok"], said["detail"]) == (True, "none: only equal wording hits")
    await read(await pop.ask(QUESTION))
    await pop.settled()
    assert (await pop.ask(QUESTION.upper())).cache.status == CacheStatus.SEMANTIC_HIT
    assert (await pop.ask("Which river runs through old Vienna?")).cache.status == CacheStatus.MISS


@pytest.mark.model
@pytest.mark.slow
async def test_a_verifier_that_cannot_be_loaded_costs_other_wordings_and_not_the_service(
    start_pop, core, tmp_path
) -> None:
    broken = Embed(verifier=str(tmp_path / "nowhere"), deadline=10.0)
    pop = await start_pop(core.url, embed=broken)
    said = (await checks(pop))["verifier"]
    assert not said["ok"]
    assert "nowhere" in said["detail"]
    await read(await pop.ask(QUESTION))
    await pop.settled()
    assert (await pop.ask(QUESTION.upper())).cache.status == CacheStatus.SEMANTIC_HIT
    assert (await pop.ask("Through Vienna, which river runs?")).cache.status == CacheStatus.MISS


async def test_the_start_says_when_other_wordings_hit(start_pop, core) -> None:
    pop = await start_pop(core.url, cache=Cache(semantic=Semantic(budget=0.01, mode="shadow")))
    assert pop.daemon.summary().hits == "budget 1 % wrong per request, in shadow mode"


async def test_feedback_finds_an_exact_hit_that_took_the_short_cut(pop: Pop) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
    async with aiohttp.ClientSession() as session:
        for _ in range(3):  # a miss, a hit, and one that is known by its bytes
            async with session.post(pop.url + "/v1/chat/completions", json=body) as response:
                await response.read()
                name, status = response.headers["x-request-id"], response.headers["x-edgecache-status"]
            await pop.settled()
        assert status == "HIT"
        told = {"request_id": name, "verdict": "bad"}
        async with session.post(pop.url + "/v1/feedback", json=told) as response:
            assert response.status == 200
    assert (await pop.ask(QUESTION)).cache.status == CacheStatus.MISS


async def test_an_address_that_is_taken_refuses_to_start(start_pop, pop: Pop, core, tmp_path) -> None:
    taken = Server(listen=pop.url.removeprefix("http://"), data=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="cannot listen on"):
        await start_pop(core.url, server=taken)


async def test_without_the_semantic_tier_only_the_same_request_hits(start_pop, core) -> None:
    pop = await start_pop(core.url, cache=Cache(semantic=Semantic(enabled=False)))
    await read(await pop.ask(QUESTION))
    await pop.settled()
    assert (await pop.ask(QUESTION)).cache.status == CacheStatus.HIT
    assert (await pop.ask(QUESTION.lower())).cache.status == CacheStatus.MISS


async def test_turning_the_semantic_tier_off_for_a_while_loses_no_vectors(start_pop, core) -> None:
    for enabled in (True, False, True):
        pop = await start_pop(core.url, cache=Cache(semantic=Semantic(enabled=enabled)))
        await read(await pop.ask(QUESTION))
        await pop.settled()
        await pop.daemon.stop()
    pop = await start_pop(core.url)
    assert (await pop.ask(QUESTION.lower())).cache.status == CacheStatus.SEMANTIC_HIT


async def test_what_was_stored_is_there_after_a_restart(start_pop, core, tmp_path) -> None:
    first = await start_pop(core.url)
    await read(await first.ask(QUESTION))
    await first.settled()
    await first.daemon.stop()
    second = await start_pop(core.url)
    assert (await second.ask(QUESTION)).cache.status == CacheStatus.HIT
    assert (await second.ask(QUESTION.lower())).cache.status == CacheStatus.SEMANTIC_HIT
    assert second.daemon.semantic.drift() == 0


class Reloading:
    """A daemon whose configuration the test changes."""

    daemon: Daemon

    def __init__(self, config: Config) -> None:
        self.config = config
        self.error: ConfigError | None = None

    def load(self) -> Loaded:
        if self.error is not None:
            raise self.error
        return Loaded(self.config, {}, "new")


@pytest.fixture
async def reloading(tmp_path: Path, core):
    made = Reloading(configuration(tmp_path / "data", core.url))
    made.daemon = Daemon(Loaded(made.config, {}, "old"), reload=made.load)
    await made.daemon.start()
    yield made
    await made.daemon.stop()


async def test_a_reload_takes_the_cache_settings_and_says_what_waits(reloading: Reloading) -> None:
    old = reloading.config
    reloading.config = msgspec.structs.replace(
        old, cache=Cache(enabled=False), embed=Embed(model="hashing", deadline=1.0)
    )
    assert await reloading.daemon.reload() == {"hash": "new", "needs_restart": ["embed"]}
    reply = await Pop(reloading.daemon).ask(QUESTION)
    assert reply.cache.status == CacheStatus.BYPASS
    assert reloading.daemon.config.embed == old.embed


async def test_a_reload_changes_the_upstreams_without_cutting_an_answer_in_progress(reloading: Reloading, core) -> None:
    pop = Pop(reloading.daemon)
    stream = await pop.ask({"messages": [{"role": "user", "content": QUESTION}], "stream": True})
    reloading.config = msgspec.structs.replace(
        reloading.config, upstream=(Upstream(name="other", url=core.url, dialect="trtllm", models=(MODEL,)),)
    )
    await reloading.daemon.reload()
    assert (await read(stream)).endswith(b"data: [DONE]\n\n")
    assert (await pop.ask("Something else entirely?")).upstream == "other"


async def test_a_bad_file_keeps_the_old_configuration_and_says_so(reloading: Reloading, caplog) -> None:
    reloading.error = ConfigError("edgecache.toml:3: cache.tll: unknown")
    with pytest.raises(ConfigError):
        await reloading.daemon.reload()
    assert reloading.daemon.pipeline.settings.enabled
    assert b'edgecache_config_reloads_total{result="refused"} 1.0' in reloading.daemon.metrics.render()


async def test_draining_lets_a_stream_finish_and_takes_no_new_request(pop: Pop, core) -> None:
    core.configure(inter_token_latency=0.01)
    async with aiohttp.ClientSession() as session:
        body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
        async with session.post(pop.url + "/v1/chat/completions", json=body) as response:
            await response.content.readany()
            draining = asyncio.ensure_future(pop.daemon.drain())  # noqa: TID251
            rest = await response.read()
            await draining
        assert rest.endswith(b"data: [DONE]\n\n")
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(pop.url + "/v1/chat/completions", json=body)
    assert (await get(pop.admin_url + "/readyz"))[0] == 503


async def test_a_daemon_that_failed_to_start_leaves_nothing_behind(tmp_path: Path, core) -> None:
    data = tmp_path / "data"
    taken = Server(listen=core.url.removeprefix("http://"), data=str(data))
    before = asyncio.all_tasks()
    with pytest.raises(ConfigError, match="cannot listen on"):
        await Daemon(Loaded(configuration(data, core.url, server=taken), {}, "")).start()
    assert asyncio.all_tasks() <= before
    again = Daemon(Loaded(configuration(data, core.url), {}, ""))
    await again.start()
    await again.stop()


async def test_a_reload_that_would_open_the_listener_to_everybody_is_refused(tmp_path: Path, core) -> None:
    tenant = AuthTenant(id="acme", keys=("sk-1",))
    closed = configuration(
        tmp_path / "data",
        core.url,
        server=Server(listen="0.0.0.0:0", data=str(tmp_path / "data")),
        auth=Auth(mode="keys", tenant=(tenant,)),
    )
    made = Reloading(closed)
    made.daemon = Daemon(Loaded(closed, {}, "old"), reload=made.load)
    await made.daemon.start()
    try:
        made.config = configuration(tmp_path / "data", core.url)  # sound by itself: loopback without keys
        with pytest.raises(ConfigError, match="without keys"):
            await made.daemon.reload()
        assert made.daemon.config.auth.mode == "keys"
    finally:
        await made.daemon.stop()


async def test_a_failure_says_what_the_cache_made_of_the_request(start_pop) -> None:
    pop = await start_pop("http://127.0.0.1:9")
    body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
    async with aiohttp.ClientSession() as session:
        async with session.post(pop.url + "/v1/chat/completions", json=body) as down:
            assert (down.status, down.headers["x-edgecache-status"]) == (502, "MISS")
        headers, never_cached = {"Cache-Control": "only-if-cached"}, body | {"store": True}
        async with session.post(pop.url + "/v1/chat/completions", json=never_cached, headers=headers) as never:
            assert never.status == 504
            assert never.headers["cache-status"] == "edgecache; fwd=bypass; detail=stateful"
        async with session.get(pop.url + "/v1/models") as models:
            assert [model["id"] for model in (await models.json())["data"]] == ["edge-test", "edgecache/hashing"]


async def test_the_configuration_in_force_is_a_metric(reloading: Reloading) -> None:
    assert b'edgecache_config_info{hash="old"} 1.0' in reloading.daemon.metrics.render()
    await reloading.daemon.reload()
    text = reloading.daemon.metrics.render()
    assert b'edgecache_config_info{hash="new"} 1.0' in text
    assert b'hash="old"' not in text


async def test_the_admin_listener_on_loopback_goes_by_loopback_names_only(pop: Pop) -> None:
    async with aiohttp.ClientSession() as session:
        for name, status in (("rebound.example", 400), ("localhost", 200)):
            async with session.get(pop.admin_url + "/livez", headers={"Host": name}) as response:
                assert response.status == status


async def test_an_answer_given_just_before_the_stop_is_kept(start_pop, core) -> None:
    first = await start_pop(core.url)
    await read(await first.ask(QUESTION))
    await first.daemon.stop()
    second = await start_pop(core.url)
    assert (await second.ask(QUESTION)).cache.status == CacheStatus.HIT


async def test_upstreams_that_are_discovered_answer_alone_and_readiness_names_them(tmp_path: Path, core) -> None:
    file = tmp_path / "found.json"
    config = configuration(tmp_path / "data", core.url, upstream=(), router=Router(discovery=str(file)))
    daemon = Daemon(Loaded(config, {}, ""))
    await daemon.start()
    try:
        pop = Pop(daemon)
        assert (await checks(pop))["upstream"]["detail"] == "none configured"
        file.write_text(json.dumps([{"name": "found", "url": core.url, "dialect": "trtllm", "models": [MODEL]}]))
        async with asyncio.timeout(10):
            while not daemon.pool.clients:
                await asyncio.sleep(0.01)
        assert (await checks(pop))["upstream"]["detail"] == f"found (trtllm, {core.url})"
        assert (await pop.ask(QUESTION)).upstream == "found"
    finally:
        await daemon.stop()


async def test_a_neighbours_cache_is_no_laxer_than_this_one(start_pop, core, tmp_path: Path) -> None:
    far: Pop = await start_pop(core.url, data=tmp_path / "far", auth=Auth(peers=("pop",)))
    settings = Upstream(name="far", url=far.url, dialect="edgecache", tier=Tier.PEER, api_key="pop")
    near: Pop = await start_pop(core.url, data=tmp_path / "near", upstream=(settings,))

    async def kept(**controls) -> list[str]:
        """The namespaces of what the neighbour has stored, after a request that it got."""
        reply = await near.ask(QUESTION, **controls)
        assert (reply.status, reply.upstream) == (200, "far")
        await far.settled()
        await near.settled()
        assert near.daemon.store.stats().entries == 0  # its answers say `no-store`
        store = far.daemon.store
        return sorted(store.get(found.id).namespace for found in store.scan(0, 10))

    assert await kept(no_store=True) == []
    assert await kept(mode=Mode.READONLY) == []
    assert await kept(mode=Mode.BYPASS) == []
    assert await kept(namespace="a") == ["a"]
    assert await kept() == ["", "a"]
    before = core.seen.requests
    assert await kept(max_age=60) == ["", "a"]
    assert core.seen.requests == before
    assert await kept(no_cache=True) == ["", "a"]
    assert core.seen.requests == before + 1
