"""`/fn/NAME/…` as a client sees it, and functions on the OpenAI API over HTTP."""

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
import pytest
from openai import AsyncOpenAI

from edgecache.clock import SystemClock
from edgecache.config import Auth, AuthTenant, Limits
from edgecache.functions.manifest import Bind, Phase, Quotas
from tests.conftest import MODEL, Pop
from tests.puppet import deploy

pytestmark = pytest.mark.slow  # each test compiles a function
ROUTE = Bind(Phase.ROUTE)


async def fetch(pop: Pop, path: str, say: str = "200~~ok", method: str = "GET", **options: Any) -> tuple[Any, bytes]:
    headers = {"x-say-route": say} | options.pop("headers", {})
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, pop.url + path, headers=headers, **options) as response,
    ):
        return response, await response.read()


async def test_a_function_answers_with_status_headers_and_body_of_its_own(pop: Pop) -> None:
    await deploy(pop, ROUTE)
    say = "201~content-type: text/plain; charset=utf-8~set-cookie: a=1~set-cookie: b=2~x-own: 1~~hello %U"
    response, body = await fetch(pop, "/fn/puppet/x?y=1", say, headers={"x-user": "Ada"})
    assert (response.status, body) == (201, b"hello Ada")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers.getall("set-cookie") == ["a=1", "b=2"]
    assert response.headers["x-own"] == "1"
    assert response.headers["x-edgecache-function"] == "puppet@1"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_reaches_it_with_its_body(pop: Pop, method: str) -> None:
    await deploy(pop, ROUTE)
    response, body = await fetch(pop, "/fn/puppet", "200~~%B", method, data=b"\x00\xffbytes")
    assert (response.status, body) == (200, b"\x00\xffbytes")


async def test_head_is_get_without_the_body(pop: Pop) -> None:
    await deploy(pop, ROUTE)
    response, body = await fetch(pop, "/fn/puppet/", "200~~hello", "HEAD")
    assert (response.status, body, response.headers["content-length"]) == (200, b"", "5")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(pop: Pop, status: int) -> None:
    await deploy(pop, ROUTE)
    response, body = await fetch(pop, "/fn/puppet/", f"{status}~etag: x~~")
    assert (response.status, body) == (status, b"")
    assert "content-length" not in response.headers
    assert "transfer-encoding" not in response.headers


@pytest.mark.parametrize("status", [204, 304])
async def test_a_body_where_none_may_be_forges_no_response_on_the_connection(pop: Pop, status: int) -> None:
    await deploy(pop, ROUTE)
    reader, writer = await asyncio.open_connection(*pop.url.removeprefix("http://").split(":"))
    heads = []
    async with asyncio.timeout(10):
        for say in (f"{status}~etag: x~~HTTP/1.1 418 Forged~~~~", "200~~ok"):
            writer.write(f"GET /fn/puppet/ HTTP/1.1\r\nhost: localhost\r\nx-say-route: {say}\r\n\r\n".encode())
            heads.append(await reader.readuntil(b"\r\n\r\n"))
        assert await reader.readuntil(b"0\r\n\r\n") == b"2\r\nok\r\n0\r\n\r\n"
    writer.close()
    assert [int(head.split()[1]) for head in heads] == [status, 200]


async def test_what_belongs_to_the_connection_or_to_us_stays_out(pop: Pop) -> None:
    await deploy(pop, ROUTE)
    say = "200~connection: close~transfer-encoding: chunked~content-length: 99~server: mine~x-edgecache-status: HIT~~ok"
    response, body = await fetch(pop, "/fn/puppet/", say)
    assert body == b"ok"
    assert response.headers["server"] == "edgecache"
    assert response.headers["x-edgecache-status"] == "BYPASS"


async def test_names_and_paths_that_are_not_bound_are_not_found(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.ROUTE, path="/api/*"))
    await deploy(pop, Bind(Phase.HIT), name="inside")
    for path in ("/fn/puppet/other", "/fn/puppet", "/fn/inside/", "/fn/unknown/x", "/fn/..%2f..%2fetc/passwd"):
        response, body = await fetch(pop, path)
        assert response.status == 404, path
        assert b"no_function" in body
    assert (await fetch(pop, "/fn/puppet/api/x"))[0].status == 200


async def test_a_tenant_reaches_its_own_functions_only(start_pop, core) -> None:
    tenants = (
        AuthTenant(id="acme", keys=("key-of-acme-0123456789",)),
        AuthTenant(id="other", keys=("key-of-other-012345678",)),
    )
    pop = await start_pop(core.url, auth=Auth(mode="keys", tenant=tenants))
    await deploy(pop, ROUTE, tenant="acme")
    for key, status in (("key-of-acme-0123456789", 200), ("key-of-other-012345678", 404), ("wrong", 401)):
        response, _ = await fetch(pop, "/fn/puppet/", headers={"authorization": f"Bearer {key}"})
        assert response.status == status


@pytest.mark.parametrize(
    ("say", "code"),
    [
        ("%T", "function_trap"),
        ("%L", "function_cpu"),
        ("99~~", "function_answer"),
        ("200~bad name: x~~", "function_answer"),
    ],
)
async def test_a_fault_is_a_502_that_names_it(pop: Pop, say: str, code: str) -> None:
    await deploy(pop, ROUTE, limits=Quotas(cpu_ms=20))
    response, body = await fetch(pop, "/fn/puppet/", say)
    error = msgspec.json.decode(body)["error"]
    assert (response.status, error["code"]) == (502, code)
    assert error["message"].startswith("Function puppet@1")
    assert "unreachable" not in error["message"]  # what came out of the sandbox is for its owner


async def test_an_answer_beyond_its_limit_does_not_look_whole(pop: Pop) -> None:
    await deploy(pop, ROUTE, limits=Quotas(response_bytes=1000))
    with pytest.raises(aiohttp.ClientError):
        response, _ = await fetch(pop, "/fn/puppet/", "200~~%B", "POST", data=bytes(1001))
        assert response.status == 502
        raise aiohttp.ClientPayloadError


async def test_a_body_that_is_too_large_never_reaches_it(start_pop, core) -> None:
    pop = await start_pop(core.url, limits=Limits(max_body_bytes=1000))
    version = await deploy(pop, ROUTE)
    response, _ = await fetch(pop, "/fn/puppet/", "200~~", "POST", data=bytes(1001))
    assert response.status == 413
    assert pop.daemon.runtime.runner.stats(version).calls == 0


async def test_credentials_stay_outside_and_cookies_do_not(pop: Pop) -> None:
    await deploy(pop, ROUTE)
    headers = {"authorization": "Bearer secret", "cookie": "a=b", "x-edgecache-tenant": "other"}
    response, _ = await fetch(pop, "/fn/puppet/", "200~~ok", headers=headers)
    assert response.status == 200  # what it sees is `functions.phases`' part; here it must get through at all


async def test_without_functions_there_is_no_route(start_pop, core) -> None:
    from edgecache.config import Functions

    pop = await start_pop(core.url, functions=Functions(enabled=False))
    assert (await fetch(pop, "/fn/puppet/"))[0].status == 404


async def test_a_client_that_leaves_is_not_held_against_the_function(pop: Pop) -> None:
    version = await deploy(pop, ROUTE, limits=Quotas(response_bytes=8 * 1024 * 1024, memory_mb=64))
    runner = pop.daemon.runtime.runner
    reader, writer = await asyncio.open_connection(*pop.url.removeprefix("http://").split(":"))
    body = bytes(2 * 1024 * 1024)
    head = (
        f"POST /fn/puppet/ HTTP/1.1\r\nhost: localhost\r\nx-say-route: 200~~%B\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    await reader.read(10)
    writer.transport.abort()
    async with asyncio.timeout(10):
        while not runner.stats(version).calls:
            await asyncio.sleep(0.01)
    assert set(runner.stats(version).outcomes) <= {"ok", "abandoned"}


async def test_a_cached_answer_comes_back_personalised_through_the_sdk_as_json_and_as_stream(pop: Pop) -> None:
    version = await deploy(pop, Bind(Phase.HIT))
    messages: Any = [{"role": "user", "content": "Who is NAME?"}]
    async with AsyncOpenAI(base_url=pop.url + "/v1", api_key="x", max_retries=0) as client:
        create = client.chat.completions.with_raw_response.create
        assert (await create(model=MODEL, messages=messages)).headers["x-edgecache-status"] == "MISS"
        await pop.settled()
        runner, users = pop.daemon.runtime.runner, ["Ada", "Bob"]
        for number in range(600):
            user = users[number % 2]
            extra = {"x-say-hit": "200~~%R", "x-user": user}
            found = await create(model=MODEL, messages=messages, extra_headers=extra)
            assert f"Who is {user}?" in (found.parse().choices[0].message.content or "")
            assert found.headers["x-edgecache-function"] == "puppet@1"
            if runner.stats(version).ran.get("inline", 0) > 4:
                break
        assert runner.stats(version).ran.get("inline", 0) > 4
        stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True, extra_headers=extra)
        said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert f"Who is {user}?" in said


async def test_a_refusal_is_an_error_of_the_sdk(pop: Pop) -> None:
    from openai import PermissionDeniedError

    await deploy(pop, Bind(Phase.REQUEST))
    async with AsyncOpenAI(base_url=pop.url + "/v1", api_key="x", max_retries=0) as client:
        with pytest.raises(PermissionDeniedError, match="not you") as caught:
            await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "x"}],
                extra_headers={"x-say-request": "403~x-edgecache-action: refuse~~not you"},
            )
    assert caught.value.code == "refused_by_function"


async def test_a_stream_whose_rest_is_refused_breaks_off_with_an_error_event(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.RESPONSE, stream="chunk"))
    core: Any = pop
    del core
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
    begun = SystemClock().monotonic()
    async with aiohttp.ClientSession() as session:
        headers = {"x-say-response": "403~x-edgecache-action: refuse~~enough"}
        async with session.post(pop.url + "/v1/chat/completions", json=body, headers=headers) as response:
            text = await response.read()
    assert response.status == 403
    assert b"enough" in text
    assert SystemClock().monotonic() - begun < 30


@pytest.mark.parametrize(
    ("phase", "say", "body"),
    [
        (Phase.ROUTE, "%T", b""),
        (Phase.ROUTE, "200~~%B", bytes(1001)),
        (Phase.HIT, "%T", b""),
        (Phase.HIT, "204~~", b""),
    ],
)
async def test_a_function_that_was_deleted_is_let_go_of_at_once_whatever_its_calls_ended_in(
    pop: Pop, phase: Phase, say: str, body: bytes
) -> None:
    gc.collect()
    gc.disable()  # what hangs in a cycle would stay
    try:
        await deploy(pop, Bind(phase), on_error="fail", limits=Quotas(response_bytes=1000))
        registry = pop.daemon.runtime.registry
        held = weakref.ref(registry.running("default", "puppet").stable)
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "Is it gone?"}]}
        for _ in range(3):
            if phase is Phase.ROUTE:
                with suppress(aiohttp.ClientError):
                    await fetch(pop, "/fn/puppet/", say, "POST", data=body)
            else:
                headers = {"x-say-hit": say}
                await fetch(pop, "/v1/chat/completions", "", "POST", headers=headers, json=asked)
                await pop.settled()
        pop.daemon.runtime.report.stats("default", "puppet")  # books what waits
        await registry.delete("default", "puppet")
        async with asyncio.timeout(10):
            while held() is not None:
                await fetch(pop, "/v1/chat/completions", "", "POST", json=asked)
    finally:
        gc.enable()
