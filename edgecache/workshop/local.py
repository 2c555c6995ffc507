"""A function compiled and loaded on its developer's machine, by the same parts that a POP uses.

Machine code is kept in `.edgecache/code`, so what did not change is compiled once; only the latest build's stays there.
"""

import asyncio
import faulthandler
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec

from edgecache.clock import Clock
from edgecache.config.tree import Functions
from edgecache.wasm.base import Program
from edgecache.wasm.compiler import Artefact, Compiler
from edgecache.wasm.engine import Engine
from edgecache.wasm.load import load
from edgecache.wasm.vault import read_key
from edgecache.workshop.project import Project

_INSTANCES = 8
"""Sandboxes at once: cases run one after the other."""


class Ready(msgspec.Struct, frozen=True):
    """A function that can be called. `compiled` and `loaded`: s that each took; compiling took 0 if it was kept."""

    artefact: Artefact
    program: Program
    compiled: float
    loaded: float


class Local:
    """An engine and a compiler of one's own. Use it in a `with`; what it loaded is closed at its end."""

    def __init__(self, project: Project, settings: Functions, clock: Clock) -> None:
        """`settings` are those of the POP that the function is meant for. Raises ConfigError."""
        self.project = project
        self.settings = settings
        self.clock = clock
        self._exit = ExitStack()
        if not faulthandler.is_enabled():
            faulthandler.enable()  # before the engine: see there
        self.engine = Engine(instances=_INSTANCES, memory=settings.max_memory, tick=settings.tick, clock=clock)
        self._exit.callback(self.engine.close)
        folder = project.state / "code"
        key = read_key(folder / "key")
        self._compiler = Compiler(folder, settings, key=key, fingerprint=self.engine.fingerprint)

    async def ready(self, artefact: bytes, *, keep: bool = True) -> Ready:
        """Compile and load `artefact`; with `keep`, forget the code of all that was built before.

        Raises:
            FunctionRefused: it cannot be taken, as at a deployment.
            FunctionFault: its code cannot be loaded.
        """
        begun = self.clock.monotonic()
        made = await self._compiler.compile(artefact)
        if keep:
            await asyncio.to_thread(self._forget, made.digest)
        compiled = self.clock.monotonic()
        program = await asyncio.to_thread(load, self.engine, made)
        self._exit.callback(program.close)
        return Ready(made, program, compiled - begun, self.clock.monotonic() - compiled)

    def _forget(self, kept: str) -> None:
        for digest in self._compiler.vault.digests() - {kept}:
            self._compiler.vault.forget(digest)

    def close(self) -> None:
        """Give everything back; no call may be in progress."""
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
