"""CGI (RFC 3875) without processes: a request as variables, and what a program wrote as a response. Pure.

Nothing of it is served by CGI's rules for servers: a `Location` redirects the client, never inside of this POP.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.answer import check_head, encoded, headers_of, status_of
from edgecache.wasm.base import Headers, Request

_NOT_PASSED_ON = {"authorization", "content-length", "content-type", "proxy", "proxy-authorization"}
"""Headers that become no `HTTP_*`: they have their own variable, are secret (RFC 3875, section 9.2), or would be taken
for the configuration of a program (`HTTP_PROXY`, CVE-2016-5385)."""
_PASSED_ON = re.compile(r"[a-z0-9-]+")
"""An underscore could imitate another header: both become one variable."""
_END_OF_HEAD = re.compile(rb"\A\r?\n|\r?\n\r?\n")


class Head(NamedTuple):
    """What came before the body of a response."""

    status: int
    headers: Headers


def variables(request: Request) -> list[bytes]:
    """The variables of `request`, each as `NAME=value`."""
    path, _, query = request.target.partition("?")
    host, _, port = request.authority.rpartition(":") if _has_port(request.authority) else (request.authority, "", "")
    found = {
        "GATEWAY_INTERFACE": b"CGI/1.1",
        "PATH_INFO": _decoded(path),
        "QUERY_STRING": encoded(query),
        "REMOTE_ADDR": b"127.0.0.1",  # its client is this POP
        "REQUEST_METHOD": encoded(request.method),
        "REQUEST_SCHEME": encoded(request.scheme),
        "REQUEST_URI": encoded(request.target),
        "SCRIPT_NAME": b"",
        "SERVER_NAME": encoded(host),
        "SERVER_PORT": encoded(port or ("443" if request.scheme == "https" else "80")),
        "SERVER_PROTOCOL": b"HTTP/1.1",
        "SERVER_SOFTWARE": b"edgecache",
    }
    if request.body:
        found["CONTENT_LENGTH"] = b"%d" % len(request.body)
    for name, value in request.headers:
        if name == "content-type":
            found["CONTENT_TYPE"] = encoded(value)
        elif name not in _NOT_PASSED_ON and _PASSED_ON.fullmatch(name):
            key = f"HTTP_{name.upper().replace('-', '_')}"
            joint = b"; " if name == "cookie" else b", "
            found[key] = found[key] + joint + encoded(value) if key in found else encoded(value)
    return [b"%b=%b" % (name.encode(), value) for name, value in found.items() if b"\0" not in value]


def _has_port(authority: str) -> bool:
    return authority.rpartition(":")[2].isdigit()


def _decoded(path: str) -> bytes:
    """The path without escapes; as it came where that would cut it short."""
    decoded = unquote_to_bytes(encoded(path))
    return encoded(path) if b"\0" in decoded else decoded


def parse(written: bytes | bytearray) -> tuple[Head, bytes]:
    """The response that a program wrote; raises FunctionFault (`answer`) if it is none."""
    found = split(written)
    if found is None:
        begins = ascii(bytes(written[:60]).decode("latin-1")) if written else "nothing"
        raise FunctionFault(Fault.ANSWER, f"wrote no blank line after the headers of its response: {begins}")
    return found


def split(written: bytes | bytearray) -> tuple[Head, bytes] | None:
    """The same while it is being written: None until the head has come to its end."""
    end = _END_OF_HEAD.search(written)
    if end is None:
        check_head(len(written))
        return None
    check_head(end.start())
    return _head(bytes(written[: end.start()])), bytes(written[end.end() :])


def _head(text: bytes) -> Head:
    lines = [line.removesuffix(b"\r") for line in text.split(b"\n")] if text else []
    fields = []
    status = None
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise FunctionFault(Fault.ANSWER, f"wrote {line[:60].decode('latin-1')!a} where `Name: value` was expected")
        if name.lower() == b"status":
            status = status_of(value.strip()[:3])
        else:
            fields.append((name, value))
    headers = headers_of(fields)
    moved = any(name == "location" for name, _ in headers)
    return Head(status or (302 if moved else 200), headers)
