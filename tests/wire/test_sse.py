import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.wire import sse

EVENTS = [
    b'data: {"a":1} \n\n',  # trtllm-serve's first event has a trailing space
    b'data: {"a":2}\n\n',
    b": ping\n\n",
    b'data: {"a":3}\r\n\r\n',
    b'event: response.created\ndata: {"a":4}\n\n',
    b"data: [DONE]\n\n",
]


def test_events_come_out_whole_and_unchanged() -> None:
    splitter = sse.EventSplitter()
    assert splitter.feed(b"".join(EVENTS)) == EVENTS
    assert splitter.rest == b""


@given(st.lists(st.sampled_from(EVENTS), max_size=8), st.binary(max_size=5), st.lists(st.integers(1, 9), max_size=40))
def test_the_chunks_a_stream_arrives_in_do_not_matter(events: list[bytes], tail: bytes, sizes: list[int]) -> None:
    stream = b"".join(events) + tail
    at_once, pieces = sse.EventSplitter(), sse.EventSplitter()
    whole = at_once.feed(stream)
    cut, start = [], 0
    for size in [*sizes, len(stream)]:
        cut += pieces.feed(stream[start : start + size])
        start += size
    assert (cut, pieces.rest) == (whole, at_once.rest)
    assert b"".join(whole) + at_once.rest == stream
    assert whole[: len(events)] == events


def cut_at_blank_lines(stream: bytes) -> tuple[list[bytes], bytes]:
    """Byte by byte, as the standard says it."""
    events, start = [], 0
    for end in range(1, len(stream) + 1):
        if stream[start:end].endswith((b"\n\n", b"\n\r\n")):
            events.append(stream[start:end])
            start = end
    return events, stream[start:]


@given(
    st.lists(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b"\n\n", b": "]), max_size=6).map(b"".join))
)
def test_events_end_at_the_first_blank_line_whatever_is_in_between(chunks: list[bytes]) -> None:
    splitter = sse.EventSplitter()
    found = [event for chunk in chunks for event in splitter.feed(chunk)]
    assert (found, splitter.rest) == cut_at_blank_lines(b"".join(chunks))


def test_what_follows_the_last_blank_line_is_kept_as_rest() -> None:
    splitter = sse.EventSplitter()
    assert splitter.feed(b"data: 1\n\ndata: 2\n") == [b"data: 1\n\n"]
    assert splitter.rest == b"data: 2\n"
    assert splitter.feed(b"\n") == [b"data: 2\n\n"]
    assert splitter.rest == b""


def test_a_long_event_in_single_bytes_comes_out_whole() -> None:
    splitter = sse.EventSplitter()
    event = b"data: " + b"x" * 20_000 + b"\n\n"
    events = [found for byte in range(len(event)) for found in splitter.feed(event[byte : byte + 1])]
    assert events == [event]


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (b'data: {"a":1} \n\n', b'{"a":1}'),
        (b'data:{"a":1}\r\n\r\n', b'{"a":1}'),
        (b"data: [DONE]\n\n", b"[DONE]"),
        (b'event: x\ndata: {"a":\ndata: 1}\nid: 7\n\n', b'{"a":\n1}'),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"\ndata: a\n\n", b"a"),
        (b": ping\n\n", None),
        (b": data: no\n\n", None),
        (b"data:\n\n", None),
        (b"event: x\ndata: \n\n", None),
        (b"\n\n", None),
        (b"", None),
    ],
)
def test_data_joins_the_lines_of_an_event(event: bytes, payload: bytes | None) -> None:
    assert sse.data(event) == payload


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (b"event: error\ndata: {}\n\n", "error"),
        (b"data: {}\r\nevent:error\r\n\r\n", "error"),
        (b"data: {}\n\n", ""),
        (b'data: "event: no"\n\n', ""),
        (b"event: \xff\n\n", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_event_name_reads_the_event_field(event: bytes, name: str) -> None:
    assert sse.event_name(event) == name


def test_a_frame_is_one_event_with_data_and_name() -> None:
    assert sse.frame(b"{}") == b"data: {}\n\n"
    assert sse.frame(b"{}", "response.created") == b"event: response.created\ndata: {}\n\n"


@pytest.mark.parametrize("payload", [b'{\n "a": 1\n}', b'{\r\n"a":1}'])
def test_a_payload_of_several_lines_stays_one_event(payload: bytes) -> None:
    event = sse.frame(payload, "x")
    assert sse.EventSplitter().feed(event) == [event]
    assert sse.data(event) == b"\n".join(payload.splitlines())
