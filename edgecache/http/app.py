"""The two applications, their routes as data, and the listeners that serve them. The order of everything HTTP is here.

A request passes: `guard` (connection, request head) → `middleware` (identity, limits, errors, log) → handler.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import msgspec
from aiohttp import web

from edgecache.config import Limits, address
from edgecache.http import middleware
from edgecache.http.admin import (
    cache,
    config,
    entries,
    function_data,
    function_logs,
    health,
    metrics,
    quality,
    route,
    usage,
)
from edgecache.http.admin import functions as manage
from edgecache.http.auth import Access
from edgecache.http.exchange import Books
from edgecache.http.guard import Connection, GuardedServer, Quick, Render
from edgecache.http.middleware import Policies, Route
from edgecache.http.public import embeddings, feedback, functions, models, openai, responses
from edgecache.http.services import SERVICES, Services

log = logging.getLogger(__name__)

_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")

_QUICK = frozenset({"chat.completions", "completions", "responses"})
"""Routes whose exact hits take the short cut."""
_LAST_MOMENT = 0.5
"""Seconds that cancelled requests get to say goodbye."""

PUBLIC = (
    Route("POST", "/v1/chat/completions", openai.chat, Access.TENANT, "chat.completions"),
    Route("POST", "/v1/completions", openai.completions, Access.TENANT, "completions"),
    Route("POST", "/v1/embeddings", embeddings.create, Access.TENANT, "embeddings"),
    Route("POST", "/v1/responses", responses.create, Access.TENANT, "responses"),
    Route("GET", "/v1/responses/{id}", responses.stored, Access.TENANT, "responses.stored"),
    Route("DELETE", "/v1/responses/{id}", responses.stored, Access.TENANT, "responses.stored"),
    Route("POST", "/v1/responses/{id}/cancel", responses.stored, Access.TENANT, "responses.stored"),
    Route("GET", "/v1/responses/{id}/input_items", responses.stored, Access.TENANT, "responses.stored"),
    Route("POST", "/v1/feedback", feedback.give, Access.TENANT, "feedback"),
    Route("GET", "/v1/models", models.list_all, Access.NEIGHBOUR, "models"),
    Route("GET", "/v1/models/{id:.+}", models.retrieve, Access.NEIGHBOUR, "models"),
    *(Route(method, functions.PATH, functions.call, Access.TENANT, "functions") for method in functions.METHODS),
)
"""Every route of the public listener."""

_FUNCTIONS = "/admin/v1/functions"

ADMIN = (
    Route("GET", "/livez", health.livez, Access.OPEN, "livez"),
    Route("GET", "/readyz", health.readyz, Access.OPEN, "readyz"),
    Route("GET", "/startupz", health.startupz, Access.OPEN, "startupz"),
    Route("GET", "/metrics", metrics.render, Access.OPEN, "metrics"),
    Route("GET", "/admin/v1/cache/stats", cache.stats, Access.OPERATOR, "cache.stats"),
    Route("POST", "/admin/v1/cache/explain", cache.explain, Access.OPERATOR, "cache.explain"),
    Route("GET", "/admin/v1/cache/export", cache.export, Access.OPERATOR, "cache.export"),
    Route("POST", "/admin/v1/cache/import", cache.import_, Access.OPERATOR, "cache.import"),
    Route("POST", "/admin/v1/purge", cache.purge, Access.OPERATOR, "purge"),
    Route("GET", "/admin/v1/entries/{id}", entries.show, Access.OPERATOR, "entries.show"),
    Route("POST", "/admin/v1/entries/{id}/pin", quality.pin, Access.OPERATOR, "entries.pin"),
    Route("POST", "/admin/v1/entries/{id}/ban", quality.ban, Access.OPERATOR, "entries.ban"),
    Route("POST", "/admin/v1/entries/{id}/release", quality.release, Access.OPERATOR, "entries.release"),
    Route("GET", "/admin/v1/quality", quality.show, Access.OPERATOR, "quality"),
    Route("POST", "/admin/v1/feedback", quality.give, Access.OPERATOR, "feedback"),
    Route("POST", "/admin/v1/route/explain", route.explain, Access.OPERATOR, "route.explain"),
    Route("GET", "/admin/v1/usage", usage.report, Access.OPERATOR, "usage"),
    Route("GET", "/admin/v1/usage/records", usage.records, Access.OPERATOR, "usage.records"),
    Route("GET", "/admin/v1/models", config.models, Access.OPERATOR, "models"),
    Route("GET", "/admin/v1/config", config.show, Access.OPERATOR, "config"),
    Route("POST", "/admin/v1/reload", config.reload, Access.OPERATOR, "reload"),
    Route("GET", _FUNCTIONS, manage.list_all, Access.DEVELOPER, "functions.list"),
    Route("POST", _FUNCTIONS, manage.deploy, Access.DEVELOPER, "functions.deploy"),
    Route("GET", _FUNCTIONS + "/{name}", manage.show, Access.DEVELOPER, "functions.show"),
    Route("DELETE", _FUNCTIONS + "/{name}", manage.delete, Access.DEVELOPER, "functions.delete"),
    Route("GET", _FUNCTIONS + "/{name}/versions", manage.versions, Access.DEVELOPER, "functions.versions"),
    Route("GET", _FUNCTIONS + "/{name}/stats", manage.stats, Access.DEVELOPER, "functions.stats"),
    Route("GET", _FUNCTIONS + "/{name}/limits", manage.limits, Access.DEVELOPER, "functions.limits"),
    Route("POST", _FUNCTIONS + "/{name}/rollback", manage.rollback, Access.DEVELOPER, "functions.rollback"),
    Route("POST", _FUNCTIONS + "/{name}/split", manage.split, Access.DEVELOPER, "functions.split"),
    Route("POST", _FUNCTIONS + "/{name}/promote", manage.promote, Access.DEVELOPER, "functions.promote"),
    Route("GET", _FUNCTIONS + "/{name}/logs", function_logs.show, Access.DEVELOPER, "functions.logs"),
    Route("GET", _FUNCTIONS + "/{name}/secrets", function_data.secrets, Access.DEVELOPER, "functions.secrets"),
    Route(
        "POST", _FUNCTIONS + "/{name}/secrets", function_data.put_secrets, Access.DEVELOPER, "functions.secrets.bulk"
    ),
    Route(
        "PUT", _FUNCTIONS + "/{name}/secrets/{key}", function_data.put_secret, Access.DEVELOPER, "functions.secrets.put"
    ),
    Route(
        "DELETE",
        _FUNCTIONS + "/{name}/secrets/{key}",
        function_data.delete_secret,
        Access.DEVELOPER,
        "functions.secrets.delete",
    ),
    Route("GET", _FUNCTIONS + "/{name}/kv/{store}/", function_data.keys, Access.DEVELOPER, "functions.kv.list"),
    Route("GET", _FUNCTIONS + "/{name}/kv/{store}/{key:.+}", function_data.get, Access.DEVELOPER, "functions.kv.get"),
    Route("PUT", _FUNCTIONS + "/{name}/kv/{store}/{key:.+}", function_data.put, Access.DEVELOPER, "functions.kv.put"),
    Route(
        "DELETE",
        _FUNCTIONS + "/{name}/kv/{store}/{key:.+}",
        function_data.delete,
        Access.DEVELOPER,
        "functions.kv.delete",
    ),
)
"""Every route of the admin listener."""

POLICIES = web.AppKey("policies", Policies)


def create_public(services: Services, books: Books | None = None) -> web.Application:
    """The OpenAI API."""
    policies: Policies = {}
    layer = middleware.public(services, policies, books or Books(services))
    return _application(services, PUBLIC, policies, layer)


def create_admin(services: Services) -> web.Application:
    """The admin API."""
    policies: Policies = {}
    return _application(services, ADMIN, policies, middleware.admin(services, policies))


def _application(services: Services, routes: tuple[Route, ...], policies: Policies, layer: Any) -> web.Application:
    app = web.Application(middlewares=[layer])
    app[SERVICES] = services
    app[POLICIES] = policies
    for each in routes:
        methods = ("GET", "HEAD") if each.method == "GET" else (each.method,)
        for method in methods:
            policies[app.router.add_route(method, each.path, each.handler)] = each
    return app


class Listener:
    """One application on one address."""

    def __init__(
        self, app: web.Application, render: Render, quick: Quick, limits: Limits, closed: Callable[[], None]
    ) -> None:
        """Raises ConfigError without aiohttp's C parser, at `start`. `closed` is called once nothing runs any more."""
        self._closed = closed
        self._limits = limits
        self._app = app
        self._render = render
        self._quick = quick
        self._runner: _Runner | None = None
        self._site: web.TCPSite | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and say where: with port 0 the system chose one. Raises OSError when the address is not to be had."""
        self._runner = _Runner(self._app, self._render, self._quick, self._limits)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, host or None, port, backlog=1024)
        await self._site.start()
        found = self._runner.addresses[0]
        return str(found[0]), int(found[1])

    async def close_door(self) -> None:
        """Take no new connections, and close idle ones; requests in progress go on."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._runner is not None and self._runner.server is not None:
            self._runner.server.pre_shutdown()

    async def stop(self) -> None:
        """Cut what still runs short (its clients are told) and close."""
        await self.close_door()
        if self._runner is None:
            return
        server = cast("GuardedServer | None", self._runner.server)
        for connection in server.connections if server is not None else ():
            cast("Connection", connection).cancel_request()
        await asyncio.sleep(0)
        await self._runner.cleanup()
        self._runner = None
        self._closed()


class _Runner(web.AppRunner):
    """aiohttp's runner, with our server in place of its own."""

    def __init__(self, app: web.Application, render: Render, quick: Quick, limits: Limits) -> None:
        self._limits = limits
        super().__init__(app, shutdown_timeout=_LAST_MOMENT)
        self._render = render
        self._quick = quick

    async def _make_server(self) -> web.Server:
        await super()._make_server()  # starts and freezes the application
        services = self._app[SERVICES]
        return GuardedServer(
            self._app._handle,  # noqa: SLF001 - aiohttp passes it to its own server in the same way
            request_factory=self._app._make_request,  # noqa: SLF001
            limits=self._limits,
            metrics=services.metrics,
            render=self._render,
            quick=self._quick,
        )


def public_listener(services: Services) -> Listener:
    """The OpenAI API, ready to be started."""
    books = Books(services)
    quick = middleware.quick(services, {each.path: each for each in PUBLIC if each.name in _QUICK}, books)
    render = middleware.protocol_error(services, books)
    return Listener(create_public(services, books), render, quick, services.config.limits, books.flush)


def admin_listener(services: Services) -> Listener:
    """The admin API, ready to be started.

    On loopback it goes by loopback names only: a web page whose name was rebound to 127.0.0.1 gets nothing from it.
    """
    limits, place = services.config.limits, address.parse(services.config.admin.listen)
    if place.loopback:
        limits = msgspec.structs.replace(limits, allowed_hosts=_LOOPBACK_NAMES)
    return Listener(
        create_admin(services), middleware.admin_protocol_error, lambda _message, _body: None, limits, lambda: None
    )


async def drain(services: Services, public: Listener) -> None:
    """Graceful end of the public listener: not ready, wait, close the door, let requests finish, cut the rest short."""
    server = services.config.server
    services.readiness.draining = True
    await asyncio.sleep(server.drain_delay)
    await public.close_door()
    try:
        async with asyncio.timeout(server.drain_timeout):
            await services.inflight.idle()
    except TimeoutError:
        log.warning("%d requests still ran after %g s and are cut short", services.inflight.count, server.drain_timeout)
    await public.stop()
