"""`var.get`: variables, which stand in the manifest, and secrets, which only a function ever gets to see."""

from collections.abc import Iterable, Mapping

from edgecache.functions.host.calling import Calling, Operation, text
from edgecache.wasm.hostcalls import Code, HostRefused


def _get(calling: Calling, fields: list[bytes]) -> Iterable[bytes]:
    name = text(fields[0])
    secret = name in calling.grants.secrets
    calling.about(name, effect=secret)
    if not secret:
        return (calling.grants.variable(name).encode(),)
    value = calling.services.secrets.reveal(calling.version.tenant, calling.version.name, name)
    if value is None:
        raise HostRefused(Code.NOT_FOUND, f"the secret {name} has no value: edgecache fn secret put {name}")
    return (value.encode(),)


OPERATIONS: Mapping[str, Operation] = {"var.get": Operation(_get, "name", 1, 1)}
