"""What comes out of a sandbox has to be HTTP: a status, well-formed fields, a body of bearable size.

Which fields mean something to edgecache or may reach a client is `functions`' part.
"""

import re
from collections.abc import Iterable

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Headers, Limits

HEAD = 64 * 1024
"""Bytes of the largest head."""
_STATUS = {b"%d" % number: number for number in range(200, 600)}
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


def status_of(text: bytes) -> int:
    """The status that `text` is; raises FunctionFault (`answer`)."""
    try:
        return _STATUS[text]
    except KeyError:
        raise FunctionFault(
            Fault.ANSWER, f"answered the status {_shown(text)}, which is not one of 200 to 599"
        ) from None


def headers_of(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    """`fields` with names in lower case; raises FunctionFault (`answer`)."""
    return tuple([_header(name, value) for name, value in fields])


def _header(name: bytes, value: bytes) -> tuple[str, str]:
    if not _NAME.fullmatch(name):
        raise FunctionFault(Fault.ANSWER, f"answered a header with the name {_shown(name)}")
    value = value.strip(b" \t")
    if not _VALUE.fullmatch(value):
        raise FunctionFault(Fault.ANSWER, f"answered a header {name.decode()} with the value {_shown(value)}")
    return name.decode().lower(), value.decode(errors="surrogateescape")


def check_head(length: int) -> None:
    """Raise FunctionFault (`size`) if a head of `length` bytes is too large."""
    if length > HEAD:
        raise FunctionFault(Fault.SIZE, f"answered a head of {length} bytes, {length - HEAD} more than it may have")


def check_body(length: int, limits: Limits) -> None:
    """Raise FunctionFault (`size`) if a body of `length` bytes is larger than `limits` allow."""
    if length > limits.response:
        over = length - limits.response
        raise FunctionFault(
            Fault.SIZE, f"answered {length} bytes, {over} more than the {limits.response} that it may answer"
        )


def check_message(length: int, limits: Limits) -> None:
    """The same for head and body together, before they are told apart."""
    if length > limits.response + HEAD:
        over = length - limits.response
        raise FunctionFault(
            Fault.SIZE,
            f"answered {length} bytes, head included, {over} more than the {limits.response} that it may answer",
        )


def encoded(text: str) -> bytes:
    """The bytes of a method, target or header as they came from the network (see `headers_of`)."""
    return text.encode(errors="surrogateescape")


def _shown(text: bytes) -> str:
    return ascii(text[:100].decode("latin-1"))
