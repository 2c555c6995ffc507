"""What happens around every handler: identity, limits, errors as envelopes, log line, metrics. One layer a listener.

The order is in one function each, so that it can be read: `public` and `admin`.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.web_urldispatcher import AbstractRoute
from multidict import MultiMapping, istr

from edgecache.config import Admin
from edgecache.errors import EdgeCacheError, Forbidden, Overloaded, RateLimited
from edgecache.http import auth, errors, respond
from edgecache.http.auth import Access, Actor
from edgecache.http.exchange import EXCHANGE, Books, Exchange
from edgecache.http.guard import Quick
from edgecache.http.respond import Answer
from edgecache.http.services import Services
from edgecache.telemetry.trace import Trace
from edgecache.types import Account, Call, Controls, Endpoint, Tenant, Wishes
from edgecache.wire import directives, openai, wishes

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_REQUEST_ID_HEADERS = (istr("X-Client-Request-Id"), istr("X-Request-Id"))
_CONTROLS = tuple(map(istr, directives.HEADERS))
_NO_CONTROLS = Controls()
_WISHES = tuple(map(istr, wishes.HEADERS))
_TENANT = istr("EdgeCache-Tenant")
_NOT_SHORT = (*_CONTROLS, *_WISHES, _TENANT, hdrs.CONTENT_ENCODING, hdrs.EXPECT)
"""Headers that the short cut does not read."""
_TRAVELLING = tuple(
    (istr(name), name)
    for name in (
        "traceparent", "tracestate", "x-session-id", "x-correlation-id", "x-session-affinity", "x-multi-turn-session-id"
    )
)  # fmt: skip
"""Request headers that a dialect may send upstream; it takes those its server understands."""
_CLIENT_CLOSED = 499
"""Status in log and metrics (never sent) of a request whose client left; nginx's number."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route and what it asks of its caller; `name` is the `endpoint` label of its metrics."""

    method: str
    path: str
    handler: Handler
    access: Access
    name: str


Policies = dict[AbstractRoute, Route]

ACTOR = web.RequestKey("actor", Actor)
"""Who calls the admin API."""


def policy_of(request: web.Request, policies: Policies) -> Route | None:
    """The policy of the matched route, found by the route object: no text of the request is compared.

    None for URLs that match no route; a route without a policy is refused.
    """
    if request.match_info.http_exception is not None:
        return None
    route = policies.get(request.match_info.route)
    if route is None:
        raise Forbidden("This route has no access policy.")
    return route


def request_id(services: Services, headers: Mapping[str, str]) -> str:
    """The client's own id if it is 1 to 128 visible ASCII characters, else a new one."""
    for name in _REQUEST_ID_HEADERS:
        if (given := headers.get(name)) is not None and _REQUEST_ID.fullmatch(given):
            return given
    return services.ids.mint()


def call_of(
    services: Services, endpoint: Endpoint, raw: bytes, headers: MultiMapping[str], *, tenant: Tenant, request_id: str
) -> Call:
    """A request body and its headers as a validated call; raises BadRequest, or Forbidden for a model not allowed."""
    limits = services.config.limits
    parsed = openai.parse(endpoint, raw, max_depth=limits.max_json_depth, max_messages=limits.max_messages)
    services.auth.admit(tenant, parsed.model)
    wanted = _wishes(headers, services.clock.monotonic())
    return Call(
        request_id=request_id,
        tenant=tenant,
        endpoint=endpoint,
        model=parsed.model,
        body=parsed.body,
        raw=raw,
        stream=parsed.stream,
        include_usage=parsed.include_usage,
        controls=_controls(headers),
        wishes=wanted,
        account=Account(service=tenant.terms.served_as(wanted.service).value),
        headers={name: headers[key] for key, name in _TRAVELLING if key in headers},
        client=headers,
    )


def _controls(headers: MultiMapping[str]) -> Controls:
    for name in _CONTROLS:  # most requests have none, and looking is cheaper than reading all headers
        if name in headers:
            return directives.controls(headers)
    return _NO_CONTROLS


def _wishes(headers: Mapping[str, str], arrived: float) -> Wishes:
    for name in _WISHES:
        if name in headers:
            return wishes.wishes(headers, arrived)
    return Wishes(arrived=arrived)


def tenant_of(services: Services, headers: Mapping[str, str], access: Access) -> Tenant:
    """Whose request this is; raises Unauthorized, or Forbidden where a neighbour POP names no tenant known here."""
    authorization = headers.get(hdrs.AUTHORIZATION)
    if _TENANT in headers and (handed := services.auth.peer(authorization, headers[_TENANT])) is not None:
        return handed
    if access is Access.NEIGHBOUR and _TENANT not in headers and services.auth.neighbour(authorization):
        return auth.NEIGHBOUR
    return services.auth.tenant(authorization)


def public(services: Services, policies: Policies, books: Books) -> Any:
    """The layer around the OpenAI API."""
    inflight = services.inflight

    async def work(request: web.Request, handler: Handler, exchange: Exchange, running: int) -> web.StreamResponse:
        route = policy_of(request, policies)
        if route is not None:
            exchange.endpoint = route.name
            if running > services.config.limits.max_inflight:
                raise Overloaded("This POP is at its limit of requests in progress.", retry_after=1.0)
            exchange.tenant = tenant_of(services, request.headers, route.access)
            services.limits.admit(exchange.tenant)
        return await handler(request)

    @web.middleware
    async def public_layer(request: web.Request, handler: Handler) -> web.StreamResponse:
        exchange = Exchange(request_id(services, request.headers), Trace(services.clock), "unknown")
        request[EXCHANGE] = exchange
        running = inflight.enter()
        try:
            result = await errors.caught(work(request, handler, exchange, running))
            if not isinstance(result, Exception):
                return result
            if isinstance(result, ConnectionError):
                exchange.status = _CLIENT_CLOSED
                return Answer(_CLIENT_CLOSED, b"", keep_alive=False)
            return _failed(services, request, exchange, result)
        except asyncio.CancelledError:
            _shutting_down(services, request, exchange)
            raise
        finally:
            inflight.leave()
            books.close(exchange)

    return public_layer


def quick(services: Services, routes: Mapping[str, Route], books: Books) -> Quick:
    """The short cut of the public listener: requests of `routes` that were exact hits before and are again.

    Whatever else comes, an error included, is None and takes the long way.
    """
    paths = frozenset(routes)

    def answer(message: RawRequestMessage, body: bytes) -> bytes | None:
        limits, headers = services.config.limits, message.headers
        if message.path not in paths or message.method != hdrs.METH_POST:
            return None
        call = services.repeats.find(message.path, headers.get(hdrs.AUTHORIZATION), body, services.auth)
        if call is None or message.version != HttpVersion11 or any(name in headers for name in _NOT_SHORT):
            return None
        if services.readiness.draining or services.inflight.count >= limits.max_inflight:
            return None
        exchange = Exchange(request_id(services, headers), Trace(services.clock), call.endpoint.value)
        reply = services.pipeline.hit(call, exchange.trace, exchange.request_id, headers)
        if reply is None or not _admitted(services, call.tenant):
            return None
        exchange.tenant, exchange.model = call.tenant, call.model
        wire = respond.replayed(services, exchange, reply)
        books.close(exchange)
        return wire

    return answer


def _admitted(services: Services, tenant: Tenant) -> bool:
    """Take the request from what its key may ask for; if it may not, the long way says so."""
    try:
        services.limits.admit(tenant)
    except RateLimited:
        return False
    return True


def _failed(services: Services, request: web.Request, exchange: Exchange, error: Exception) -> web.StreamResponse:
    if request.writer.output_size > 0:  # part of a stream is out: there is no way back but to break off
        errors.of_request(error, request)
        if request.transport is not None:
            request.transport.abort()
        return Answer(exchange.status, b"", keep_alive=False)
    if isinstance(error, web.HTTPMethodNotAllowed):
        return _not_allowed(services, request, exchange, error)
    return respond.failure(services, request, exchange, errors.of_request(error, request))


def _not_allowed(
    services: Services, request: web.Request, exchange: Exchange, error: web.HTTPMethodNotAllowed
) -> web.StreamResponse:
    """405, or for OPTIONS the answer it asks for (RFC 9110, section 9.3.7)."""
    extra = f"allow: {errors.allow(error)}\r\n"
    if request.method == hdrs.METH_OPTIONS:
        return respond.complete(services, request, exchange, 200, b"", extra=extra)
    body = openai.error_body(errors.of_request(error, request))
    return respond.complete(services, request, exchange, 405, body, extra=extra)


def _shutting_down(services: Services, request: web.Request, exchange: Exchange) -> None:
    """Cancelled: the client left, or this POP stops. In the second case it is told, if nothing was sent yet."""
    transport = request.transport
    if transport is None or transport.is_closing():
        exchange.status = _CLIENT_CLOSED
    elif request.writer.output_size == 0:
        error = Overloaded("This POP is shutting down.", retry_after=1.0)
        transport.write(respond.failure(services, request, exchange, error, keep_alive=False).wire)


def protocol_error(services: Services, books: Books) -> Callable[[EdgeCacheError, web.BaseRequest], Answer]:
    """How the guard of the public listener answers what never became a request."""

    def render(error: EdgeCacheError, request: web.BaseRequest) -> Answer:
        exchange = Exchange(services.ids.mint(), Trace(services.clock), "none")
        answer = respond.failure(services, request, exchange, error, keep_alive=False)
        books.close(exchange)
        return answer

    return render


def admin(services: Services, policies: Policies) -> Any:
    """The layer around the admin API: errors are RFC 9457 problems, changes are logged."""

    async def work(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = policy_of(request, policies)
        if route is not None:
            request[ACTOR] = _actor(route.access, request.headers.get(hdrs.AUTHORIZATION), services.config.admin)
        return await handler(request)

    @web.middleware
    async def admin_layer(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await errors.caught(work(request, handler))
        if isinstance(response, ConnectionError):
            raise response
        if isinstance(response, Exception):
            if request.writer.output_size > 0 and request.transport is not None:
                request.transport.abort()  # part of an export is out: a cut connection says that it is not whole
            response = _admin_failed(request, response)
        if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
            log.info("admin %s %s -> %d", request.method, errors.printable(request.path), response.status)
        return response

    return admin_layer


def _actor(access: Access, authorization: str | None, settings: Admin) -> Actor:
    if access is Access.OPEN:
        return auth.NOBODY
    actor = auth.actor(authorization, settings)
    if access is Access.OPERATOR and actor.tenant is not None:
        raise Forbidden("This takes the operator's token: a developer's reaches the functions of one tenant only.")
    return actor


def _admin_failed(request: web.Request, error: Exception) -> web.Response:
    response = problem(errors.of_request(error, request), request)
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers[hdrs.ALLOW] = errors.allow(error)
    return response


def problem(error: EdgeCacheError, request: web.BaseRequest) -> web.Response:
    """An admin error."""
    response = web.Response(
        status=error.status, body=errors.problem(error), content_type=errors.PROBLEM, headers=errors.headers(error)
    )
    if not request.content.is_eof():
        response.force_close()
    return response


def admin_protocol_error(error: EdgeCacheError, request: web.BaseRequest) -> web.StreamResponse:
    """How the guard of the admin listener answers what never became a request."""
    response = problem(error, request)
    response.force_close()
    return response
