"""Probes. Alive: the event loop turns. Started: it has been ready once. Ready: send traffic. No secrets, no tenants."""

import orjson
from aiohttp import web

from edgecache.http.services import SERVICES, Check


async def livez(_request: web.Request) -> web.Response:
    """`GET /livez`: never depends on anything but this process."""
    return web.Response(text="ok\n")


async def startupz(request: web.Request) -> web.Response:
    """`GET /startupz`."""
    readiness = request.app[SERVICES].readiness
    return _answer(request, ok=readiness.started, checks=readiness.checks()[:1])


async def readyz(request: web.Request) -> web.Response:
    """`GET /readyz`."""
    readiness = request.app[SERVICES].readiness
    checks = readiness.checks()
    return _answer(request, ok=all(check.ok or not check.required for check in checks), checks=checks)


def _answer(request: web.Request, *, ok: bool, checks: list[Check]) -> web.Response:
    """One word, or with `?verbose` each check by name."""
    status = 200 if ok else 503
    if "verbose" not in request.query:
        missing = ", ".join(check.name for check in checks if check.required and not check.ok)
        return web.Response(status=status, text="ok\n" if ok else f"not ready: {missing}\n")
    report = {
        "ready": ok,
        "checks": [
            {"name": check.name, "ok": check.ok, "required": check.required, "detail": check.detail} for check in checks
        ],
    }
    return web.Response(status=status, body=orjson.dumps(report), content_type="application/json")
