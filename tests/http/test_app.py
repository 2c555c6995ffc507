import asyncio
import itertools
import re

import pytest
from aiohttp import web

from edgecache.config import Admin, AdminDeveloper, Auth, AuthTenant, Config, Server
from edgecache.http import app
from edgecache.http.auth import Access
from edgecache.http.middleware import Route
from edgecache.http.services import SERVICES
from tests.http.conftest import CHAT, Raw, Site, miss, request, services, stream

KEYS = Auth(mode="keys", tenant=(AuthTenant(id="acme", keys=("sk-acme",)),), peers=("pop",))
CREDENTIALS = (
    "X: y",
    "Authorization: Bearer wrong",
    "Authorization: Bearer sk-acme",
    "Authorization: Bearer pop",
    "Authorization: Bearer admin",
    "Authorization: Bearer dev",
)
ADMINS = Admin(token="admin", developer=(AdminDeveloper(tenant="acme", tokens=("dev",)),))
OPENED_BY = {
    Access.OPEN: set(CREDENTIALS),
    Access.TENANT: {"Authorization: Bearer sk-acme"},
    Access.NEIGHBOUR: {"Authorization: Bearer sk-acme", "Authorization: Bearer pop"},
    Access.OPERATOR: {"Authorization: Bearer admin"},
    Access.DEVELOPER: {"Authorization: Bearer admin", "Authorization: Bearer dev"},
}


def routes(made: web.Application) -> list[tuple[str, str, Route]]:
    """Method, a concrete path and the policy of every route that the router knows."""
    found = []
    for route in made.router.routes():
        assert route in made[app.POLICIES], f"{route} has no policy"
        path = re.sub(r"\{\w+\}", "x", route.resource.canonical)
        found.append((route.method, path, made[app.POLICIES][route]))
    return found


SERVED = {
    name: routes(make(services(Config())))
    for name, make in (("public", app.create_public), ("admin", app.create_admin))
}
MATRIX = [
    pytest.param(listener, *row, credential, id=f"{listener} {row[0]} {row[1]} {credential}")
    for listener, table in SERVED.items()
    for row, credential in itertools.product(table, CREDENTIALS)
]


@pytest.mark.parametrize(("listener", "method", "path", "route", "credential"), MATRIX)
async def test_every_route_opens_to_the_credentials_of_its_policy_only(
    listener: str, method: str, path: str, route: Route, credential: str
) -> None:
    """Engines are missing here, so a caller who gets in meets a 4xx of the handler or a 5xx, never a 401 or 403."""
    made = services(Config(auth=KEYS, admin=ADMINS))
    site = app.public_listener(made) if listener == "public" else app.admin_listener(made)
    host, port = await site.start("127.0.0.1", 0)
    raw = Raw(*await asyncio.open_connection(host, port))
    await raw.send(request(method, path, b"" if method in {"GET", "HEAD"} else b"{}", credential))
    head = await raw.reader.readuntil(b"\r\n\r\n")
    refused = head.split(b" ", 2)[1] in {b"401", b"403"}
    assert refused == (credential not in OPENED_BY[route.access])
    raw.writer.close()
    await raw.writer.wait_closed()
    await site.stop()


@pytest.mark.parametrize("make", [app.create_public, app.create_admin])
async def test_a_route_added_without_a_policy_is_refused(make) -> None:
    async def secret(_request: web.Request) -> web.Response:
        return web.Response(text="secret")

    made = make(services(Config()))
    made.router.add_get("/v1/secret", secret)
    public = make is app.create_public
    template = (app.public_listener if public else app.admin_listener)(made[SERVICES])
    listener = app.Listener(made, template._render, template._quick, template._limits, lambda: None)
    host, port = await listener.start("127.0.0.1", 0)
    raw = Raw(*await asyncio.open_connection(host, port))
    await raw.send(request("GET", "/v1/secret"))
    assert (await raw.response()).status == 403
    raw.writer.close()
    await raw.writer.wait_closed()
    await listener.stop()


def test_only_probes_and_metrics_are_open() -> None:
    opened = {route.path for route in (*app.PUBLIC, *app.ADMIN) if route.access is Access.OPEN}
    assert opened == {"/livez", "/readyz", "/startupz", "/metrics"}


def test_the_two_listeners_share_no_path() -> None:
    assert not {route.path for route in app.PUBLIC} & {route.path for route in app.ADMIN}


async def test_draining_lets_a_stream_finish_and_closes_idle_connections_at_once(site) -> None:
    made: Site = await site(server=Server(drain_timeout=5.0))
    go = asyncio.Event()

    async def halting():
        yield b"data: 1\n\n"
        await go.wait()
        yield b"data: [DONE]\n\n"

    made.script.answer = stream(halting())
    idle, busy = await made.connect(), await made.connect()
    await busy.send(request("POST", "/v1/chat/completions", CHAT))
    await busy.reader.readuntil(b"data: 1")
    made.script.answer = miss(b"{}")
    await idle.post()
    draining = asyncio.get_running_loop().create_task(app.drain(made.services, made.listener))
    assert await idle.rest() == b""
    assert not made.services.readiness.ready
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await made.connect()
    go.set()
    assert (await busy.rest()).endswith(b"0\r\n\r\n")
    await draining


async def test_a_request_whose_body_is_still_arriving_is_answered_while_draining(site) -> None:
    made: Site = await site(server=Server(drain_timeout=5.0))
    raw = await made.connect()
    wire = request("POST", "/v1/chat/completions", CHAT)
    await raw.send(wire[:-5])
    async with asyncio.timeout(5):
        while not made.services.inflight.count:
            await asyncio.sleep(0.01)
    draining = asyncio.get_running_loop().create_task(app.drain(made.services, made.listener))
    await asyncio.sleep(0.05)
    await raw.send(wire[-5:])
    response = await raw.response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    await draining


async def test_a_stream_that_outlives_the_drain_gets_an_error_event_and_no_clean_end(site) -> None:
    made: Site = await site(server=Server(drain_timeout=0.1))

    async def endless():
        yield b"data: 1\n\n"
        await asyncio.Event().wait()

    made.script.answer = stream(endless())
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    await raw.reader.readuntil(b"data: 1")
    await app.drain(made.services, made.listener)
    received = await raw.rest()
    assert b"shutting down" in received
    assert not received.endswith(b"0\r\n\r\n")


async def test_a_request_that_outlives_the_drain_is_told_with_503(site) -> None:
    made: Site = await site(server=Server(drain_timeout=0.1))

    async def never(_call):
        await asyncio.Event().wait()

    made.script.answer = never
    raw = await made.connect()
    await raw.send(request("POST", "/v1/chat/completions", CHAT))
    async with asyncio.timeout(5):
        while not made.script.calls:
            await asyncio.sleep(0.01)
    await app.drain(made.services, made.listener)
    response = await raw.response()
    assert (response.status, response.error["code"]) == (503, "overloaded")


async def test_a_listener_that_was_never_started_can_be_stopped() -> None:
    await app.admin_listener(services(Config())).stop()
