import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from wasmtime import wat2wasm

from edgecache.clock import Clock, ManualClock, SystemClock
from edgecache.config.tree import Functions
from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Kind, Limits, pack
from edgecache.wasm.engine import Engine
from edgecache.wasm.facts import Facts
from edgecache.wasm.load import load
from edgecache.wasm.remote import RemoteProgram, Workers
from edgecache.wasm.vault import Artefact, digest_of
from tests.wasm.conftest import Scripted, core, request

pytestmark = pytest.mark.slow
CHILD = Path(__file__).parent / "child_workers.py"
SETTINGS = Functions(threads=4, max_memory=16 * 1024 * 1024)
LIMITS = Limits(cpu=0.5, wall=5.0, memory=8 * 1024 * 1024)
HELLO = '(data (i32.const 0) "200\\nx-a: b\\n\\nhello")'
CALLS = """(import "edgecache" "call" (func $call (param i32 i32 i32 i32) (result i64)))
  (data (i32.const 0) "kv.get") (data (i32.const 100) "200\\n\\n")"""

Make = Callable[..., Artefact]


@pytest.fixture
def make(engine: Engine, tmp_path: Path) -> Make:
    def made(handle: str = "(call $answer (i32.const 0) (i32.const 17))", *, before: str = HELLO, **more) -> Artefact:
        code = engine.compile_module(bytes(wat2wasm(core(handle, before=before, **more))))
        path = tmp_path / f"{digest_of(code)}.cwasm"
        path.write_bytes(code)
        return Artefact("0" * 64, Kind.CORE, path, {}, Facts(0), 0.0, len(code), digest_of(code))

    return made


@pytest.fixture
def start() -> Iterator[Callable[..., Workers]]:
    running: list[Workers] = []

    def started(clock: Clock | None = None, **settings: object) -> Workers:
        changed = msgspec.structs.replace(SETTINGS, **settings)
        running.append(Workers(changed, clock or SystemClock()))
        return running[-1]

    yield started
    for each in running:
        each.close()


@pytest.fixture
def workers(start: Callable[..., Workers]) -> Workers:
    return start()


def fault_of(program: RemoteProgram, limits: Limits = LIMITS, host=None) -> FunctionFault:
    with pytest.raises(FunctionFault) as raised:
        program.run(request(), limits, host)
    return raised.value


def crash(workers: Workers, group: str = "acme") -> None:
    """Kill a worker from outside, and see it gone."""
    pid = workers.processes[group]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_it_answers_as_it_would_in_the_daemon(workers: Workers, make: Make, engine: Engine) -> None:
    artefact = make()
    far, near = workers.load(artefact, "acme"), load(engine, artefact)
    there, here = far.run(request(b"body"), LIMITS), near.run(request(b"body"), LIMITS)
    assert (there.status, there.headers, there.body) == (here.status, here.headers, here.body)
    assert there.usage.memory == here.usage.memory
    assert far.kind is Kind.CORE
    near.close()


def test_host_calls_come_back_to_the_daemon(workers: Workers, make: Make) -> None:
    handle = """(drop (call $call (i32.const 0) (i32.const 6) (local.get 0) (i32.const 4)))
      (call $answer (i32.const 100) (i32.const 5))"""
    host = Scripted(lambda _op, _argument: b"=" + pack(b"v"))
    response = workers.load(make(handle, before=CALLS), "acme").run(request(), LIMITS, host)
    assert host.asked == [("kv.get", b"POST")]
    assert response.usage.host_calls == 1


def test_a_host_that_ends_the_call_ends_it(workers: Workers, make: Make) -> None:
    handle = """(drop (call $call (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0))) unreachable"""

    def spent(op: str, argument: bytes) -> bytes:
        raise FunctionFault(Fault.BUDGET, "101 host calls, 1 more than it may make")

    fault = fault_of(workers.load(make(handle, before=CALLS), "acme"), host=Scripted(spent))
    assert (fault.fault, fault.message) == (Fault.BUDGET, "101 host calls, 1 more than it may make")
    assert workers.processes  # that was no reason to end the worker


def test_a_host_that_breaks_does_not_break_the_next_call(workers: Workers, make: Make) -> None:
    handle = """(drop (call $call (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0)))
      (call $answer (i32.const 100) (i32.const 5))"""
    program = workers.load(make(handle, before=CALLS), "acme")
    with pytest.raises(KeyError):
        program.run(request(), LIMITS, Scripted(lambda op, _: {}[op]))
    assert program.run(request(), LIMITS, Scripted()).status == 200


@pytest.mark.parametrize(
    ("handle", "fault"),
    [
        pytest.param("unreachable", Fault.TRAP, id="a trap"),
        pytest.param("(loop $on (br $on)) unreachable", Fault.CPU, id="an endless loop"),
        pytest.param("(i64.load (i32.const -8))", Fault.TRAP, id="out of bounds"),
        pytest.param("(i64.const 0x7fffffff)", Fault.ANSWER, id="an answer that is not there"),
    ],
)
def test_what_a_function_does_wrong_ends_its_call_only(workers: Workers, make: Make, handle: str, fault: Fault) -> None:
    program, other = workers.load(make(handle), "acme"), workers.load(make(), "acme")
    pid = workers.processes["acme"]
    assert fault_of(program).fault in {fault, Fault.SIZE}
    assert other.run(request(), LIMITS).body == b"hello"
    assert workers.processes == {"acme": pid}


def test_a_killed_worker_fails_its_calls_and_the_next_has_another(workers: Workers, make: Make) -> None:
    program = workers.load(make("(loop $on (br $on)) unreachable"), "acme")
    other = workers.load(make(), "acme")
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(fault_of, program, Limits(cpu=60, wall=60)) for _ in range(3)]
        while workers._groups["acme"].running._idle.qsize() > 1:
            pass
        pid = workers.processes["acme"]
        os.kill(pid, signal.SIGSEGV)
        faults = [call.result() for call in calls]
    assert {fault.fault for fault in faults} == {Fault.CRASH}
    assert other.run(request(), LIMITS).body == b"hello"
    assert workers.processes["acme"] != pid


def test_a_worker_that_was_killed_between_two_calls_is_not_noticed(workers: Workers, make: Make) -> None:
    program = workers.load(make(), "acme")
    crash(workers)
    assert program.run(request(), LIMITS).body == b"hello"


def test_one_that_keeps_ending_is_started_later_and_later(start, make: Make) -> None:
    clock = ManualClock()
    workers = start(clock)
    program = workers.load(make(), "acme")
    crash(workers)
    program._group.worker()  # a new one at once; nothing went well in it
    crash(workers)
    fault = fault_of(program)
    assert fault.fault is Fault.CRASH
    assert fault.message == "its worker process ended 2 times in a row; the next starts in 0.2 s"
    clock.advance(0.21)
    program._group.worker()
    crash(workers)
    assert "3 times in a row; the next starts in 0.4 s" in fault_of(program).message
    clock.advance(0.41)
    assert program.run(request(), LIMITS).status == 200
    crash(workers)
    assert program.run(request(), LIMITS).status == 200  # one call that went well, and all is forgiven


def test_a_worker_that_does_not_answer_is_ended(workers: Workers, make: Make) -> None:
    program = workers.load(make(), "acme")
    pid = workers.processes["acme"]
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    begun = time.perf_counter()
    fault = fault_of(program, Limits(wall=0.2))
    assert fault.fault is Fault.WALL
    assert 1.1 < time.perf_counter() - begun < 5
    assert program.run(request(), LIMITS).status == 200
    assert workers.processes["acme"] != pid


def test_calls_run_side_by_side(workers: Workers, make: Make) -> None:
    handle = """(drop (call $call (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 0)))
      (call $answer (i32.const 100) (i32.const 5))"""
    program = workers.load(make(handle, before=CALLS), "acme")
    all_in = threading.Barrier(4, timeout=10)

    def meet(op: str, argument: bytes) -> bytes:
        all_in.wait()
        return b"="

    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(program.run, request(), LIMITS, Scripted(meet)) for _ in range(4)]
        assert [call.result().status for call in calls] == [200] * 4


def test_more_calls_than_threads_wait_or_are_told(start, make: Make) -> None:
    workers = start(threads=1)
    program = workers.load(make("(loop $on (br $on)) unreachable"), "acme")
    with ThreadPoolExecutor(2) as threads:
        long = threads.submit(fault_of, program, Limits(cpu=1.0, wall=10.0))
        while not workers._groups["acme"].running._idle.empty():
            pass
        short = fault_of(program, Limits(cpu=0.05, wall=0.1))
        assert (short.fault, long.result().fault) == (Fault.POOL, Fault.CPU)


def test_groups_do_not_share_a_worker(workers: Workers, make: Make) -> None:
    first, second = workers.load(make(), "acme"), workers.load(make(), "other")
    assert len(set(workers.processes.values())) == 2
    crash(workers, "acme")
    assert set(workers.processes) == {"other"}
    assert second.run(request(), LIMITS).status == first.run(request(), LIMITS).status == 200


def test_a_worker_ends_with_its_last_function(workers: Workers, make: Make) -> None:
    first, second = workers.load(make(), "acme"), workers.load(make(), "acme")
    first.close()
    assert second.run(request(), LIMITS).status == 200
    second.close()
    assert workers.processes == {}


def test_a_worker_ends_with_the_function_that_could_not_be_loaded(workers: Workers, make: Make) -> None:
    artefact = make()
    artefact.code.write_bytes(b"evil")
    with pytest.raises(FunctionFault):
        workers.load(artefact, "acme")
    assert workers.processes == {}


class Between:
    """A lock that does something once, right after it was let go for the first time."""

    def __init__(self, lock: threading.Lock, then: Callable[[], object]) -> None:
        self._lock = lock
        self._then = [then]

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self._then:
            self._then.pop()()


def test_a_function_that_comes_while_the_last_one_goes_keeps_its_worker(workers: Workers, make: Make) -> None:
    first, artefact, later = workers.load(make(), "acme"), make(), []
    group = workers._groups["acme"]
    group._lock = Between(group._lock, lambda: later.append(workers.load(artefact, "acme")))
    first.close()
    pid = workers.processes["acme"]
    assert later[0].run(request(), LIMITS).status == 200
    assert workers.processes["acme"] == pid


def test_closing_ends_all(start, make: Make) -> None:
    workers = start()
    workers.load(make(), "acme")
    pid = workers.processes["acme"]
    workers.close()
    assert not Path(f"/proc/{pid}").exists()


def test_code_that_was_altered_is_not_loaded(workers: Workers, make: Make) -> None:
    artefact = make()
    artefact.code.write_bytes(b"evil")
    with pytest.raises(FunctionFault, match="altered on disk"):
        workers.load(artefact, "acme")


def test_a_worker_that_cannot_start(start, make: Make) -> None:
    with pytest.raises(FunctionFault, match="no worker process could be started") as raised:
        start(max_memory=1 << 62).load(make(), "acme")
    assert raised.value.fault is Fault.CRASH


def test_workers_die_with_the_daemon(make: Make) -> None:
    artefact = msgspec.json.encode(make(), enc_hook=str).decode()
    command = [sys.executable, str(CHILD), artefact]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout
        worker = int(daemon.stdout.readline())
        watched = os.pidfd_open(worker)
        daemon.kill()
    with os.fdopen(watched):
        assert select.select([watched], [], [], 30)[0]  # readable when the process has ended
