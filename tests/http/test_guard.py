import asyncio

import pytest

from tests.http.conftest import CHAT, Site, miss, request, small_window, stream

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


def chunked(size: int, data: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts(data, size)) + b"0\r\n\r\n"


def parts(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


SMUGGLING = [
    pytest.param(b"GET /v1/models HTTP/1.1\r\nHost: a/admin?x=\r\n\r\n", id="malformed Host"),
    pytest.param(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two Hosts"),
    pytest.param(b"GET /v1/models HTTP/1.1\r\n\r\n", id="no Host"),
    pytest.param(b"GET http://evil/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", id="absolute-form target"),
    pytest.param(b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n", id="CONNECT"),
    pytest.param(HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="HTTP 1.0 chunked"),
    pytest.param(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="both lengths"),
    pytest.param(
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", id="both lengths, swapped"
    ),
    pytest.param(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", id="two lengths"),
    pytest.param(HEAD + b"Content-Length: +5\r\n\r\nhello", id="signed length"),
    pytest.param(HEAD + b"Content-Length: 0x5\r\n\r\nhello", id="hexadecimal length"),
    pytest.param(HEAD + b"Content-Length: 5, 5\r\n\r\nhello", id="list of lengths"),
    pytest.param(HEAD + b"Content-Length: \r\n\r\n", id="empty length"),
    pytest.param(HEAD + b"Content-Length : 5\r\n\r\nhello", id="space before the colon"),
    pytest.param(HEAD + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", id="folded header"),
    pytest.param(HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="unknown coding"),
    pytest.param(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="coding beside chunked"),
    pytest.param(
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", id="two codings"
    ),
    pytest.param(HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", id="control before the coding"),
    pytest.param(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", id="extension"
    ),
    pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", id="negative chunk"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!!\r\n0\r\n\r\n", id="chunk longer than it says"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", id="bare line feeds in chunks"),
    pytest.param(b"GET /v1/models HTTP/1.1\nHost: localhost\n\n", id="bare line feeds"),
    pytest.param(HEAD + b"X: a\x00b\r\n\r\n", id="NUL in a header"),
    pytest.param(HEAD + b"X: a\rb\r\n\r\n", id="bare carriage return in a header"),
    pytest.param(b"GET /v1/mo dels HTTP/1.1\r\nHost: localhost\r\n\r\n", id="space in the target"),
    pytest.param(b"GET /v1/models HTTP/2.0\r\nHost: localhost\r\n\r\n", id="HTTP 2.0 in text"),
    pytest.param(b"GET /v1/models HTTP/0.9\r\nHost: localhost\r\n\r\n", id="HTTP 0.9"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello tls hello tls hello\r\n\r\n", id="TLS hello"),
    pytest.param(
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        b"GET http://evil/ HTTP/1.1\r\nHost: evil\r\n\r\n",
        id="request behind an upgrade",
    ),
]


@pytest.mark.parametrize("wire", SMUGGLING)
async def test_a_smuggling_shape_is_answered_400_in_our_envelope_and_the_connection_is_closed(
    site, wire: bytes
) -> None:
    made: Site = await site()
    raw = await made.connect()
    await raw.send(wire)
    response = await raw.response()
    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"
    assert response.headers["connection"] == "close"
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    raw.writer.write_eof()
    assert not await raw.rest()
    assert not made.script.calls


@pytest.mark.parametrize("cut", range(len(HEAD), len(HEAD) + 60, 7))
async def test_a_smuggling_shape_is_refused_however_it_is_cut_into_segments(site, cut: int) -> None:
    wire = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    raw = await (await site()).connect()
    await raw.send(wire[:cut])
    await asyncio.sleep(0.01)
    await raw.send(wire[cut:])
    assert (await raw.response()).status == 400


async def test_a_flood_of_one_byte_chunks_is_refused_while_it_arrives(site) -> None:
    made: Site = await site()
    raw = await made.connect()
    await raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    await asyncio.sleep(0.01)
    await raw.send(chunked(1, b" " * 50_000))
    assert (await raw.response()).status == 400
    assert not made.script.calls


async def test_chunks_of_an_ordinary_size_are_read(site) -> None:
    made: Site = await site()
    raw = await made.connect()
    body = CHAT[:-1] + b"," + b" " * 300_000 + b'"user":"u"}'
    await raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(4096, body))
    assert (await raw.response()).status == 200
    assert made.script.calls[0].body["user"] == "u"


async def test_broken_chunks_behind_a_good_start_fail_the_request_at_once(site) -> None:
    raw = await (await site()).connect()
    await raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await asyncio.sleep(0.01)
    await raw.send(b"zz\r\n")
    assert (await raw.response()).status == 400


async def test_an_underscore_header_is_not_taken_for_its_dashed_twin(site) -> None:
    made: Site = await site()
    raw = await made.connect()
    await raw.post(CHAT, "/v1/chat/completions", "EdgeCache_Mode: bypass", "Cache_Control: no-store")
    assert made.script.calls[0].controls.mode == "default"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"X: " + b"x" * 3000, id="one line"),
        pytest.param(b"\r\n".join(b"X-%d: %b" % (i, b"x" * 50) for i in range(60)), id="many lines"),
        pytest.param(b"\r\n".join(b"X%d: y" % i for i in range(140)), id="more than 128 lines"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 40])
async def test_a_header_section_that_is_too_large_is_431(site, head: bytes, pieces: int) -> None:
    raw = await (await site({"max_header_bytes": 2048})).connect()
    wire = HEAD + head + b"\r\n\r\n"
    for part in parts(wire, -(-len(wire) // pieces)):
        await raw.send(part)
        await asyncio.sleep(0)
    response = await raw.response()
    assert (response.status, response.error["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "start",
    [pytest.param(b"", id="silence"), pytest.param(HEAD, id="half a head"), pytest.param(b"\r\n", id="a blank line")],
)
async def test_a_client_that_does_not_send_a_whole_head_in_time_is_cut_off_and_counted(site, start: bytes) -> None:
    made: Site = await site({"header_timeout": 0.2})
    raw = await made.connect()
    await raw.send(start)
    assert await raw.rest() == b""
    assert made.counted("edgecache_slow_clients_reaped_total", phase="header") == 1


async def test_half_a_second_head_is_as_late_as_half_a_first_one(site) -> None:
    made: Site = await site({"header_timeout": 0.2})
    raw = await made.connect()
    assert (await raw.post()).status == 200
    await asyncio.sleep(0.1)
    await raw.send(HEAD)
    assert await raw.rest() == b""
    assert made.counted("edgecache_slow_clients_reaped_total", phase="header") == 1


async def test_a_stray_blank_line_does_not_cut_off_a_client_that_waits_for_its_answer(site) -> None:
    made: Site = await site({"header_timeout": 0.1})

    async def slowly(_call):
        await asyncio.sleep(0.4)
        return miss(b"{}")

    made.script.answer = slowly
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    await asyncio.sleep(0.02)
    await raw.send(b"\r\n")
    assert (await raw.response()).status == 200


async def test_an_idle_connection_is_closed_and_counted(site) -> None:
    made: Site = await site({"idle_timeout": 0.2})
    raw = await made.connect()
    assert (await raw.post()).status == 200
    assert await raw.rest() == b""
    assert made.counted("edgecache_slow_clients_reaped_total", phase="idle") == 1


async def test_an_exact_hit_keeps_an_idle_connection_alive(site) -> None:
    made: Site = await site({"idle_timeout": 0.3})
    made.remember(miss(b"{}"))
    raw = await made.connect()
    for _ in range(4):
        assert (await raw.post()).status == 200
        await asyncio.sleep(0.15)
    assert made.script.hits >= 3


async def test_a_body_that_stalls_is_408_and_counted(site) -> None:
    made: Site = await site({"body_timeout": 0.2})
    raw = await made.connect()
    await raw.send(HEAD + b"Content-Length: 100\r\n\r\nhalf")
    response = await raw.response()
    assert (response.status, response.error["code"]) == (408, "request_timeout")
    assert response.headers["connection"] == "close"
    assert made.counted("edgecache_slow_clients_reaped_total", phase="body") == 1


async def test_a_slow_body_that_keeps_the_least_rate_is_read_to_its_end(site) -> None:
    made: Site = await site({"body_timeout": 0.15, "body_min_rate": 100})
    raw = await made.connect()
    await raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(CHAT))
    for part in parts(CHAT, 20):
        await asyncio.sleep(0.08)
        await raw.send(part)
    assert (await raw.response()).status == 200


@pytest.mark.parametrize("length", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_body_over_the_limit_is_413(site, length: bytes) -> None:
    raw = await (await site({"max_body_bytes": 1000})).connect()
    body = b" " * 5000
    await raw.send(HEAD + length)
    await asyncio.sleep(0.01)
    await raw.send(chunked(1000, body) if b"chunked" in length else body[:10])
    response = await raw.response()
    assert (response.status, response.error["code"]) == (413, "request_too_large")


async def test_a_body_over_the_limit_that_came_in_one_piece_is_413(site) -> None:
    raw = await (await site({"max_body_bytes": 1000})).connect()
    assert (await raw.post(b" " * 2000)).status == 413


async def test_a_compressed_body_is_415(site) -> None:
    raw = await (await site()).connect()
    response = await raw.post(CHAT, "/v1/chat/completions", "Content-Encoding: gzip")
    assert (response.status, response.error["code"]) == (415, "unsupported_media_type")


async def test_a_client_that_expects_100_continue_gets_it(site) -> None:
    raw = await (await site()).connect()
    await raw.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(CHAT))
    assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await raw.send(CHAT)
    assert (await raw.response()).status == 200


async def test_connections_over_the_limit_are_closed_and_counted(site) -> None:
    made: Site = await site({"max_connections": 2})
    first, second = await made.connect(), await made.connect()
    assert (await first.post()).status == 200
    assert (await second.post()).status == 200
    assert await (await made.connect()).rest() == b""
    assert made.counted("edgecache_connections_refused_total") == 1
    first.writer.close()
    await first.writer.wait_closed()
    async with asyncio.timeout(5):
        while made.counted("edgecache_connections") > 1:
            await asyncio.sleep(0.01)
    assert (await (await made.connect()).post()).status == 200


@pytest.mark.parametrize("hit", [True, False])
@pytest.mark.parametrize("close", [(), ("Connection: close",)])
async def test_a_client_that_never_reads_is_cut_off_and_counted(site, hit: bool, close: tuple[str, ...]) -> None:
    made: Site = await site({"write_timeout": 0.2})
    reply = miss(b"x" * 30_000_000)
    made.script.answer = reply
    raw = await made.connect(sock=small_window(made), limit=1024)
    if hit:
        made.remember(miss(b"{}"))
        await raw.post()
        made.remember(reply)
    raw.writer.transport.pause_reading()
    await raw.send(request("POST", "/v1/chat/completions", CHAT, *close))
    async with asyncio.timeout(10):
        while not made.counted("edgecache_slow_clients_reaped_total", phase="write"):
            await asyncio.sleep(0.02)
        while made.counted("edgecache_connections"):
            await asyncio.sleep(0.02)


async def test_a_stream_whose_client_stops_reading_is_ended_and_its_source_closed(site) -> None:
    made: Site = await site({"write_timeout": 0.2})
    closed = asyncio.Event()

    async def endless():
        try:
            while True:
                yield b"data: " + b"x" * 100_000 + b"\n\n"
        finally:
            closed.set()

    made.script.answer = stream(endless())
    raw = await made.connect(sock=small_window(made), limit=1024)
    raw.writer.transport.pause_reading()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    async with asyncio.timeout(10):
        await closed.wait()
    assert made.counted("edgecache_slow_clients_reaped_total", phase="write") == 1


async def test_a_client_that_leaves_the_last_few_bytes_unread_is_cut_off_too(site) -> None:
    made: Site = await site({"write_timeout": 0.2})

    async def until_the_kernel_takes_no_more():
        (transport,) = made.listener._runner.server._connections.values()
        while not transport.get_write_buffer_size():
            yield b"data: " + b"x" * 8000 + b"\n\n"

    made.script.answer = stream(until_the_kernel_takes_no_more())
    raw = await made.connect(sock=small_window(made), limit=1024)
    raw.writer.transport.pause_reading()
    await raw.send(request("POST", "/v1/chat/completions", CHAT, "Connection: close"))
    async with asyncio.timeout(10):
        while not made.counted("edgecache_slow_clients_reaped_total", phase="write"):
            await asyncio.sleep(0.02)


async def test_a_slow_reader_that_keeps_the_least_rate_gets_everything(site) -> None:
    made: Site = await site({"write_timeout": 0.2, "body_min_rate": 1000})
    body = b"x" * 12_000_000
    made.script.answer = miss(body)
    raw = await made.connect(sock=small_window(made), limit=200_000)
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    received = 0
    async with asyncio.timeout(30):
        while received < len(body):
            received += len(await raw.reader.read(500_000))
            await asyncio.sleep(0.02)
    assert made.counted("edgecache_slow_clients_reaped_total", phase="write") == 0


async def test_pipelined_requests_are_answered_in_order(site) -> None:
    made: Site = await site()
    made.remember(miss(b'{"hit":1}'))
    raw = await made.connect()
    await raw.post()
    await raw.send(request("POST", "/v1/chat/completions", CHAT) + request("GET", "/v1/nope") * 2)
    assert [(await raw.response()).status for _ in range(3)] == [200, 404, 404]
