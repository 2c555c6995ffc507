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
from edgecache.wasm.vault import Artefact, copied, digest_of
from edgecache.wasm.worker import Setup
from tests.wasm.conftest import core, request

pytestmark = pytest.mark.slow
CALLS = """(import "edgecache" "call" (func $call (param i32 i32 i32 i32) (result i64)))
  (data (i32.const 0) "var.get") (data (i32.const 100) "200\\n\\n")"""
ECHO = """(drop (call $call (i32.const 0) (i32.const 7) (local.get 0) (i32.const 4)))
  (call $answer (i32.const 100) (i32.const 5))"""


class Worker:
    """A worker process and this end of its one channel."""

    def __init__(self) -> None:
        self.control, control = socket.socketpair()
        near, far = socket.socketpair()
        setup = Setup(control.fileno(), (far.fileno(),), os.getpid(), 16 << 20, 0.001)
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

    def load(self, artefact: Artefact, code: int | None = None) -> FromWorker | None:
        """Have `artefact` loaded as 7, from the descriptor `code` if one is given."""
        code = copied(artefact) if code is None else code
        self.channel.send(Load(7, artefact))
        self.channel.hand(code)
        os.close(code)
        return self.channel.receive(left=lambda: 30)

    def close(self) -> None:
        self.channel.close()
        self.control.close()
        child.kill(self.process)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


@pytest.fixture
def artefact(engine: Engine, tmp_path: Path) -> Artefact:
    code = engine.compile_module(bytes(wat2wasm(core(ECHO, before=CALLS))))
    path = tmp_path / "f.cwasm"
    path.write_bytes(code)
    return Artefact("0" * 64, Kind.CORE, path, {}, Facts(0), 0.0, len(code), digest_of(code))


def test_it_loads_runs_and_unloads(worker: Worker, artefact: Artefact) -> None:
    assert worker.load(artefact) == Fine()
    run = Run.of(7, request(), Limits(), hosted=True)
    assert worker.ask(run) == HostCall("var.get", b"POST")
    done = worker.ask(Answer(b"=" + pack(b"value")))
    assert isinstance(done, Done)
    assert (done.status, done.usage.host_calls) == (200, 1)
    assert worker.ask(Unload(7)) == Fine()


def test_what_a_function_does_wrong_is_told(worker: Worker, artefact: Artefact) -> None:
    worker.load(artefact)
    worker.ask(Run.of(7, request(), Limits(), hosted=True))
    failed = worker.ask(Failed(Fault.BUDGET, "no more calls"))
    assert failed == Failed(Fault.BUDGET, "no more calls")
    assert isinstance(worker.ask(Run.of(7, request(), Limits(), hosted=False)), Done)


def test_it_runs_what_it_is_handed_and_can_open_no_code_itself(worker: Worker, artefact: Artefact) -> None:
    on_disk = os.open(artefact.code, os.O_RDONLY)
    failed = worker.load(artefact, on_disk)  # to map it, it would have to open the file
    assert isinstance(failed, Failed)
    assert failed.fault is Fault.LOAD
    in_memory = copied(artefact)
    artefact.code.unlink()
    assert worker.load(artefact, in_memory) == Fine()
    assert isinstance(worker.ask(Run.of(7, request(), Limits(), hosted=False)), Done)


def test_it_ends_when_the_daemon_does(worker: Worker) -> None:
    worker.control.close()
    assert worker.process.wait(30) == 0


def test_it_ends_even_while_a_function_runs(worker: Worker, engine: Engine, artefact: Artefact) -> None:
    code = engine.compile_module(bytes(wat2wasm(core("(loop $on (br $on)) unreachable"))))
    artefact.code.write_bytes(code)
    worker.load(msgspec.structs.replace(artefact, sealed=digest_of(code)))
    worker.channel.send(Run.of(7, request(), Limits(cpu=60, wall=60), hosted=False))
    worker.control.close()
    assert worker.process.wait(30) == 0


def test_a_bug_in_it_ends_it(worker: Worker) -> None:
    worker.channel.send(Run.of(99, request(), Limits(), hosted=False))  # never loaded
    assert worker.process.wait(30) == 70


def test_it_is_confined(worker: Worker) -> None:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
