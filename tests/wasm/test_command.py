"""Commands of WASI preview 1, with a C program that was built for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgecache.errors import Fault, FunctionFault
from edgecache.wasm.base import Limits, Request, unpack
from edgecache.wasm.command import CommandProgram
from edgecache.wasm.hostcalls import answered
from tests.wasm.conftest import TICK, Scripted

FOLDER = Path(__file__).parent / "commands"
EVERY_BYTE = bytes(range(256))
LIMITS = Limits(cpu=0.5)


@pytest.fixture(scope="module")
def probe(engine, tmp_path_factory):
    code = tmp_path_factory.mktemp("probe") / "probe.cwasm"
    code.write_bytes(engine.compile_module((FOLDER / "probe.wasm").read_bytes()))
    made = CommandProgram(engine, code)
    yield made
    made.close()


def call(probe, target, body=b"", headers=(), host=None, limits=LIMITS, seed=bytes(32), **more):
    return probe.run(Request("POST", target, headers, body, 1_700_000_000 * 10**9, seed, **more), limits, host)


def fails(probe, target, **more):
    with pytest.raises(FunctionFault) as caught:
        call(probe, target, **more)
    return caught.value.fault, caught.value.message


def streaming(*parts):
    """A host that gives a body in parts, and takes one."""
    left = list(parts)
    return Scripted(lambda op, _argument: answered(*([left.pop(0)] if op == "body.read" and left else [])))


@pytest.mark.slow
def test_the_probe_is_what_its_source_gives(tmp_path):
    built = tmp_path / "probe.wasm"
    flags = ["-target", "wasm32-wasi", "-O2", "-s", "-Wl,--stack,65536"]
    command = [sys.executable, "-m", "ziglang", "cc", *flags, "-o", built, "probe.c"]
    subprocess.run(command, cwd=FOLDER, check=True, timeout=110)
    assert built.read_bytes() == (FOLDER / "probe.wasm").read_bytes()


def test_a_request_comes_in_as_variables(probe):
    answer = call(probe, "/env?a=b", headers=(("x-user", "Ada"), ("proxy", "http://evil")))
    assert (answer.status, answer.headers) == (200, (("content-type", "text/plain"),))
    lines = answer.body.decode().splitlines()
    assert {"REQUEST_METHOD=POST", "QUERY_STRING=a=b", "HTTP_X_USER=Ada", "GATEWAY_INTERFACE=CGI/1.1"} < set(lines)
    assert not any("PROXY" in line or "PATH=/usr" in line for line in lines)
    assert lines[-1] == "1 function"
    assert answer.usage.memory > 0


@pytest.mark.parametrize("body", [b"", b"hello", EVERY_BYTE * 1000])
def test_bodies_are_bytes_both_ways(probe, body):
    answer = call(probe, "/echo", body)
    assert (answer.status, answer.headers, answer.body) == (201, (("x-method", "POST"),), body)


def test_there_are_no_files(probe):
    assert call(probe, "/files").body.split() == [b"refused", b"59", b"refused", b"-1", b"-1"]


def test_nobody_waits_for_a_program_that_sleeps(probe):
    answer = call(probe, "/time")
    assert answer.body == b"1700000002 2\n"
    assert answer.usage.wall < 1.0


def test_randomness_is_the_requests(probe):
    first, again, other = (call(probe, "/random", seed=seed).body for seed in (bytes(32), bytes(32), b"x" * 32))
    assert first == again != other
    assert len(first) == 16


def test_a_failed_program_is_a_fault_with_its_last_words(probe):
    host = Scripted()
    assert fails(probe, "/exit", host=host) == (Fault.TRAP, "exited with 3: first line\nwhat went wrong")
    assert [unpack(argument) for _, argument in host.asked] == [[b"info", b"first line"], [b"info", b"what went wrong"]]


def test_a_program_that_answers_nothing_is_a_fault(probe):
    assert fails(probe, "/silent")[0] is Fault.ANSWER
    assert fails(probe, "/headless") == (
        Fault.ANSWER,
        "wrote no blank line after the headers of its response: 'just text'",
    )


def test_attacks_end_in_the_fault_that_they_are(probe):
    assert fails(probe, "/recurse", limits=Limits(memory=4 << 20))[0] in {Fault.TRAP, Fault.STACK}
    assert fails(probe, "/abort")[0] is Fault.TRAP
    assert fails(probe, "/wild")[0] is Fault.TRAP
    assert call(probe, "/none").status == 404


def test_an_endless_loop_is_stopped(probe):
    assert fails(probe, "/loop", limits=Limits(cpu=10 * TICK)) == (Fault.CPU, "took more than its 10 ms in the sandbox")


def test_an_endless_answer_is_cut_off(probe):
    fault, message = fails(probe, "/flood", limits=Limits(cpu=0.5, response=100_000))
    assert fault is Fault.SIZE
    assert "more than the 100000 that it may answer" in message


def test_many_small_writes_are_one_answer(probe):
    assert call(probe, "/small").body == b"x" * 1000


def test_a_flood_of_log_lines_is_cut_off(probe):
    host = Scripted()
    assert call(probe, "/noise", host=host).status == 200
    lines = [unpack(argument)[1] for _, argument in host.asked]
    assert 1000 < len(lines) < 2000
    assert lines[-1] == b"(more than 65536 bytes of log: the rest is left out)"


def test_a_program_may_ask_its_host(probe):
    host = Scripted(lambda op, argument: answered(b"hello", op.encode(), argument, EVERY_BYTE[:9]))
    expected = answered(b"hello", b"var.get", b"8:greeting,", EVERY_BYTE[:9])
    assert call(probe, "/host", host=host).body == expected


def test_the_host_is_closed_by_default(probe):
    assert call(probe, "/host").body.startswith(b"!denied\n")


def test_a_body_in_parts_goes_through_part_by_part(probe):
    host = streaming(b"data: one\n\n", b"data: two\n\n")
    answer = call(probe, "/upper", host=host, reads=True, writes=True)
    assert (answer.status, answer.body) == (200, b"")
    assert [(op, unpack(argument)) for op, argument in host.asked] == [
        ("body.head", [b"200", b"content-type", b"text/event-stream"]),
        ("body.read", []),
        ("body.write", [b"DATA: ONE\n\n"]),
        ("body.read", []),
        ("body.write", [b"DATA: TWO\n\n"]),
        ("body.read", []),
    ]


def test_a_body_in_parts_may_be_answered_whole(probe):
    parts = [b"1" * 10_000, b"", b"2" * 3]
    assert call(probe, "/echo", host=streaming(*parts), reads=True).body == b"".join(parts)


def test_a_large_streamed_answer_goes_out_in_bearable_parts(probe):
    host = Scripted()
    assert call(probe, "/echo", b"x" * 100_000, host=host, writes=True).body == b""
    written = [unpack(argument)[0] for op, argument in host.asked if op == "body.write"]
    assert b"".join(written) == b"x" * 100_000
    assert len(written) < 10
    assert fails(probe, "/silent", host=Scripted(), writes=True)[0] is Fault.ANSWER


def test_nothing_stays_behind(probe):
    assert call(probe, "/env", headers=(("x-secret", "s3cret"),)).body.count(b"s3cret") == 1
    assert b"s3cret" not in call(probe, "/env").body


def test_another_module_is_not_loaded(engine, compiled):
    with pytest.raises(FunctionFault) as caught:
        CommandProgram(engine, compiled('(module (import "env" "system" (func)) (memory (export "memory") 1))'))
    assert caught.value.fault is Fault.LOAD
