"""Bodies in parts, for functions that know of none: each part is a call of its own in the one sandbox of the request.

A request that `reads` gets its body part by part (`body.read`); one that `writes` sends its answer so (`body.head`,
then `body.write`). A function that streams by itself (`component`, `command`) needs nothing of this.
"""

from collections.abc import Callable, Iterator

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import answer
from edgecache.wasm.base import Headers, Response, pack
from edgecache.wasm.hostcalls import HostRefused, result
from edgecache.wasm.module import Sandbox

Handle = Callable[[Sandbox, bytes], tuple[int, Headers, bytes]]
"""One call: a body, then status, headers and body of the answer."""


def in_parts(sandbox: Sandbox, handle: Handle) -> Response:
    """The answer of `handle`, called for each part of the body, or once if there is none.

    Status and headers are those of the first part's answer. 204 leaves a part as it is; a whole answer is 204 only if
    every part was left so. Another status than 200 and 204 ends the answer with that part. Raises FunctionFault.
    """
    request, limits = sandbox.request, sandbox.limits
    status, headers, kept = 0, Headers(), []
    total, changed = 0, False
    for part in _parts(sandbox) if request.reads else (request.body,):
        found, fields, body = handle(sandbox, part)
        left = found == 204 and request.reads  # to a request that came whole, 204 is an answer like any other
        if left:
            body = part
        changed = changed or found != 204
        total += len(body)
        answer.check_body(total, limits)
        if not status:
            status, headers = 200 if left else found, fields
            if request.writes:
                _tell(sandbox, "body.head", str(status).encode(), *_flat(headers))
        elif found not in (200, 204):
            raise FunctionFault(Fault.ANSWER, f"answered {found} to a part after the first, when the head had gone")
        if request.writes and body:
            _tell(sandbox, "body.write", body)
        elif not request.writes:
            kept.append(body)
        if status != 200:
            break
    usage = sandbox.finish()
    if not changed and not request.writes:
        return Response(204, headers, b"", usage)
    return Response(status, headers, b"".join(kept), usage)


def _parts(sandbox: Sandbox) -> Iterator[bytes]:
    first = True
    while fields := _tell(sandbox, "body.read"):
        first = False
        yield fields[0]
    if first:
        yield b""


def _tell(sandbox: Sandbox, op: str, *fields: bytes) -> list[bytes]:
    try:
        return result(sandbox.host_call(op, pack(*fields)))
    except HostRefused as refused:
        raise FunctionFault(Fault.ANSWER, f"{op} was refused: {refused.message}") from refused


def _flat(headers: Headers) -> Iterator[bytes]:
    for name, value in headers:
        yield answer.encoded(name)
        yield answer.encoded(value)
