"""What requests took and cost, from the ledger: added up, or record by record for billing elsewhere."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from math import inf
from typing import TypeVar

import msgspec
from aiohttp import hdrs, web

from edgecache.errors import BadRequest, Overloaded, StoreError
from edgecache.http.services import SERVICES
from edgecache.router.usage import Usage, moment, table
from edgecache.store.ledger import Page

_SINCE = "7d"
_MOST = 100_000_000
_FORMATS = ("json", "csv")
_REPORT = frozenset({"by", "since", "until", "format"})
_RECORDS = frozenset({"since", "until", "limit"})
_NDJSON = "application/x-ndjson"

T = TypeVar("T")


async def report(request: web.Request) -> web.Response:
    """`GET /admin/v1/usage?by=&since=&until=&format=`: the ledger added up; see `router.usage.DIMENSIONS` for `by`."""
    _known(request, _REPORT)
    since, until = _span(request)
    form = request.query.get("format", "json")
    if form not in _FORMATS:
        raise BadRequest(f"`format` is one of {', '.join(_FORMATS)}.", param="format")
    usage = Usage([name.strip() for name in request.query.get("by", "").split(",") if name.strip()])
    damaged = 0

    def add(page: Page) -> int:
        usage.add(page.records)
        return page.damaged

    with _readable():
        async for count in _scan(request, since, until, add):
            damaged += count
    rows = usage.rows()
    if form == "csv":
        return web.Response(text=table(rows), content_type="text/csv", charset="utf-8")
    found = {
        "since": since,
        "until": None if until == inf else until,
        "by": usage.by,
        "rows": rows,
        "total": usage.total().columns(),
        "damaged": damaged,
    }
    return web.Response(body=msgspec.json.encode(found), content_type="application/json")


async def records(request: web.Request) -> web.StreamResponse:
    """`GET /admin/v1/usage/records?since=&until=&limit=`: the records, oldest first, a JSON object a line."""
    _known(request, _RECORDS)
    since, until = _span(request)
    left = _limit(request)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: _NDJSON})
    with _readable():
        async with aclosing(_scan(request, since, until, _lines)) as pages:
            async for lines in pages:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(b"".join(lines[:left]))
                left -= len(lines[:left])
                if not left:
                    break
    await response.write_eof()
    return response


def _scan(request: web.Request, since: float, until: float, work: Callable[[Page], T]) -> AsyncGenerator[T, None]:
    return request.app[SERVICES].ledger.scan(since, until, work)


def _lines(page: Page) -> list[bytes]:
    return [msgspec.json.encode(record) + b"\n" for record in page.records]


def _known(request: web.Request, known: frozenset[str]) -> None:
    if unknown := sorted(set(request.query) - known):
        raise BadRequest(f"There is no parameter `{unknown[0][:50]}`; there are {', '.join(sorted(known))}.")


def _span(request: web.Request) -> tuple[float, float]:
    now = request.app[SERVICES].clock.now()
    since = moment(request.query.get("since", _SINCE), now, "since")
    given = request.query.get("until")
    until = inf if given is None else moment(given, now, "until")
    if until <= since:
        raise BadRequest("`until` is after `since`.", param="until")
    return since, until


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", str(_MOST))
    if not given.isdecimal() or len(given) > 9 or not 1 <= int(given) <= _MOST:
        raise BadRequest(f"`limit` is a number from 1 to {_MOST}.", param="limit")
    return int(given)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise Overloaded(error.message, code="store_unavailable") from error
