"""Server-sent events (WHATWG HTML, section 9.2) as bytes: cut a stream into events, read one, write one.

Lines end in LF or CRLF. A bare CR, which the standard also allows, ends no line here: no LLM server sends it, and
waiting to see whether an LF follows would hold back the last event.
"""

import re

DONE: bytes = b"data: [DONE]\n\n"
"""The end of a chat or completion stream, as OpenAI and its siblings write it."""

_BLANK_LINE = re.compile(rb"\n\r?\n")


class EventSplitter:
    """Cuts a byte stream into complete events, whatever the chunks it arrives in.

    The events, and `rest` after the last of them, are the bytes of the stream unchanged.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0

    @property
    def rest(self) -> bytes:
        """What arrived after the last complete event."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes, each with the blank line that ends it."""
        text: bytes | bytearray = chunk  # not copied unless an event was cut: nearly every chunk is whole events
        if self._buffer:
            self._buffer += chunk
            text = self._buffer
        ends = [blank.end() for blank in _BLANK_LINE.finditer(text, self._seen)]
        starts = [0, *ends]
        events = [bytes(text[start:end]) for start, end in zip(starts, ends, strict=False)]
        if text is chunk:
            self._buffer += chunk[starts[-1] :]
        else:
            del self._buffer[: starts[-1]]
        # A blank line may be cut in two; all but its last byte is looked at again.
        self._seen = max(0, len(self._buffer) - 2)
        return events


def data(event: bytes) -> bytes | None:
    """The `data` of an event, its lines joined and white space at both ends removed; None where there is none."""
    if event.startswith(b"data:"):
        payload = event[5:].strip()
        if b"\n" not in payload:  # one line: all that LLM servers send
            return payload or None
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines).strip() or None


def event_name(event: bytes) -> str:
    """The last `event` field of an event, empty where there is none."""
    if b"event:" not in event:
        return ""
    names = [line[6:] for line in event.splitlines() if line.startswith(b"event:")]
    return names[-1].strip().decode("utf-8", "replace") if names else ""


def frame(payload: bytes, name: str | None = None) -> bytes:
    """One event with this data, and this name if given."""
    if b"\n" in payload or b"\r" in payload:
        payload = b"\ndata: ".join(payload.splitlines())
    if name is None:
        return b"data: " + payload + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n"
