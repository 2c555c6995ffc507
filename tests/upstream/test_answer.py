import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecache.errors import UpstreamDied, UpstreamError, UpstreamTimeout
from edgecache.types import Endpoint
from edgecache.upstream.sending import Sending

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
OPENING = b'data: {"id":"1","choices":[{"index":0,"delta":{"role":"assistant"}}]} \n\n'
FINISH = b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"gone","type":"service_unavailable","code":503}}\n\n'
WHOLE = (OPENING, TOKEN, FINISH, USAGE, DONE)


def http_chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


async def head(reader: asyncio.StreamReader) -> None:
    """Read one request whole."""
    text = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in text.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    await reader.readexactly(int(length.split(b":")[1]))


def stream_of(parts: Sequence[bytes], *, end: bytes = b"0\r\n\r\n", hold: asyncio.Event | None = None):
    """A script that sends `parts`, each in a write of its own, then `end`."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await head(reader)
        writer.write(SSE)
        for part in parts:
            writer.write(http_chunk(part))
            await writer.drain()
        writer.write(end)
        await writer.drain()
        if hold is not None:
            await hold.wait()

    return script


async def collect(answer) -> tuple[bytes, list[bytes], UpstreamDied | None]:
    visible, events = b"", []
    try:
        async for chunk in answer.chunks():
            visible += chunk.visible
            events += chunk.events
    except UpstreamDied as died:
        return visible, events, died
    return visible, events, None


async def test_the_usage_chunk_is_kept_for_the_fill_and_hidden_from_the_client(
    raw_server, connect, make_call, in_flight
) -> None:
    client = connect(await raw_server(stream_of(WHOLE)), dialect="trtllm")
    answer = await client.open(make_call(stream=True))
    assert answer.streaming
    assert in_flight() == 1
    visible, events, died = await collect(answer)
    assert died is None
    assert visible == OPENING + TOKEN + FINISH + DONE
    assert events == list(WHOLE)
    assert in_flight() == 0


async def test_a_client_that_asked_for_usage_sees_every_byte(raw_server, connect, make_call) -> None:
    client = connect(await raw_server(stream_of(WHOLE)), dialect="trtllm")
    answer = await client.open(make_call(stream=True, stream_options={"include_usage": True}))
    visible, _, died = await collect(answer)
    assert (visible, died) == (b"".join(WHOLE), None)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_the_cuts_of_the_network_change_nothing(raw_server, connect, make_call, data) -> None:
    text = b": keep-alive\r\n\r\n" + b"".join(WHOLE).replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n"])))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=12)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    client = connect(await raw_server(stream_of(parts)), dialect="vllm")
    _, events, died = await collect(await client.open(make_call(stream=True)))
    assert died is None
    assert b"".join(events) == text
    assert len(events) == 1 + len(WHOLE)


async def test_a_stream_that_comes_byte_by_byte_is_whole(raw_server, connect, make_call) -> None:
    text = b"".join(WHOLE)
    client = connect(await raw_server(stream_of([text[i : i + 1] for i in range(len(text))])))
    visible, _, died = await collect(await client.open(make_call(stream=True)))
    assert (visible, died) == (text.replace(USAGE, b""), None)


@pytest.mark.parametrize(
    ("parts", "end", "shown"),
    [
        ((OPENING, TOKEN), b"", OPENING + TOKEN),  # trtllm-serve: the connection just ends
        ((OPENING, TOKEN), b"0\r\n\r\n", OPENING + TOKEN),  # a proxy in between ends it cleanly
        ((OPENING, TOKEN[:20]), b"0\r\n\r\n", OPENING),  # half an event never reaches the client
        ((OPENING, TOKEN[:20]), b"", OPENING),
        ((), b"0\r\n\r\n", b""),
    ],
)
async def test_an_answer_that_breaks_off_is_never_a_clean_end(
    raw_server, connect, make_call, parts, end, shown
) -> None:
    client = connect(await raw_server(stream_of(parts, end=end)))
    visible, _, died = await collect(await client.open(make_call(stream=True)))
    assert visible == shown
    assert died is not None
    assert not died.reported


async def test_an_error_event_is_passed_on_and_the_done_after_it_is_not(raw_server, connect, make_call) -> None:
    client = connect(await raw_server(stream_of([OPENING, TOKEN + ERROR + DONE])), dialect="dynamo")
    visible, events, died = await collect(await client.open(make_call(stream=True)))
    assert visible == OPENING + TOKEN + ERROR
    assert events[-1] == ERROR
    assert died is not None
    assert died.reported


@pytest.mark.parametrize("last", [FINISH, FINISH + DONE.rstrip(b"\n"), FINISH + b"data: [DONE]\n"])
async def test_a_finished_answer_without_a_proper_done_is_not_a_failure(raw_server, connect, make_call, last) -> None:
    client = connect(await raw_server(stream_of([OPENING, TOKEN, last])))
    visible, _, died = await collect(await client.open(make_call(stream=True)))
    assert died is None
    assert visible == OPENING + TOKEN + FINISH + (DONE if b"DONE" in last else b"")


async def test_a_null_finish_reason_finishes_nothing(raw_server, connect, make_call) -> None:
    unfinished = TOKEN.replace(b"}]}", b',"finish_reason": null}]}').replace(b"hi", b'\\"finish_reason\\":\\"stop\\"')
    client = connect(await raw_server(stream_of([unfinished])))
    assert (await collect(await client.open(make_call(stream=True))))[2] is not None


async def test_a_responses_stream_ends_with_its_final_event(raw_server, connect, make_call) -> None:
    delta = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n'
    final = b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null}}\n\n'
    call = make_call(Endpoint.RESPONSES, stream=True)
    whole = connect(await raw_server(stream_of([delta, final])))
    assert await collect(await whole.open(call)) == (delta + final, [delta, final], None)
    cut = connect(await raw_server(stream_of([delta])))
    assert (await collect(await cut.open(call)))[2] is not None


async def test_a_stalled_stream_dies_after_the_idle_timeout(raw_server, connect, make_call) -> None:
    hold = asyncio.Event()
    client = connect(await raw_server(stream_of([OPENING, TOKEN], end=b"", hold=hold)), idle_timeout=0.05)
    visible, _, died = await collect(await client.open(make_call(stream=True)))
    hold.set()
    assert visible == OPENING + TOKEN
    assert died is not None
    assert "0.05 s" in died.message


@pytest.mark.parametrize(
    ("settings", "sending", "parts"),
    [
        ({"first_byte_timeout": 0.05}, Sending(), []),
        ({"first_byte_timeout": 0.05, "idle_timeout": 0.0}, Sending(first_byte_timeout=20.0), [OPENING]),
        ({}, Sending(first_byte_timeout=0.05), [OPENING]),
        ({"first_byte_timeout": 0.0}, Sending(first_byte_timeout=0.05), [OPENING]),
    ],
)
async def test_a_stream_that_has_generated_nothing_has_as_long_as_its_first_byte(
    raw_server, connect, make_call, settings, sending, parts
) -> None:
    hold = asyncio.Event()
    client = connect(await raw_server(stream_of(parts, end=b"", hold=hold)), **{"idle_timeout": 20.0} | settings)
    async with asyncio.timeout(10):
        _, _, died = await collect(await client.open(make_call(stream=True), sending))
    hold.set()
    assert died is not None
    assert "0.05 s" in died.message


async def test_the_idle_timeout_does_not_run_before_the_first_token(raw_server, connect, make_call) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await head(reader)
        writer.write(SSE + http_chunk(OPENING))
        loop = asyncio.get_running_loop()
        thinking = loop.create_future()
        loop.call_later(0.2, thinking.set_result, None)  # four times the idle time-out
        await thinking
        writer.write(http_chunk(TOKEN) + http_chunk(FINISH + DONE) + b"0\r\n\r\n")
        await writer.drain()

    client = connect(await raw_server(script), idle_timeout=0.05, first_byte_timeout=20.0)
    visible, _, died = await collect(await client.open(make_call(stream=True)))
    assert died is None
    assert visible == OPENING + TOKEN + FINISH + DONE


async def test_a_stalled_json_answer_times_out(raw_server, connect, make_call) -> None:
    hold = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await head(reader)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id":')
        await hold.wait()

    client = connect(await raw_server(script), idle_timeout=0.05)
    with pytest.raises(UpstreamTimeout, match=r"no byte for 0\.05 s"):
        await (await client.open(make_call())).read()
    hold.set()


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"529 Overloaded"])
async def test_any_complete_answer_is_read_as_it_is(raw_server, connect, make_call, status) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull" % status)

    answer = await connect(await raw_server(script)).open(make_call(stream=True))
    assert answer.status == int(status[:3])
    assert not answer.streaming
    assert answer.content_type == "application/json"
    assert await answer.read() == b"null"


async def test_a_cut_json_answer_is_an_error(raw_server, connect, make_call) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await head(reader)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id":')

    with pytest.raises(UpstreamDied):
        await (await connect(await raw_server(script)).open(make_call())).read()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_over_the_limit_is_refused(raw_server, connect, make_call, stream, in_flight) -> None:
    client = connect(await raw_server(stream_of([TOKEN] * 50)), max_response_bytes=1000)
    answer = await client.open(make_call(stream=stream))
    with pytest.raises(UpstreamError, match="larger than 1000 bytes"):
        _ = [chunk async for chunk in answer.chunks()] if stream else await answer.read()
    assert in_flight() == 0


async def test_giving_up_closes_the_connection_at_once(raw_server, connect, make_call) -> None:
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await head(reader)
        writer.write(SSE + http_chunk(TOKEN))
        assert await reader.read() == b""
        gone.set()

    answer = await connect(await raw_server(script)).open(make_call(stream=True))
    chunks = answer.chunks()
    assert (await anext(chunks)).visible == TOKEN
    await answer.aclose()
    await asyncio.wait_for(gone.wait(), 5)
    await chunks.aclose()


async def test_leaving_the_loop_early_closes_the_connection_too(raw_server, connect, make_call, in_flight) -> None:
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await head(reader)
        writer.write(SSE + http_chunk(TOKEN))
        assert await reader.read() == b""
        gone.set()

    chunks = (await connect(await raw_server(script)).open(make_call(stream=True))).chunks()
    await anext(chunks)
    await chunks.aclose()
    await asyncio.wait_for(gone.wait(), 5)
    assert in_flight() == 0
