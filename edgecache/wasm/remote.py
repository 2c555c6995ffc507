"""Functions that run in worker processes: a trap, a crash or a bug of the engine there never takes the daemon along.

One worker a trust group (a tenant, say), started when its first function is loaded and again after it ended. A worker
that does not answer in time is killed. Whatever was running in a worker that ends fails with `crash`; the next call has
a new one, at once after the first crash, later and later if it keeps crashing.
"""

import contextlib
import itertools
import logging
import os
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from edgecache.clock import Clock
from edgecache.config.tree import Functions
from edgecache.errors import Fault, FunctionFault
from edgecache.wasm import child
from edgecache.wasm.base import Host, Kind, Limits, Request, Response
from edgecache.wasm.frames import (
    Answer,
    Channel,
    Done,
    Failed,
    Fine,
    FromWorker,
    HostCall,
    Load,
    Run,
    Unload,
)
from edgecache.wasm.vault import Artefact, copied
from edgecache.wasm.worker import Setup

log = logging.getLogger(__name__)

_START = 30.0
"""s that a new worker may take until it is ready, and code until it is loaded."""
_CHATTER = 64 * 1024
"""Bytes of what a worker writes to standard error that are kept."""
_GRACE = 1.0
"""s beyond a call's wall limit after which its worker is taken for stuck."""
_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
"""s before the next worker after the second crash in a row, doubled with each more; and at most."""


class Workers:
    """The worker processes of one POP, by trust group. Thread-safe; everything here blocks."""

    def __init__(self, settings: Functions, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._groups: dict[str, _Group] = {}
        # Workers die with the thread that started them: this one lives as long as the daemon.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="wasm-workers")

    def load(self, artefact: Artefact, group: str) -> "RemoteProgram":
        """The function as a program that runs in the worker of `group`; raises FunctionFault."""
        with self._lock:
            found = self._groups.setdefault(group, _Group(group, self._start, self._clock))
        program = RemoteProgram(artefact, found)
        try:
            program.prepare()
        except BaseException:
            program.close()
            raise
        return program

    @property
    def processes(self) -> dict[str, int]:
        """The process ids of the workers that run, by group."""
        with self._lock:
            groups = dict(self._groups)
        return {name: worker.process.pid for name, group in groups.items() if (worker := group.running)}

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            groups, self._groups = list(self._groups.values()), {}
        for group in groups:
            group.stop()
        self._starter.shutdown()

    def _start(self) -> "_Worker":
        return self._starter.submit(_Worker, self._settings).result()


class _Group:
    """The functions that share a worker, and the worker they have now."""

    def __init__(self, name: str, start: "Callable[[], _Worker]", clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self._start = start
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._crashes = 0
        self._not_before = 0.0
        self._keys: set[int] = set()

    @property
    def running(self) -> "_Worker | None":
        worker = self._worker
        return worker if worker is not None and worker.running else None

    def join(self, key: int) -> None:
        with self._lock:
            self._keys.add(key)

    def leave(self, key: int) -> None:
        """Give `key`'s code back; the worker ends with the last of its functions."""
        with self._lock:
            self._keys.discard(key)
            worker, last = self._worker, not self._keys
            if last:
                self._worker = None  # whoever joins from now on starts another
        if worker is not None and last:
            worker.kill()
        elif worker is not None and worker.running:
            worker.unload(key)

    def worker(self) -> "_Worker":
        """The worker, started if there is none; raises FunctionFault (`crash`) while it is too early for that."""
        if (running := self.running) is not None:
            return running
        with self._lock:
            if (running := self.running) is not None:
                return running
            self._wait_for_turn()
            try:
                self._worker = self._start()
            except OSError as error:
                self._worker = None
                self._count_crash()
                raise FunctionFault(Fault.CRASH, f"no worker process could be started: {error}") from error
            return self._worker

    def _wait_for_turn(self) -> None:
        if self._worker is not None:
            self._worker.kill()  # it ended by itself: collect it
            self._worker = None
            self._count_crash()
        left = self._not_before - self.clock.monotonic()
        if left > 0:
            raise FunctionFault(
                Fault.CRASH, f"its worker process ended {self._crashes} times in a row; the next starts in {left:.1f} s"
            )

    def _count_crash(self) -> None:
        self._crashes += 1
        log.warning("a worker process of %s ended, %d in a row", self.name, self._crashes)
        if self._crashes > 1:
            pause = min(_LONGEST_PAUSE, _PAUSE * 2 ** (self._crashes - 2))
            self._not_before = self.clock.monotonic() + pause

    def went_well(self) -> None:
        self._crashes = 0

    def stop(self) -> None:
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()


class _Worker:
    """One process and the channels to it."""

    def __init__(self, settings: Functions) -> None:
        control, theirs = socket.socketpair()
        pairs = [socket.socketpair() for _ in range(settings.threads)]
        far = [theirs, *(pair[1] for pair in pairs)]
        setup = Setup(
            control=theirs.fileno(),
            channels=tuple(pair[1].fileno() for pair in pairs),
            parent=os.getpid(),
            memory=settings.max_memory,
            tick=settings.tick,
        )
        self._control = control
        self._channels: list[Channel[FromWorker]] = [Channel(pair[0], FromWorker) for pair in pairs]
        self._idle: queue.LifoQueue[Channel[FromWorker]] = queue.LifoQueue()
        for channel in self._channels:
            self._idle.put(channel)
        self._lock = threading.Lock()
        self._loaded: set[int] = set()
        self._chatter = child.room(_CHATTER)
        self._alive = True
        try:
            self.process = self._start(setup, [each.fileno() for each in far])
        finally:
            for each in far:
                each.close()
        self._await_ready()

    def _start(self, setup: Setup, descriptors: list[int]) -> subprocess.Popen[bytes]:
        described = msgspec.json.encode(setup).decode()
        return child.start("edgecache.wasm.worker", [described], keep=descriptors, stderr=self._chatter)

    def _await_ready(self) -> None:
        self._control.settimeout(_START)
        try:
            ready = self._control.recv(1)
        except OSError:
            ready = b""
        if not ready:
            self.kill()
            raise OSError(f"it ended at its start ({self.ending})")

    @property
    def running(self) -> bool:
        """False once it ended, by itself or by `kill`."""
        return self._alive and self.process.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        status = self.process.poll()
        if status is None:
            return "still running"
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"

    def kill(self) -> None:
        """End it; whatever waits for one of its channels learns at once."""
        with self._lock:
            was_alive, self._alive = self._alive, False
            child.kill(self.process)
            if was_alive:
                self._control.close()
                self._report()
        for channel in self._channels:
            channel.close()

    def _report(self) -> None:
        if said := child.written(self._chatter):
            log.error("a worker process ended (%s): %s", self.ending, said[-2000:].decode(errors="replace"))
        os.close(self._chatter)

    @contextlib.contextmanager
    def channel(self, wait: float) -> Iterator[Channel[FromWorker]]:
        """A channel of one's own, within `wait` s; if what is done with it ends badly, so does the worker."""
        try:
            channel = self._idle.get(timeout=wait)
        except queue.Empty:
            busy = f"all {len(self._channels)} threads of its worker were busy for {wait:g} s"
            raise FunctionFault(Fault.POOL, busy) from None
        try:
            yield channel
        except FunctionFault:
            raise
        except BaseException:
            self.kill()
            raise
        finally:
            self._idle.put(channel)

    def ensure(self, channel: Channel[FromWorker], key: int, artefact: Artefact, left: Callable[[], float]) -> None:
        """Load `artefact` as `key` unless that was done; raises FunctionFault."""
        with self._lock:
            known = key in self._loaded
        if not known:
            code = copied(artefact)
            try:
                channel.send(Load(key, artefact), wait=left())
                channel.hand(code, wait=left())
            finally:
                os.close(code)
            match channel.receive(left=left):
                case Fine():
                    with self._lock:
                        self._loaded.add(key)
                case Failed(fault, message):
                    raise FunctionFault(fault, message)
                case None:
                    raise ConnectionResetError
                case _:
                    raise ValueError("an answer to another question")

    def unload(self, key: int) -> None:
        """Give code back; a worker that cannot even do that is ended."""
        with self._lock:
            known = key in self._loaded
            self._loaded.discard(key)
        if known:
            with contextlib.suppress(FunctionFault), _trouble(self), self.channel(_START) as channel:
                channel.send(Unload(key), wait=_START)
                channel.receive(left=lambda: _START)


@contextlib.contextmanager
def _trouble(worker: _Worker) -> Iterator[None]:
    """Turn what goes wrong on a channel into FunctionFault; the worker is ended by then."""
    try:
        yield
    except TimeoutError:
        raise FunctionFault(Fault.WALL, "its worker process gave no answer in time and was ended") from None
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        said = f": {error}" if isinstance(error, ValueError) else ""
        raise FunctionFault(Fault.CRASH, f"its worker process ended ({worker.ending}){said}") from error


class RemoteProgram:
    """A function in a worker process, as a `base.Program`."""

    _numbers = itertools.count(1)

    def __init__(self, artefact: Artefact, group: _Group) -> None:
        self.kind: Kind = artefact.kind
        self._artefact = artefact
        self._group = group
        self._key = next(self._numbers)
        group.join(self._key)

    def prepare(self) -> None:
        """Have it loaded before the first call; raises FunctionFault."""
        worker = self._group.worker()
        with _trouble(worker), worker.channel(_START) as channel:
            worker.ensure(channel, self._key, self._artefact, lambda: _START)

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        """Call it in its worker, which makes a fresh sandbox for it. Raises FunctionFault."""
        worker = self._group.worker()
        with _trouble(worker), worker.channel(limits.wall) as channel:
            talk = _Talk(channel, self._group.clock, limits, host)
            worker.ensure(channel, self._key, self._artefact, lambda: _START)
            response = talk.run(Run.of(self._key, request, limits, hosted=host is not None))
        self._group.went_well()
        return response

    def close(self) -> None:
        """Give its code back; its worker ends with the last program."""
        self._group.leave(self._key)


class _Talk:
    """One call over a channel, from Run to Done."""

    def __init__(self, channel: Channel[FromWorker], clock: Clock, limits: Limits, host: Host | None) -> None:
        self._channel = channel
        self._clock = clock
        self._limits = limits
        self._host = host
        self._deadline = 0.0
        self._spent: FunctionFault | None = None

    def run(self, message: Run) -> Response:
        """Raises FunctionFault for what the function did, and OSError, ValueError for what the worker did."""
        self._deadline = self._clock.monotonic() + self._limits.wall + _GRACE
        self._channel.send(message, wait=self._left())
        while True:
            match self._channel.receive(body=self._limits.response, left=self._left):
                case HostCall(op, argument):
                    self._answer(op, argument)
                case Done() as done:
                    return done.response(self._limits)
                case Failed(fault, message_):
                    raise self._spent or FunctionFault(fault, message_)
                case None:
                    raise ConnectionResetError
                case _:
                    raise ValueError("an answer to another question")

    def _left(self) -> float:
        return self._deadline - self._clock.monotonic()

    def _answer(self, op: str, argument: bytes) -> None:
        if self._host is None:
            raise ValueError("a host call without a host")
        if self._left() <= 0:
            raise TimeoutError
        try:
            answer: Answer | Failed = Answer(self._host.call(op, argument))
        except FunctionFault as fault:
            self._spent = fault
            answer = Failed(fault.fault, fault.message)
        # The answer may have come late by the host's fault: the worker gets its time to say so.
        self._deadline = max(self._deadline, self._clock.monotonic() + _GRACE)
        self._channel.send(answer, wait=self._left())
