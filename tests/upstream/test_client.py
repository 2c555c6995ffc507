import asyncio
import socket

import orjson
import pytest

from edgecache.clock import SystemClock
from edgecache.config import tree as config
from edgecache.errors import UnknownUrl, UpstreamDied, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from edgecache.sim.upstream import ScriptedCore
from edgecache.types import Endpoint, Tenant
from edgecache.upstream.dialects import DIALECTS
from edgecache.upstream.sending import Sending
from edgecache.wire.sse import data

GENERATED = (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(params=sorted(DIALECTS.keys() - {"edgecache"}))
async def core(request):
    made = ScriptedCore(config.Core(dialect=request.param, time_to_first_token=0, inter_token_latency=0), SystemClock())
    await made.start()
    yield made
    await made.stop()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


async def collect(answer) -> tuple[bytes, list[bytes]]:
    visible, events = b"", []
    async for chunk in answer.chunks():
        visible += chunk.visible
        events += chunk.events
    return visible, events


@pytest.mark.parametrize("endpoint", Endpoint)
async def test_every_dialect_answers_json(core, connect, make_call, endpoint, metrics) -> None:
    client = connect(core.url, dialect=core.settings.dialect)
    answer = await client.open(make_call(endpoint, user="u", metadata={"a": "b"}, tenant=Tenant("t")))
    body = orjson.loads(await answer.read())
    assert answer.status == 200
    assert answer.upstream == "core"
    assert "error" not in body or body["error"] is None
    assert metrics.upstream_requests.labels("core", "200")._value.get() == 1


@pytest.mark.parametrize("endpoint", GENERATED)
async def test_every_dialect_streams(core, connect, make_call, endpoint) -> None:
    client = connect(core.url, dialect=core.settings.dialect)
    answer = await client.open(make_call(endpoint, stream=True, metadata={"a": "b"}, tenant=Tenant("t")))
    assert answer.status == 200
    visible, events = await collect(answer)
    usage = [event for event in events if b'"choices":[]' in event]
    if endpoint is Endpoint.RESPONSES:
        assert b"response.completed" in events[-1]
        assert visible == b"".join(events)
    else:
        assert data(events[-1]) == b"[DONE]"
        assert len(usage) == 1
        assert visible == b"".join(events).replace(usage[0], b"")


async def test_a_request_carries_the_upstreams_key_and_no_other(raw_server, connect, make_call) -> None:
    seen: list[bytes] = []

    async def script(reader, writer, _number) -> None:
        while True:
            seen.append(await request_of(reader))
            writer.write(OK)

    url = await raw_server(script)
    call = make_call(tenant=Tenant("t", authorization="Bearer client"), headers={"traceparent": "00-1-2-01"})
    await (await connect(url, api_key="secret").open(call)).read()
    await (await connect(url).open(call)).read()
    await (await connect(url).open(make_call())).read()
    heads = [request.partition(b"\r\n\r\n")[0].decode() for request in seen]
    assert "Authorization: Bearer secret" in heads[0]
    assert "client" not in heads[0]
    assert "Authorization: Bearer client" in heads[1]
    assert "Authorization" not in heads[2]
    for head in heads:
        assert head.startswith("POST /v1/chat/completions HTTP/1.1")
        assert "Accept-Encoding: identity" in head
        assert "x-request-id: req-1" in head
        assert "Cookie" not in head
    assert "traceparent: 00-1-2-01" in heads[0]
    assert seen[2].endswith(make_call().raw)


async def test_redirects_and_cookies_are_not_followed(raw_server, connect, make_call) -> None:
    seen: list[bytes] = []

    async def script(reader, writer, _number) -> None:
        while True:
            seen.append(await request_of(reader))
            writer.write(
                b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/\r\nSet-Cookie: a=b\r\n"
                b"Content-Length: 0\r\n\r\n"
            )

    url = (await raw_server(script)).replace("127.0.0.1", "localhost")  # cookie jars pass over bare addresses
    client = connect(url, api_key="secret")
    for _ in range(2):
        answer = await client.open(make_call())
        assert (answer.status, await answer.read()) == (307, b"")
    assert len(seen) == 2
    assert b"Cookie" not in seen[1]


async def test_a_connection_is_used_again_after_a_whole_answer_only(raw_server, connect, make_call) -> None:
    numbers: list[int] = []

    async def script(reader, writer, number) -> None:
        while True:
            await request_of(reader)
            numbers.append(number)
            writer.write(OK)

    client = connect(await raw_server(script))
    for _ in range(3):
        await (await client.open(make_call())).read()
    assert numbers == [1, 1, 1]


async def test_the_idle_timer_of_one_answer_does_not_reach_the_next(raw_server, connect, make_call) -> None:
    async def script(reader, writer, number) -> None:
        del number
        while True:
            await request_of(reader)
            writer.write(OK[:-1])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(OK[-1:])

    client = connect(await raw_server(script), idle_timeout=0.05, keepalive=30)
    await (await client.open(make_call())).read()
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    loop.call_later(0.1, later.set_result, None)  # past the idle time-out, while the connection rests in the pool
    await later
    assert await (await client.open(make_call())).read() == b"{}"


async def test_a_dead_kept_connection_is_unreachable_not_dead(raw_server, connect, make_call) -> None:
    async def script(reader, writer, number) -> None:
        await request_of(reader)
        writer.write(OK)
        if number == 1:
            await request_of(reader)  # closed here without a word, as uvicorn does after its keep-alive time

    client = connect(await raw_server(script))
    await (await client.open(make_call())).read()
    with pytest.raises(UpstreamUnreachable):
        await client.open(make_call())
    assert await (await client.open(make_call())).read() == b"{}"


async def test_nobody_listening_is_unreachable(connect, make_call, metrics, in_flight) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UpstreamUnreachable):
            await connect(url).open(make_call())
    assert metrics.upstream_requests.labels("core", "upstream_error")._value.get() == 1
    assert in_flight() == 0


async def test_a_connect_that_takes_too_long_is_unreachable(connect, make_call) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:  # fill the backlog, so that the next SYN is dropped
            one.setblocking(False)
            one.connect_ex(address)
        with pytest.raises(UpstreamUnreachable, match=r"within 0\.05 s"):
            await connect(f"http://127.0.0.1:{address[1]}", connect_timeout=0.05).open(make_call())
        for one in waiting:
            one.close()


async def test_death_before_the_head_is_unreachable(raw_server, connect, make_call) -> None:
    async def script(reader, writer, _number) -> None:
        await request_of(reader)

    with pytest.raises(UpstreamUnreachable):
        await connect(await raw_server(script)).open(make_call())


@pytest.mark.parametrize("part", [b"HTTP/1.1 200 OK\r\nContent-Ty", b"SSH-2.0-OpenSSH\r\n\r\n"])
async def test_death_in_the_head_is_not_tried_again(raw_server, connect, make_call, part) -> None:
    async def script(reader, writer, _number) -> None:
        await request_of(reader)
        writer.write(part)
        await writer.drain()

    with pytest.raises(UpstreamDied):
        await connect(await raw_server(script)).open(make_call())


@pytest.mark.parametrize("dribble", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_a_head_that_does_not_come_times_out(raw_server, connect, make_call, dribble, metrics, in_flight) -> None:
    hold = asyncio.Event()

    async def script(reader, writer, _number) -> None:
        await request_of(reader)
        writer.write(dribble)
        await hold.wait()

    with pytest.raises(UpstreamTimeout, match=r"within 0\.05 s"):
        await connect(await raw_server(script), first_byte_timeout=0.05).open(make_call())
    hold.set()
    assert metrics.upstream_requests.labels("core", "upstream_timeout")._value.get() == 1
    assert in_flight() == 0


@pytest.mark.parametrize(("patience", "raised"), [(10.0, UpstreamTimeout), (0.05, TimeoutError), (0.01, TimeoutError)])
async def test_a_caller_that_gives_up_first_is_left_to_do_so(raw_server, connect, make_call, patience, raised) -> None:
    hold = asyncio.Event()

    async def script(reader, writer, _number) -> None:
        await request_of(reader)
        await hold.wait()

    client = connect(await raw_server(script), first_byte_timeout=0.05)
    with pytest.raises(raised):
        async with asyncio.timeout(0.3):
            await client.open(make_call(), Sending(patience=patience))
    hold.set()


async def test_a_caller_that_leaves_before_the_head_hangs_up(raw_server, connect, make_call, in_flight) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(reader, writer, _number) -> None:
        await request_of(reader)
        arrived.set()
        await reader.read()
        gone.set()

    opening = asyncio.get_running_loop().create_task(connect(await raw_server(script)).open(make_call()))
    await arrived.wait()
    opening.cancel()
    await asyncio.wait_for(gone.wait(), 5)
    assert in_flight() == 0


async def test_models_are_asked_with_their_owners(core, connect) -> None:
    found = await connect(core.url, dialect=core.settings.dialect).models()
    assert [name for name, _ in found] == ["edge-test"]
    assert found[0][1] == {"trtllm": "tensorrt_llm", "dynamo": "nvidia"}.get(core.settings.dialect, found[0][1])


@pytest.mark.parametrize(
    ("status", "body"), [(b"404 Not Found", b""), (b"200 OK", b"<html>"), (b"200 OK", b"null"), (b"200 OK", b"{}")]
)
async def test_an_unusable_list_of_models_is_an_error(raw_server, connect, status, body) -> None:
    async def script(reader, writer, _number) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    with pytest.raises(UpstreamError):
        await connect(await raw_server(script)).models()


async def test_an_odd_entry_in_the_list_of_models_is_passed_over(raw_server, connect) -> None:
    body = b'{"data":[{"id":"a"},{"id":5},7,{"id":"b","owned_by":null}]}'

    async def script(reader, writer, _number) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    assert await connect(await raw_server(script)).models() == [("a", "core"), ("b", "core")]


async def test_stored_responses_are_passed_through(core, connect, make_call) -> None:
    client = connect(core.url, dialect=core.settings.dialect)
    made = orjson.loads(await (await client.open(make_call(Endpoint.RESPONSES))).read())
    path = f"/v1/responses/{made['id']}"
    got = await client.forward("GET", path, {"x-request-id": "r2", "cookie": "c"}, authorization="Bearer own")
    assert orjson.loads(await got.read()) == made
    assert core.seen.headers["x-request-id"] == "r2"
    assert core.seen.headers["Authorization"] == "Bearer own"
    assert "cookie" not in core.seen.headers
    items = await client.forward("GET", path + "/input_items?limit=5", {})
    assert orjson.loads(await items.read())["data"][0]["role"] == "user"
    refused = await client.forward("POST", path + "/cancel", {}, b"")
    assert (refused.status, bool(await refused.read())) == (400, True)
    deleted = await client.forward("DELETE", path, {})
    assert orjson.loads(await deleted.read())["deleted"] is True
    missing = await client.forward("GET", path, {})
    assert missing.status == 404
    await missing.aclose()


async def test_control_paths_are_never_passed_through(core, connect) -> None:
    with pytest.raises(UnknownUrl):
        await connect(core.url).forward("POST", "/admin/config", {}, b"{}")
    assert core.seen.requests == 0


async def test_a_client_taken_out_of_service_waits_for_its_last_answer(core, connect, make_call) -> None:
    client = connect(core.url, dialect=core.settings.dialect)
    await client.idle()
    answers = [await client.open(make_call()) for _ in range(2)]
    waiting = asyncio.get_running_loop().create_task(client.idle())
    await answers[0].read()
    await asyncio.sleep(0)
    assert not waiting.done()
    await answers[1].aclose()
    await asyncio.wait_for(waiting, 5)


async def test_requests_of_all_clients_an_upstream_had_are_in_flight(core, connect, make_call, in_flight) -> None:
    before = connect(core.url, dialect=core.settings.dialect)
    old = await before.open(make_call())
    after = connect(core.url, dialect=core.settings.dialect, connect_timeout=1.0)
    assert in_flight() == 1
    new = await after.open(make_call())
    assert in_flight() == 2
    await old.aclose()
    await old.aclose()  # once is enough
    assert in_flight() == 1
    await new.read()
    assert in_flight() == 0
