import pytest

from edgecache.errors import Fault, FunctionFault, FunctionRefused
from edgecache.functions.smoke import smoke
from edgecache.wasm.base import Host, Kind, Limits, NoHost, Request, Response
from edgecache.wasm.core import CoreProgram


class Scripted:
    """A program that ends as it is told, and remembers what it was asked."""

    kind = Kind.CORE

    def __init__(self, fault: Fault | None, status: int = 200) -> None:
        self.fault, self.status = fault, status
        self.asked: list[tuple[Request, Limits, Host | None]] = []

    def run(self, request: Request, limits: Limits, host: Host | None = None) -> Response:
        self.asked.append((request, limits, host))
        if self.fault is not None:
            raise FunctionFault(self.fault, "as told")
        return Response(self.status, (), b"")

    def close(self) -> None: ...


def test_the_trial_is_an_empty_request_in_a_phase_of_its_own_with_a_host_that_refuses() -> None:
    program, limits = Scripted(None), Limits(cpu=0.01)
    assert smoke(program, limits, 5.0) == ""
    ((request, given, host),) = program.asked
    assert (request.method, request.target, request.body) == ("GET", "/", b"")
    assert (request.headers, request.now) == ((("x-edgecache-phase", "smoke"),), 5_000_000_000)
    assert given is limits
    assert isinstance(host, NoHost)


@pytest.mark.parametrize("status", [200, 204, 404, 500])
def test_any_answer_will_do(status: int) -> None:
    assert smoke(Scripted(None, status), Limits(), 0.0) == ""


@pytest.mark.parametrize("fault", [Fault.LOAD, Fault.CRASH])
def test_what_cannot_be_run_is_refused(fault: Fault) -> None:
    with pytest.raises(FunctionRefused, match="it cannot be run: as told") as caught:
        smoke(Scripted(fault), Limits(), 0.0)
    assert caught.value.code == f"function_{fault}"


@pytest.mark.parametrize("fault", [Fault.CPU, Fault.WALL, Fault.MEMORY, Fault.STACK, Fault.SIZE])
def test_a_limit_that_is_reached_is_a_warning(fault: Fault) -> None:
    warning = smoke(Scripted(fault), Limits(), 0.0)
    assert warning == f"an empty GET request to it ended in a fault: {fault}: as told"


@pytest.mark.parametrize("fault", [Fault.TRAP, Fault.ANSWER, Fault.BUDGET, Fault.POOL])
def test_what_may_be_due_to_an_empty_request_is_not_told(fault: Fault) -> None:
    assert smoke(Scripted(fault), Limits(), 0.0) == ""


def test_a_start_that_never_ends_is_stopped(wasm_engine, guest, tmp_path) -> None:
    endless = guest(imports="(func $begin (loop $l (br $l))) (start $begin)")
    path = tmp_path / "f.cwasm"
    path.write_bytes(wasm_engine.compile_module(endless))
    program = CoreProgram(wasm_engine, path)
    assert "ended in a fault: cpu:" in smoke(program, Limits(cpu=0.01), 0.0)
    program.close()
