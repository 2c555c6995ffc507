"""The child process that makes machine code of one upload, and ends. `compiler` starts it and reads its report.

By the time it reads the upload it can open nothing for writing, start nothing and reach nobody, and its memory and CPU
time are bounded: what goes wrong in here is a refusal out there.
"""

import faulthandler
import math
import os
import resource
from pathlib import Path
from typing import Any

import msgspec

from edgecache.errors import FunctionFault, FunctionRefused
from edgecache.wasm import child, preview1, structure
from edgecache.wasm.base import Kind
from edgecache.wasm.compose import compose
from edgecache.wasm.engine import Engine
from edgecache.wasm.facts import Facts
from edgecache.wasm.load import load
from edgecache.wasm.snapshot import build
from edgecache.wasm.vault import Artefact, digest_of

LARGEST_REPORT = 1024 * 1024
"""Bytes of a report."""
_LAST_WORDS = 4096
"""Bytes of what is reported before something that may end this process, and overwritten after it."""
_EVALUATION = 10
"""CPU s that the top level of a script may take."""


class Job(msgspec.Struct, frozen=True):
    """What the child is told: descriptors to read, write and report to, what it may take, and for which engine.

    `memory` and `cpu` bound the child (bytes, s), `function_memory` the function that is to run later. `parent` is the
    process that started it, `draft` the path behind the descriptor `code`.
    """

    artefact: int
    code: int
    report: int
    draft: str
    parent: int
    memory: int
    cpu: int
    largest_code: int
    function_memory: int
    fingerprint: str


class Compiled(msgspec.Struct, frozen=True, tag=True):
    """The code was written."""

    kind: Kind
    extra: dict[str, Any]
    facts: Facts
    cpu: float


class Refused(msgspec.Struct, frozen=True, tag=True):
    """It was not, and why."""

    code: str
    message: str


Report = Compiled | Refused


def main(arguments: list[str]) -> None:
    """Do the job that the one argument describes."""
    job = msgspec.json.decode(arguments[0], type=Job)
    child.dies_with_parent(job.parent)
    os.nice(10)
    child.limit(memory=job.memory, cpu=job.cpu, file=job.largest_code)
    faulthandler.enable()  # before the engine, which asks for it
    child.confine([Path(job.draft)])
    engine = Engine(instances=1, memory=job.function_memory, tick=None)
    _write(job, _report(engine, job))


def _write(job: Job, report: Report | None) -> None:
    """Put `report` in the place of what was reported before; None takes that back."""
    os.lseek(job.report, 0, os.SEEK_SET)
    os.write(job.report, (msgspec.json.encode(report) if report else b"").ljust(_LAST_WORDS, b"\0"))


def _report(engine: Engine, job: Job) -> Report:
    try:
        return _compile(engine, job)
    except FunctionRefused as error:
        return Refused(error.code or "", error.message[:2000])
    except FunctionFault as fault:
        return Refused("invalid_wasm", f"the compiled function cannot be loaded: {fault.message[:2000]}")
    except MemoryError:
        return Refused("compile_too_expensive", f"compiling took more than its {job.memory:,} bytes of memory")
    except RecursionError:
        return Refused("too_complex", "it is nested too deep")


def _compile(engine: Engine, job: Job) -> Compiled:
    if engine.fingerprint != job.fingerprint:
        raise FunctionRefused("the compiler is of another version than the daemon: restart it", code="engine")
    with open(job.artefact, "rb") as file:  # noqa: PTH123 - a descriptor
        artefact = file.read()
    kind = structure.kind_of(artefact)
    extra: dict[str, Any] = {}
    if kind is Kind.SCRIPT:
        found = Facts(bytes=len(artefact))
        wasm, extra = _evaluated(engine, job, artefact.decode())
    else:
        found = structure.facts(artefact)
        structure.check(found, kind, memory=job.function_memory, preview1=preview1.NAMES)
        wasm = compose(artefact) if kind is Kind.COMPONENT else artefact
    del artefact
    code = engine.compile_component(wasm) if kind is Kind.COMPONENT else engine.compile_module(wasm)
    if len(code) > job.largest_code:
        raise FunctionRefused(
            f"{len(code):,} bytes of machine code; at most {job.largest_code:,} "
            f"({len(code) - job.largest_code:,} too many)",
            code="too_complex",
        )
    with open(job.code, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(code)
    _try(engine, kind, extra, job, code)
    return Compiled(kind, extra, found, _cpu())


def _evaluated(engine: Engine, job: Job, source: str) -> tuple[bytes, dict[str, Any]]:
    """The snapshot of a script, whose own code runs here: should it not end, this is what is known of it."""
    seconds = min(_EVALUATION, job.cpu)
    message = f"evaluating the script took more than {seconds} s of CPU time: at the top level, only prepare"
    _write(job, Refused("script", message))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    used = math.ceil(_cpu())
    resource.setrlimit(resource.RLIMIT_CPU, (min(used + seconds, job.cpu), hard))
    made = build(engine, source)
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu, hard))
    _write(job, None)
    return made


def _cpu() -> float:
    taken = resource.getrusage(resource.RUSAGE_SELF)
    return taken.ru_utime + taken.ru_stime


def _try(engine: Engine, kind: Kind, extra: dict[str, Any], job: Job, code: bytes) -> None:
    """Load what was compiled once: exports of wrong types are known now, and not at the first call."""
    load(engine, Artefact("", kind, Path(job.draft), extra, Facts(0), 0.0, len(code), digest_of(code))).close()
