"""What a function is made of and what it takes: the reports of `fn validate`, `fn inspect` and `fn bench`."""

import asyncio
from collections.abc import Sequence
from typing import Any

from edgecache.errors import EdgeCacheError
from edgecache.functions import manifest as manifests
from edgecache.functions.grants import Share, describe
from edgecache.workshop import cases, measuring, trial
from edgecache.workshop.cases import Asked, Case, Expected
from edgecache.workshop.local import Local, Ready
from edgecache.workshop.measuring import Timings
from edgecache.workshop.project import Project
from edgecache.workshop.stage import staged

_KILL_CPU = 0.01
"""Seconds after which the endless loop should end."""
_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_750_000_000,
    "model": "edge-test",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello {{name}}. " + "An edge cache answers near by. " * 24},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 8, "completion_tokens": 150, "total_tokens": 158},
}
"""What a function without cases is measured with: an answer of about 1 KB."""


async def inspect(project: Project, local: Local, *, calls: int) -> dict[str, Any]:
    """What the function is made of; with `calls`, what one of them takes.

    Raises:
        FunctionRefused: a POP with these settings would not take it.
        FunctionFault: it could not be loaded, or a measured call failed.
    """
    artefact = await asyncio.to_thread(project.read)
    manifest = project.manifest
    manifests.check(manifest)
    shares = describe(manifest, local.settings)
    ready = await local.ready(artefact)
    made, facts = ready.artefact, ready.artefact.facts
    known = kept(project)
    report: dict[str, Any] = {
        "name": project.name,
        "kind": made.kind.value,
        "bytes": len(artefact),
        "digest": made.digest,
        "imports": list(facts.imports),
        "exports": list(facts.exports),
        "functions": facts.functions,
        "bound to": [bind.phase.value for bind in manifest.bind],
        "limits": {share.name: share.granted for share in shares},
        "cut": [f"{each.name}: {each.asked} asked, {each.granted} granted" for each in shares if _less(each)],
        "cases": len(known),
        **_loading(ready),
    }
    if calls:
        first = (await timed([chosen(known)[0]], ready, local, calls=calls))[0][1]
        report |= {
            "us a call": {"p50": round(first.p50, 1), "p99": round(first.p99, 1), "cpu": round(first.cpu, 1)},
            "memory bytes": first.memory or None,
        }
    return report


def _less(share: Share) -> bool:
    """Whether the POP gives less than was asked for."""
    if isinstance(share.asked, int | float):
        return bool(share.granted < share.asked)
    return bool(share.granted != share.asked)


def _loading(ready: Ready) -> dict[str, Any]:
    return {
        "compile s": round(ready.artefact.cpu, 3),
        "code bytes": ready.artefact.bytes,
        "load ms": round(ready.loaded * 1e3, 3),
    }


async def bench(project: Project, local: Local, *, calls: int) -> dict[str, Any]:
    """What calls take, case by case, and what loading and ending the function takes. Raises as `inspect`."""
    ready = await local.ready(await asyncio.to_thread(project.read))
    rows = await timed(chosen(kept(project)), ready, local, calls=calls)
    loop = await local.ready(measuring.LOOP, keep=False)
    request = trial.request(Case(name="endless loop", expect=Expected()))
    late = await asyncio.to_thread(measuring.killed, loop.program, request, cpu=_KILL_CPU, clock=local.clock)
    return {
        "name": project.name,
        "kind": ready.artefact.kind.value,
        "bytes": ready.artefact.facts.bytes,
        **_loading(ready),
        "kill ms": round(1e3 * measuring.share(late, 0.5), 2),
        "kill ms p99": round(1e3 * measuring.share(late, 0.99), 2),
        "calls": [_row(name, each) for name, each in rows],
    }


def _row(name: str, timings: Timings) -> dict[str, Any]:
    return {
        "case": name,
        "calls": timings.calls,
        "p50 us": round(timings.p50, 1),
        "p90 us": round(timings.p90, 1),
        "p99 us": round(timings.p99, 1),
        "CPU us": round(timings.cpu, 1),
        "calls/s/core": round(timings.per_core),
        "memory KiB": timings.memory // 1024 or None,
    }


async def timed(known: Sequence[Case], ready: Ready, local: Local, *, calls: int) -> list[tuple[str, Timings]]:
    """Timings of each of the cases. Raises FunctionFault for one whose call fails."""
    found = []
    for case in known:
        async with staged(case, local.project.manifest, ready.artefact, local.settings, local.clock) as stage:
            try:
                timings = await asyncio.to_thread(
                    measuring.measure, ready.program, trial.request(case), stage.limits, stage.host,
                    calls=calls, clock=local.clock,
                )  # fmt: skip
            except EdgeCacheError as error:
                raise EdgeCacheError(f"case {case.name!r}: {error.message}") from error
        found.append((case.name, timings))
    return found


def kept(project: Project) -> tuple[Case, ...]:
    """The function's cases; none where it has no file of them."""
    return cases.read(project.cases) if project.cases.exists() else ()


def chosen(known: Sequence[Case]) -> list[Case]:
    """What to measure: the cases that end well, else an ordinary hit. Scripted answers are there for one call only."""
    plain = [
        case for case in known if case.expect.fault is None and not (case.fetch or case.llm.infer or case.llm.embed)
    ]
    asked = Asked(headers={"x-user": "Ada"}, body=_ANSWER)
    return plain or [Case(name="an answer of 1 KB", expect=Expected(), request=asked)]
