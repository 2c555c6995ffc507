"""Functions from outside: uploading, versions, shares of the traffic, what they did. A developer reaches one tenant's.

What belongs to a function beside its code (secrets, key-value data, logs) is in `function_data` and `function_logs`.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import BodyPartReader, hdrs, web

from edgecache.errors import BadRequest, Forbidden, NotFound, Overloaded, RequestTimeout, StoreError, TooLarge
from edgecache.functions import manifest as manifests
from edgecache.functions.runtime import Runtime
from edgecache.http.auth import DEFAULT_TENANT, Actor
from edgecache.http.guard import read_body
from edgecache.http.middleware import ACTOR
from edgecache.http.services import SERVICES
from edgecache.store.kv import KvInvalid, QuotaExceeded

_SMALL = 64 * 1024
"""Bytes of the largest part of an upload that is not the artefact."""
_CHUNK = 256 * 1024
_PARTS = ("manifest", "artefact", "signature", "canary", "message")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose functions a request is about, and who asks."""

    runtime: Runtime
    actor: Actor
    tenant: str
    name: str


def scope(request: web.Request) -> Scope:
    """The tenant and function that `request` names; raises Forbidden for another tenant's, NotFound without any."""
    runtime, actor = request.app[SERVICES].runtime, request[ACTOR]
    if runtime is None:
        raise NotFound("Functions are switched off at this POP (`functions.enabled`).", code="functions_off")
    asked = request.query.get("tenant")
    if actor.tenant is not None and asked not in {None, actor.tenant}:
        raise Forbidden(f"This token reaches the functions of tenant {actor.tenant!r} only.")
    return Scope(runtime, actor, actor.tenant or asked or DEFAULT_TENANT, request.match_info.get("name", ""))


@contextmanager
def stored() -> Iterator[None]:
    """What the store cannot do is this POP's trouble, and may be tried again; what it will not, the caller's."""
    try:
        yield
    except (KvInvalid, QuotaExceeded) as error:
        raise BadRequest(f"{error.message}.") from error
    except StoreError as error:
        raise Overloaded(f"The change could not be stored: {error.message}.", retry_after=1.0) from error


async def list_all(request: web.Request) -> web.Response:
    """`GET /admin/v1/functions`: those of one tenant; for the operator of all, unless `?tenant=` says which."""
    here = scope(request)
    everybody = here.actor.tenant is None and "tenant" not in request.query
    return json({"functions": here.runtime.report.all(None if everybody else here.tenant)})


async def deploy(request: web.Request) -> web.Response:
    """`POST /admin/v1/functions`: multipart `manifest`, `artefact`, and if wanted `canary`, `message`, `signature`."""
    here = scope(request)
    parts = await _parts(request, here.runtime.settings.max_artefact_bytes)
    manifest = manifests.convert(_json_of(parts, "manifest"))
    with stored():
        version = await here.runtime.registry.deploy(
            here.tenant,
            manifest,
            _part(parts, "artefact"),
            canary=_share(parts),
            message=parts.get("message", b"").decode("utf-8", "replace"),
            author=here.actor.name,
            signature=_signature(parts),
        )
    return json(here.runtime.report.deployed(version))


async def show(request: web.Request) -> web.Response:
    """`GET /admin/v1/functions/{name}`: versions at work, history, limits, and what it did of late."""
    here = scope(request)
    return json(here.runtime.report.status(here.tenant, here.name))


async def versions(request: web.Request) -> web.Response:
    """`GET /admin/v1/functions/{name}/versions`: newest first."""
    here = scope(request)
    return json({"versions": here.runtime.report.versions(here.tenant, here.name)})


async def stats(request: web.Request) -> web.Response:
    """`GET /admin/v1/functions/{name}/stats`: calls, outcomes and times of each version that ran."""
    here = scope(request)
    return json(here.runtime.report.stats(here.tenant, here.name))


async def limits(request: web.Request) -> web.Response:
    """`GET /admin/v1/functions/{name}/limits`: what it asked for, what it gets, and the most there is to get."""
    here = scope(request)
    return json(here.runtime.report.limits(here.tenant, here.name))


async def rollback(request: web.Request) -> web.Response:
    """`POST /admin/v1/functions/{name}/rollback`: to a version, or to the one before; ends a canary."""
    here, said = scope(request), await body(request)
    number = said.get("version")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise BadRequest("`version` is the number of a version.", param="version")
    with stored():
        await here.runtime.registry.rollback(
            here.tenant, here.name, number, _text(said, "message"), author=here.actor.name
        )
    return json(here.runtime.report.status(here.tenant, here.name))


async def split(request: web.Request) -> web.Response:
    """`POST /admin/v1/functions/{name}/split`: the share of the traffic that the canary gets, from 0 to 1."""
    here, said = scope(request), await body(request)
    weight = said.get("weight")
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight <= 1:
        raise BadRequest("`weight` is a share from 0 to 1.", param="weight")
    with stored():
        await here.runtime.registry.split(here.tenant, here.name, float(weight), author=here.actor.name)
    return json(here.runtime.report.status(here.tenant, here.name))


async def promote(request: web.Request) -> web.Response:
    """`POST /admin/v1/functions/{name}/promote`: the canary becomes the stable version."""
    here = scope(request)
    with stored():
        await here.runtime.registry.promote(here.tenant, here.name, author=here.actor.name)
    return json(here.runtime.report.status(here.tenant, here.name))


async def delete(request: web.Request) -> web.Response:
    """`DELETE /admin/v1/functions/{name}`: all versions, secrets and data of it."""
    here = scope(request)
    with stored():
        await here.runtime.registry.delete(here.tenant, here.name)
    return json({"deleted": here.name})


def json(value: Any) -> web.Response:
    """A JSON answer."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


async def body(request: web.Request) -> dict[str, Any]:
    """The JSON object that `request` carries; none is an empty one. Raises BadRequest."""
    services = request.app[SERVICES]
    raw = await read_body(request, services.config.limits, services.metrics)
    return _decoded(raw, "The body") if raw else {}


def _decoded(raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{what} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadRequest(f"{what} is one JSON object.")
    return value


def _text(said: dict[str, Any], name: str) -> str:
    value = said.get(name, "")
    if not isinstance(value, str) or len(value) > 1000:
        raise BadRequest(f"`{name}` is a text of at most 1000 characters.", param=name)
    return value


# ---------------------------------------------------------------------------------------------- uploads
async def _parts(request: web.Request, largest: int) -> dict[str, bytes]:
    """The parts of an upload by name; raises BadRequest, TooLarge, RequestTimeout."""
    if not request.content_type.startswith("multipart/form-data"):
        raise BadRequest("An upload is multipart/form-data with the parts `manifest` (JSON) and `artefact`.")
    found: dict[str, bytes] = {}
    async with _patience(request):
        try:
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader) or part.name is None:
                    raise BadRequest("Every part of an upload has a name.")
                if part.name not in _PARTS:
                    known = ", ".join(_PARTS)
                    raise BadRequest(f"An upload has no part {part.name[:50]!r}; it may have {known}.")
                if part.name in found:
                    raise BadRequest(f"The part `{part.name[:50]}` is there twice.")
                found[part.name] = await _read(part, largest if part.name == "artefact" else _SMALL)
        except ValueError as error:
            raise BadRequest(f"The upload is not valid multipart/form-data: {error}.") from error
    return found


@asynccontextmanager
async def _patience(request: web.Request) -> AsyncIterator[None]:
    """As much time as the body may take, by `limits`."""
    limits = request.app[SERVICES].config.limits
    length = request.content_length or 0
    try:
        async with asyncio.timeout(limits.body_timeout + length / max(limits.body_min_rate, 1)):
            yield
    except TimeoutError as error:
        raise RequestTimeout("The upload did not arrive in time.") from error


async def _read(part: BodyPartReader, largest: int) -> bytes:
    if part.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
        raise BadRequest("Send the parts of an upload uncompressed.")
    content = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        content += chunk
        if len(content) > largest:
            raise TooLarge(f"The part `{part.name}` is larger than {largest} bytes.")
    return bytes(content)


def _part(parts: dict[str, bytes], name: str) -> bytes:
    try:
        return parts[name]
    except KeyError:
        raise BadRequest(f"The upload lacks the part `{name}`.", param=name) from None


def _json_of(parts: dict[str, bytes], name: str) -> dict[str, Any]:
    return _decoded(_part(parts, name), f"The part `{name}`")


def _share(parts: dict[str, bytes]) -> float | None:
    """`canary` in per cent, as a share."""
    if "canary" not in parts:
        return None
    try:
        share = float(parts["canary"].decode().rstrip("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise BadRequest("`canary` is a percentage above 0 and below 100.", param="canary")
    return share


def _signature(parts: dict[str, bytes]) -> bytes | None:
    if "signature" not in parts:
        return None
    try:
        return base64.b64decode(parts["signature"], validate=True)
    except binascii.Error as error:
        raise BadRequest("`signature` is base64.", param="signature") from error
