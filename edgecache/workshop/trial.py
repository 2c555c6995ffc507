"""Cases tried on a function: what each came to, and what of it is not as expected."""

import asyncio
from hashlib import sha256

import msgspec

from edgecache.errors import EdgeCacheError, FunctionFault
from edgecache.functions import phases
from edgecache.functions.manifest import Phase
from edgecache.functions.phases import Rules
from edgecache.types import CacheInfo, CacheStatus, Call, Endpoint, Tenant
from edgecache.wasm.base import Request, Response
from edgecache.workshop import compare
from edgecache.workshop.cases import Case
from edgecache.workshop.local import Local, Ready
from edgecache.workshop.stage import Stage, staged

_RULES = Rules(admit=lambda _tenant, _model: None, max_depth=64, max_messages=2048)


class Result(msgspec.Struct, frozen=True):
    """What a case came to. `differences` is empty if it passed; `ms` and `cpu_ms` are those of the call."""

    name: str
    differences: tuple[str, ...] = ()
    status: int | None = None
    fault: str = ""
    ms: float = 0.0
    cpu_ms: float = 0.0
    log: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.differences


async def run(case: Case, ready: Ready, local: Local) -> Result:
    """Try `case`. Raises EdgeCacheError for a case that cannot be set up."""
    try:
        async with staged(case, local.project.manifest, ready.artefact, local.settings, local.clock) as stage:
            return await asyncio.to_thread(_tried, case, ready, stage)
    except EdgeCacheError as error:
        raise EdgeCacheError(f"case {case.name!r}: {error.message}") from error


def _tried(case: Case, ready: Ready, stage: Stage) -> Result:
    try:
        response = ready.program.run(request(case), stage.limits, stage.host())
        if case.phase is not Phase.ROUTE:
            phases.read(case.phase, response, _call(case), _RULES)
    except FunctionFault as fault:
        return _failed(case, fault, stage)
    return _answered(case, response, stage)


def _failed(case: Case, fault: FunctionFault, stage: Stage) -> Result:
    lines = []
    if case.expect.fault is None:
        lines.append(f"fault: expected none, got {fault.fault}: {fault.message}")
    elif case.expect.fault is not fault.fault:
        lines.append(f"fault: expected {case.expect.fault}, got {fault.fault}: {fault.message}")
    lines += _left(case, stage)
    return Result(case.name, tuple(lines), fault=f"{fault.fault}: {fault.message}", log=stage.log())


def _answered(case: Case, response: Response, stage: Stage) -> Result:
    lines = compare.differences(case.expect, response)
    if case.expect.fault is not None:
        lines.insert(0, f"fault: expected {case.expect.fault}, got a response with status {response.status}")
    lines += _left(case, stage)
    usage = response.usage
    return Result(
        case.name, tuple(lines), response.status, ms=usage.wall * 1e3, cpu_ms=usage.cpu * 1e3, log=stage.log()
    )


def _left(case: Case, stage: Stage) -> list[str]:
    """What it left behind that is not as expected: log lines and values."""
    lines = list(compare.missing("log", case.expect.log, "\n".join(stage.log())))
    for store, values in case.expect.kv.items():
        for key, value in values.items():
            if (got := stage.value(store, key)) != value:
                lines.append(f"kv {store}/{key}: expected {value!r}, got {got!r}")
    return lines


def request(case: Case) -> Request:
    """The request that the function gets."""
    asked, now = case.request, int(case.now * 1e9)
    seed = sha256(b"case %d" % case.seed).digest()
    headers = {name.lower(): value for name, value in asked.headers.items()}
    if case.phase is Phase.ROUTE:
        return Request(asked.method, asked.path, tuple(headers.items()), asked.raw(), now, seed)
    heading = phases.heading(headers, tenant=asked.tenant, model=asked.model, request_id="case")
    info = _info(case) if case.phase is Phase.HIT else None
    return phases.request(case.phase, asked.path, heading, asked.raw(), now=now, seed=seed, info=info)


def _info(case: Case) -> CacheInfo:
    try:
        status = CacheStatus(case.request.status)
    except ValueError:
        known = ", ".join(CacheStatus)
        raise EdgeCacheError(f"`request.status`: {case.request.status!r} is none of {known}") from None
    return CacheInfo(status, similarity=case.request.similarity)


def _call(case: Case) -> Call:
    """The client's request, as far as what an answer means depends on it."""
    path = case.request.path.partition("?")[0]
    endpoint = next((each for each in Endpoint if each.path == path), None)
    if endpoint is None:
        raise EdgeCacheError(f"`request.path`: {path!r} is none of {', '.join(each.path for each in Endpoint)}")
    asked = case.request
    return Call("case", Tenant(asked.tenant), endpoint, asked.model, {}, asked.raw())
