import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from wasmtime import wat2wasm

from edgecache.errors import Fault
from edgecache.wasm import child
from edgecache.wasm.base import Kind, Limits, pack
from edgecache.wasm.engine import Engine
from edgecache.wasm.facts import Facts
from edgecache.wasm.frames import Answer, Channel, Done, Failed, Fine, FromWorker, HostCall, Load, Run, Unload
from edgecache.wasm.vault import Artefact, digest_of
from edgecache.wasm.worker import Setup
from tests.wasm.conftest import core, request

pytestmark = pytest.mark.slow
CALLS = """(import "edgecache" "call" (func $call (param i32 i32 i32 i32) (result i64)))
  (data (i32.const 0) "var.get") (data (i32.const 100) "200\\n\\n")"""
ECHO = """(drop (call $call (i32.const 0) (i32.const 7) (local.get 0) (i32.const 4)))
  (call $answer (i32.const 100) (i32.const 5))"""


class Worker:
    """A worker process and this end of its one channel."""

    def __init__(self, code: Path) -> None:
        self.control, control = socket.socketpair()
        near, far = socket.socketpair()
        setup = Setup(control.fileno(), (far.fileno(),), os.getpid(), str(code), 16 << 20, 0.001)
        described = msgspec.json.encode(setup).decode()
        keep = [control.fileno(), far.fileno()]
        self.process = child.start("edgecache.wasm.worker", [described], keep=keep, stderr=subprocess.DEVNULL)
        control.close()
        far.close()
        self.channel: Channel[FromWorker] = Channel(near, FromWorker)
        assert self.control.recv(1) == b"!"

    def ask(self, message) -> FromWorker | None:
        self.channel.send(message)
        return self.channel.receive(left=lambda: 30)

    def close(self) -> None:
        self.channel.close()
        self.control.close()
        child.kill(self.process)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.close()


@pytest.fixture
def artefact(engine: Engine, tmp_path: Path) -> Artefact:
    code = engine.compile_module(bytes(wat2wasm(core(ECHO, before=CALLS))))
    path = tmp_path / "f.cwasm"
    path.write_bytes(code)
    return Artefact("0" * 64, Kind.CORE, path, {}, Facts(0), 0.0, len(code), digest_of(code))


def test_it_loads_runs_and_unloads(worker: Worker, artefact: Artefact) -> None:
    assert worker.ask(Load(7, artefact)) == Fine()
    run = Run.of(7, request(), Limits(), hosted=True)
    assert worker.ask(run) == HostCall("var.get", b"POST")
    done = worker.ask(Answer(b"=" + pack(b"value")))
    assert isinstance(done, Done)
    assert (done.status, done.usage.host_calls) == (200, 1)
    assert worker.ask(Unload(7)) == Fine()


def test_what_a_function_does_wrong_is_told(worker: Worker, artefact: Artefact) -> None:
    worker.ask(Load(7, artefact))
    worker.ask(Run.of(7, request(), Limits(), hosted=True))
    failed = worker.ask(Failed(Fault.BUDGET, "no more calls"))
    assert failed == Failed(Fault.BUDGET, "no more calls")
    assert isinstance(worker.ask(Run.of(7, request(), Limits(), hosted=False)), Done)


def test_code_that_was_altered_is_not_loaded(worker: Worker, artefact: Artefact) -> None:
    artefact.code.write_bytes(b"evil")
    failed = worker.ask(Load(7, artefact))
    assert isinstance(failed, Failed)
    assert failed.fault is Fault.LOAD


def test_it_ends_when_the_daemon_does(worker: Worker) -> None:
    worker.control.close()
    assert worker.process.wait(30) == 0


def test_it_ends_even_while_a_function_runs(worker: Worker, engine: Engine, artefact: Artefact) -> None:
    code = engine.compile_module(bytes(wat2wasm(core("(loop $on (br $on)) unreachable"))))
    artefact.code.write_bytes(code)
    worker.ask(Load(7, msgspec.structs.replace(artefact, sealed=digest_of(code))))
    worker.channel.send(Run.of(7, request(), Limits(cpu=60, wall=60), hosted=False))
    worker.control.close()
    assert worker.process.wait(30) == 0


def test_a_bug_in_it_ends_it(worker: Worker) -> None:
    worker.channel.send(Run.of(99, request(), Limits(), hosted=False))  # never loaded
    assert worker.process.wait(30) == 70


def test_it_can_read_nothing_but_its_code(worker: Worker) -> None:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
