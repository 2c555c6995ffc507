"""Probes. Alive: the event loop turns. Started: it has been ready once. Ready: send traffic. No secrets, no tenants."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from edgecache.config import Ledger, Upstream
from edgecache.http.services import SERVICES, Check

if TYPE_CHECKING:
    from edgecache.embed.batcher import Batcher
    from edgecache.embed.verifier import Verifier
    from edgecache.functions.runtime import Runtime


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


def embedder(batcher: "Batcher") -> Check:
    """Whether texts become vectors; without, the semantic tier is not used."""
    engine = batcher.embedder
    detail = f"{engine.name} on {engine.device} in {engine.precision}"
    return Check("embedder", batcher.ready, detail, required=False)


def verifier(running: "Verifier | None", missing: str) -> Check:
    """Whether candidates are scored; without, only equal wording hits. `missing` says why a wanted one is not there."""
    if running is None:
        return Check("verifier", not missing, missing or "none: only equal wording hits", required=False)
    return Check("verifier", running.ready, "pairs of questions are scored", required=False)


def functions(runtime: "Runtime | None", missing: str) -> Check:
    """Whether functions run; one that cannot be loaded fails its own calls and is named here."""
    if runtime is None:
        return Check("functions", not missing, missing or "off", required=False)
    running = runtime.registry.active()
    troubled = [f"{each.deployment.tenant}/{each.deployment.name}" for each in running if each.trouble]
    detail = f"{len(runtime.registry.deployments())} deployed"
    return Check(
        "functions",
        not troubled,
        f"{detail}; in trouble: {', '.join(troubled)}" if troubled else detail,
        required=False,
    )


def store(folder: str, missing: str) -> Check:
    """Whether answers are kept; `missing` says why not."""
    return Check("store", not missing, missing or folder, required=False)


def ledger(settings: Ledger, missing: str) -> Check:
    """Whether requests are booked; `missing` says why not although they should be."""
    return Check("ledger", not missing, missing or ("usage is booked" if settings.enabled else "off"), required=False)


def upstream(upstreams: Sequence[Upstream], core_url: str | None) -> Check:
    """Configured, not probed: a POP with its upstreams down still answers what it has."""
    named = [
        f"{each.name} (the embedded core: scripted, no model behind it)"
        if each.url == core_url
        else f"{each.name} ({each.dialect}, {each.url})"
        for each in upstreams
    ]
    return Check("upstream", bool(named), ", ".join(named) or "none configured", required=False)
