import asyncio
import contextlib

import msgspec
import orjson
import pytest

from edgecache.errors import ModelNotFound, NoUpstream, UpstreamDied, UpstreamUnreachable
from edgecache.router.dispatch import Dispatcher
from edgecache.types import Call, Endpoint, Tenant


async def served_by(dispatcher: Dispatcher, call) -> str:
    answer = await dispatcher.dispatch(call)
    assert answer.status == 200
    await answer.read()
    return answer.upstream


async def raw_server(stack, script):
    """A server that follows `script(reader, writer, connection number)`."""
    count = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(reader, writer, count)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    stack.append(server)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def servers():
    opened: list[asyncio.Server] = []
    yield opened
    for server in opened:
        server.close()


async def test_a_dead_upstream_costs_one_try_and_no_request(start_core, make_pool, make_call, dead_url) -> None:
    models = ("edge-test",)
    pool = make_pool((dead_url, models), ((await start_core()).url, models))
    dispatcher = Dispatcher(pool)
    assert {await served_by(dispatcher, make_call()) for _ in range(4)} == {"b"}


async def test_a_request_goes_to_the_upstream_that_it_names_unless_that_is_dead(
    start_core, make_pool, make_call, dead_url
) -> None:
    models, url = ("edge-test",), (await start_core()).url
    dispatcher = Dispatcher(make_pool((url, models), (url, models), (dead_url, models)))
    named = {name: msgspec.structs.replace(make_call(), upstream=name) for name in "abc"}
    assert [await served_by(dispatcher, named["b"]) for _ in range(3)] == ["b"] * 3
    assert await served_by(dispatcher, named["c"]) in {"a", "b"}


async def test_with_everybody_dead_the_second_failure_is_told(make_pool, make_call, dead_url) -> None:
    pool = make_pool((dead_url, ("edge-test",)), (dead_url, ("edge-test",)), (dead_url, ("edge-test",)))
    with pytest.raises(UpstreamUnreachable):
        await Dispatcher(pool).dispatch(make_call())
    tries = [client._requests.labels(client.name, "upstream_error")._value.get() for client in pool.clients]
    assert tries == [1, 1, 0]


async def test_a_dead_kept_connection_is_replaced_without_the_client_noticing(make_pool, make_call, servers) -> None:
    connections: list[int] = []

    async def script(reader, writer, number) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connections.append(number)
        await reader.readuntil(b"\r\n\r\n")  # a second request on this connection is met with its end

    pool = make_pool((await raw_server(servers, script), ("edge-test",)))
    dispatcher = Dispatcher(pool)
    assert [await served_by(dispatcher, make_call()) for _ in range(2)] == ["a", "a"]
    assert connections == [1, 2]


async def test_a_broken_response_head_is_not_tried_again(make_pool, make_call, servers, start_core) -> None:
    async def script(reader, writer, _number) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        await writer.drain()

    healthy = await start_core()
    pool = make_pool((await raw_server(servers, script), ("edge-test",)), (healthy.url, ("edge-test",)))
    with pytest.raises(UpstreamDied):
        await Dispatcher(pool).dispatch(make_call())
    assert healthy.seen.requests == 0


@pytest.mark.parametrize("failure", ["rate_limit", "server_error", "overloaded"])
async def test_a_complete_error_answer_is_passed_on(start_core, make_pool, make_call, failure) -> None:
    failing = await start_core(failure_injection_rate=1.0, failure_types=(failure,))
    healthy = await start_core()
    pool = make_pool((failing.url, ("edge-test",)), (healthy.url, ("edge-test",)))
    answer = await Dispatcher(pool).dispatch(make_call())
    assert answer.status in {429, 500, 503}
    assert "error" in orjson.loads(await answer.read())
    assert healthy.seen.requests == 0


async def test_an_unknown_model_never_leaves(start_core, make_pool, make_call) -> None:
    core = await start_core()
    with pytest.raises(ModelNotFound):
        await Dispatcher(make_pool(core.url)).dispatch(make_call("other"))
    assert core.seen.requests == 0


async def stored(url: str, make_pool) -> str:
    """A response kept by the server at `url`; its path."""
    body = {"model": "edge-test", "input": "hello"}
    call = Call("r", Tenant("default"), Endpoint.RESPONSES, "edge-test", body, orjson.dumps(body))
    answer = await make_pool(url).clients[0].open(call)
    return "/v1/responses/" + orjson.loads(await answer.read())["id"]


async def test_a_stored_response_is_found_wherever_it_is_kept(start_core, make_pool) -> None:
    one, two = await start_core(), await start_core(seed=1)
    path = await stored(two.url, make_pool)
    dispatcher = Dispatcher(make_pool(one.url, two.url))
    answer = await dispatcher.forward("GET", path, {})
    assert (answer.status, answer.upstream) == (200, "b")
    await answer.aclose()
    missing = await dispatcher.forward("GET", "/v1/responses/resp_none", {})
    assert missing.status == 404
    assert orjson.loads(await missing.read())["error"]


async def test_not_found_is_only_said_when_everybody_said_so(start_core, make_pool, dead_url) -> None:
    one = await start_core()
    for urls in ((one.url, dead_url), (dead_url, one.url)):
        with pytest.raises(UpstreamUnreachable):
            await Dispatcher(make_pool(*urls)).forward("GET", "/v1/responses/resp_none", {})
    with pytest.raises(NoUpstream):
        await Dispatcher(make_pool()).forward("GET", "/v1/responses/resp_none", {})
