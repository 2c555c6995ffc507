"""`fetch`: an HTTP request to a host that the manifest lists. Where it leads is `upstream.outbound`'s concern."""

from collections.abc import Iterable, Mapping

from edgecache.errors import TooLarge, UpstreamTimeout
from edgecache.functions.host.calling import Calling, Operation, text
from edgecache.upstream.outbound import outgoing
from edgecache.upstream.target import OutOfReach, TargetRefused
from edgecache.wasm.hostcalls import Code, HostRefused


def _fetch(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    method, url, body, *said = fields
    if len(said) % 2:
        raise HostRefused(Code.INVALID, "a header of fetch has a name and a value")
    names, values = map(text, said[::2]), map(text, said[1::2])
    try:
        request = outgoing(text(method), text(url), zip(names, values, strict=True), body)
    except TargetRefused as error:
        raise HostRefused(Code.INVALID, f"fetch: {error}") from error
    calling.about(f"{request.method} {request.target.origin}", effect=True)
    calling.grants.target(request.target)
    budget, outbound = calling.budget, calling.services.outbound
    try:
        found = calling.wait(
            outbound.fetch(request, owner=calling.version.tenant, most=budget.bytes_left, timeout=budget.time_left)
        )
    except OutOfReach as error:
        raise HostRefused(Code.DENIED, str(error)) from error
    except TooLarge as error:
        raise HostRefused(Code.QUOTA, str(error)) from error
    except UpstreamTimeout as error:
        raise HostRefused(Code.TIMEOUT, str(error)) from error
    return b"%d" % found.status, found.body, *(part for pair in found.headers for part in pair)


OPERATIONS: Mapping[str, Operation] = {
    "fetch": Operation(_fetch, "method, URL, body, then name and value of each header", 3, None),
}
