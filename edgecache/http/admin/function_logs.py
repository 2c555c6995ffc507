"""What a function said and did: its latest records, or a live tail of them as server-sent events."""

import asyncio
from typing import Any, cast, get_args

import msgspec
from aiohttp import hdrs, web

from edgecache.errors import BadRequest
from edgecache.functions.journal import LEVELS, Event, Filter, Record, Tail
from edgecache.http.admin.functions import json, scope
from edgecache.http.services import SERVICES

_LINES = 100
_MOST_LINES = 10_000
_BEAT = 15.0
"""Seconds of silence after which a tail says that it is still there: proxies cut what is silent for long."""
_KNOWN = frozenset(
    {"tenant", "follow", "level", "event", "phase", "outcome", "version", "search", "request", "sample", "lines"}
)


async def show(request: web.Request) -> web.StreamResponse:
    """`GET /admin/v1/functions/{name}/logs`: filters as `functions.journal.Filter` has them; `follow=true` goes on."""
    here = scope(request)
    here.runtime.registry.deployment(here.tenant, here.name)
    wanted, lines = _filter(request), _number(request, "lines", _LINES, 0, _MOST_LINES)
    here.runtime.runner.flush()
    journal = here.runtime.journal
    follow = _choice(request, "follow", ("true", "false"), "false") == "true"
    if not follow:
        return json({"records": journal.records(here.tenant, here.name, wanted, lines)})
    with journal.subscribe(here.tenant, here.name, wanted) as tail:
        return await _stream(request, journal.records(here.tenant, here.name, wanted, lines), tail)


async def _stream(request: web.Request, past: list[Record], tail: Tail) -> web.StreamResponse:
    """Records as `data:` events until the client leaves, the function is deleted or the POP stops."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store"})
    await response.prepare(request)
    for record in past:
        await response.write(_event(record))
    draining = request.app[SERVICES].readiness
    while not draining.draining:
        try:
            async with asyncio.timeout(_BEAT):
                record = await anext(tail)
        except TimeoutError:
            await response.write(b": still here\n\n")
        except StopAsyncIteration:
            break
        else:
            await response.write(_event(record))
    await response.write_eof()
    return response


def _event(record: Record) -> bytes:
    return b"data: " + msgspec.json.encode(record) + b"\n\n"


def _filter(request: web.Request) -> Filter:
    if unknown := sorted(set(request.query) - _KNOWN):
        raise BadRequest(f"There is no filter `{unknown[0][:50]}`; there are {', '.join(sorted(_KNOWN))}.")
    events = request.query.getall("event", [])
    known = get_args(Event)
    if wrong := [event for event in events if event not in known]:
        raise BadRequest(f"`event` is one of {', '.join(known)}, not {wrong[0][:50]!r}.", param="event")
    text: dict[str, Any] = {
        "phase": request.query.get("phase", ""),
        "outcome": request.query.get("outcome", ""),
        "search": request.query.get("search", ""),
        "request_id": request.query.get("request", ""),
    }
    return Filter(
        level=_choice(request, "level", LEVELS, "trace"),
        events=tuple(cast("list[Event]", events)),
        version=_number(request, "version", 0, 0, 2**31),
        sample=_share(request),
        **text,
    )


def _choice(request: web.Request, name: str, choices: tuple[str, ...], otherwise: str) -> Any:
    given = request.query.get(name, otherwise)
    if given not in choices:
        raise BadRequest(f"`{name}` is one of {', '.join(choices)}.", param=name)
    return given


def _number(request: web.Request, name: str, otherwise: int, least: int, most: int) -> int:
    given = request.query.get(name, str(otherwise))
    if not given.isdecimal() or len(given) > 10 or not least <= int(given) <= most:
        raise BadRequest(f"`{name}` is a number from {least} to {most}.", param=name)
    return int(given)


def _share(request: web.Request) -> float:
    try:
        share = float(request.query.get("sample", "1"))
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise BadRequest("`sample` is a share above 0 and at most 1.", param="sample")
    return share
