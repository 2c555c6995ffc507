"""From compiled code to something that can be called: the one place that knows which program runs which kind.

Whoever loads code has looked at its seal in the same breath: what is mapped is what was compared.
"""

from pathlib import Path

from edgecache.wasm.base import Kind, Program
from edgecache.wasm.command import CommandProgram
from edgecache.wasm.component import ComponentProgram
from edgecache.wasm.core import CoreProgram
from edgecache.wasm.engine import Engine
from edgecache.wasm.script import ScriptProgram
from edgecache.wasm.vault import Artefact, verified


def load(engine: Engine, artefact: Artefact) -> Program:
    """The program that runs `artefact`; raises FunctionFault (`load`) if its code was altered or does not fit."""
    with verified(artefact) as code:
        return program(engine, artefact, code)


def program(engine: Engine, artefact: Artefact, code: Path) -> Program:
    """The program that runs `artefact`, whose code was compared with its seal and can be mapped at `code`."""
    match artefact.kind:
        case Kind.COMPONENT:
            return ComponentProgram(engine, code)
        case Kind.SCRIPT:
            return ScriptProgram(engine, code, artefact.extra)
        case Kind.CORE:
            return CoreProgram(engine, code)
        case Kind.COMMAND:
            return CommandProgram(engine, code)
