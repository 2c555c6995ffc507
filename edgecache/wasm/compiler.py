"""From an upload to machine code, in a child process that can be killed: nothing in an upload can hurt the daemon.

The child does all the reading and compiling (`compiling`); here it is started, watched, and its work taken in under
seal (`vault`). What was compiled once is not compiled again, as long as engine and adapter stay the same.
"""

import asyncio
import hashlib
import logging
import os
import signal
import subprocess
import threading
from pathlib import Path

import msgspec

from edgecache.config.tree import Functions
from edgecache.errors import FunctionRefused, Overloaded
from edgecache.wasm import child
from edgecache.wasm.compiling import LARGEST_REPORT, Compiled, Job, Refused, Report
from edgecache.wasm.vault import Artefact, Sealed, Vault, digest_of

__all__ = ["Artefact", "Compiler"]

log = logging.getLogger(__name__)

_WAITING = 16
"""Uploads that may wait for their turn."""
_GROWTH, _LEAST = 32, 64 * 1024 * 1024
"""Bytes of machine code that a child may write: so many times the largest upload, and at least so many."""
_CHATTER = 64 * 1024
"""Bytes of what a child writes to standard error that are kept."""


class Compiler:
    """Compiles uploads, one after the other, and keeps what it made in `folder`.

    `fingerprint` is that of the engine that will run the code. `key` seals the code on disk.
    """

    def __init__(self, folder: Path, settings: Functions, *, key: bytes, fingerprint: str) -> None:
        self.vault = Vault(folder, key)
        self._settings = settings
        self._engine = fingerprint
        self._fingerprint = f"{fingerprint} {_recipe()}"
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def compile(self, artefact: bytes) -> Artefact:
        """`artefact` compiled and kept, from the cache if it was before.

        Raises FunctionRefused with the rule that it breaks, and Overloaded when too many wait.
        """
        most = self._settings.max_artefact_bytes
        if len(artefact) > most:
            raise FunctionRefused(
                f"an upload of {len(artefact):,} bytes; at most {most:,} ({len(artefact) - most:,} too many)",
                code="too_large",
            )
        digest = await asyncio.to_thread(digest_of, artefact)
        found = await asyncio.to_thread(self.vault.find, digest, self._fingerprint)
        made = found or await self._made(digest, artefact)
        await asyncio.to_thread(self.vault.put, artefact)
        return made

    async def stored(self, digest: str) -> Artefact:
        """What `compile` made of an upload that is kept; compiled anew if its code is gone or altered.

        Raises FunctionFault (`load`) if the upload itself is gone or altered, and what `compile` does.
        """
        found = await asyncio.to_thread(self.vault.find, digest, self._fingerprint)
        return found or await self._made(digest, await asyncio.to_thread(self.vault.get, digest))

    async def _made(self, digest: str, artefact: bytes) -> Artefact:
        if self._waiting >= _WAITING:
            raise Overloaded(f"{self._waiting} uploads wait to be compiled", retry_after=10)
        self._waiting += 1
        try:
            async with self._turn:
                found = await asyncio.to_thread(self.vault.find, digest, self._fingerprint)
                return found or await self._compiled(digest, artefact)
        finally:
            self._waiting -= 1

    async def _compiled(self, digest: str, artefact: bytes) -> Artefact:
        run = _Run(self.vault, self._settings, engine=self._engine, digest=digest, fingerprint=self._fingerprint)
        work = asyncio.get_running_loop().run_in_executor(None, run, artefact)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            run.cancel()
            await asyncio.wait([work])
            raise


class _Run:
    """One child, from its start to its end; called in a thread."""

    def __init__(self, vault: Vault, settings: Functions, *, engine: str, digest: str, fingerprint: str) -> None:
        self._vault = vault
        self._settings = settings
        self._engine = engine
        self._digest = digest
        self._fingerprint = fingerprint
        self._wall = 60 + 4 * settings.compile_cpu
        """s: a busy machine may give a child of low priority a quarter of a core."""
        self._lock = threading.Lock()
        self._cancelled = False
        self._process: subprocess.Popen[bytes] | None = None

    def cancel(self) -> None:
        """End the child; from any thread."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                child.kill(self._process)

    def __call__(self, artefact: bytes) -> Artefact:
        """Compile `artefact`; raises FunctionRefused."""
        draft = self._vault.draft(self._digest, self._fingerprint)
        try:
            made = self._watched(artefact, draft)
            names = (self._digest, self._fingerprint)
            return self._vault.seal(draft, Sealed(*names, made.kind, made.extra, made.facts, made.cpu))
        finally:
            self._vault.discard(draft)

    def _watched(self, artefact: bytes, draft: Path) -> Compiled:
        upload, report, chatter = child.shown(artefact), child.room(LARGEST_REPORT), child.room(_CHATTER)
        code = os.open(draft, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._start(self._job(upload, code, report, draft), keep=(upload, code, report), stderr=chatter)
            return self._read(self._end(), child.written(report), child.written(chatter))
        finally:
            for descriptor in (upload, report, chatter, code):
                os.close(descriptor)

    def _job(self, artefact: int, code: int, report: int, draft: Path) -> Job:
        settings = self._settings
        return Job(
            artefact=artefact,
            code=code,
            report=report,
            draft=str(draft),
            parent=os.getpid(),
            memory=settings.compile_memory,
            cpu=settings.compile_cpu,
            largest_code=max(_LEAST, _GROWTH * settings.max_artefact_bytes),
            function_memory=settings.max_memory,
            fingerprint=self._engine,
        )

    def _start(self, job: Job, *, keep: tuple[int, ...], stderr: int) -> None:
        with self._lock:
            if not self._cancelled:
                described = msgspec.json.encode(job).decode()
                self._process = child.start("edgecache.wasm.compiling", [described], keep=keep, stderr=stderr)

    def _end(self) -> int:
        """Wait for the child; its exit status, negative for the signal that ended it."""
        if self._process is None:
            return -signal.SIGKILL
        try:
            return self._process.wait(self._wall)
        except subprocess.TimeoutExpired:
            raise FunctionRefused(
                f"compiling it did not end within {self._wall} s", code="compile_too_expensive"
            ) from None
        finally:
            child.kill(self._process)

    def _read(self, status: int, report: bytes, chatter: bytes) -> Compiled:
        said = _said(report)
        if isinstance(said, Refused):
            raise FunctionRefused(said.message, code=said.code)
        if status != 0 or said is None:
            raise self._failed(-status, chatter.decode(errors="replace"))
        return said

    def _failed(self, number: int, chatter: str) -> FunctionRefused:
        cpu, memory = self._settings.compile_cpu, self._settings.compile_memory / 1024**3
        if number == signal.SIGXCPU:
            message = f"compiling it took more than its {cpu} s of CPU time (functions.compile_cpu)"
            return FunctionRefused(message, code="compile_too_expensive")
        if number == signal.SIGKILL or "memory allocation" in chatter:  # by a kernel short of memory, or by itself
            message = f"compiling it took more than its {memory:g} GiB of memory (functions.compile_memory)"
            return FunctionRefused(message, code="compile_too_expensive")
        log.error("the compiler ended with status %d: %s", -number, chatter[-2000:])
        return FunctionRefused(f"the compiler failed on it (status {-number})", code="compile_failed")


def _said(report: bytes) -> Report | None:
    """What a child reported, if it came to that."""
    try:
        said: Report = msgspec.json.decode(report, type=Report)
    except msgspec.DecodeError:
        return None
    return said


def _recipe() -> str:
    """Changes with all of ours that goes into compiled code: adapter, driver, script engine, how they are joined."""
    folder = Path(__file__).parent
    files = [*folder.rglob("*.wasm"), *folder.rglob("*.js"), folder / "compose.py", folder / "snapshot.py"]
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(files):
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()
