import subprocess
import sys

import pytest

from edgecache.wasm import seccomp

pytestmark = pytest.mark.skipif(not seccomp.supported(), reason="Linux on x86-64 only")
CONFINED = """
import ctypes, os, signal, socket, subprocess, sys, threading
from edgecache.wasm import prctl, seccomp
prctl.call(prctl.SET_NO_NEW_PRIVS, 1)
seccomp.confine()
{}
"""
FORBIDDEN = {
    "a socket": "socket.socket()",
    "a Unix socket": "socket.socket(socket.AF_UNIX)",
    "a pair of sockets": "socket.socketpair()",
    "a program": "os.execv('/bin/true', ['true'])",
    "a fork": "os.fork()",
    "a process": "subprocess.run(['/bin/true'])",
    "a file to write": "open('/tmp/edgecache-seccomp', 'w')",
    "a file to change": "os.open('/etc/hostname', os.O_RDWR)",
    "removing": "os.unlink('/tmp/edgecache-nothing')",
    "a folder": "os.mkdir('/tmp/edgecache-folder')",
    "another's signal": "os.kill(os.getppid(), 0)",
    "another's memory": "prctl.system_call(310, os.getppid(), 0, 0, 0, 0, 0)",
    "tracing": "prctl.system_call(101, 16, os.getppid(), 0, 0)",
    "other limits": "prctl.system_call(302, os.getppid(), 7, 0, 0)",
    "mounting": "prctl.system_call(165, 0, 0, 0, 0, 0)",
    "io_uring": "prctl.system_call(425, 8, 0)",
    "bpf": "prctl.system_call(321, 0, 0, 0)",
    "a user namespace": "prctl.system_call(272, 0x10000000)",
}


def confined(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CONFINED.format(code)], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", FORBIDDEN)
def test_is_refused(what: str) -> None:
    code = f"try: {FORBIDDEN[what]}\nexcept OSError as error: print('refused', error.errno)"
    assert confined(code).stdout == "refused 1\n"


@pytest.mark.slow
def test_what_a_sandbox_needs_goes_on() -> None:
    done = confined(
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "print(len(open('/etc/hostname').read()) > 0)\n"
        "import wasmtime; engine = wasmtime.Engine(); wasmtime.Module(engine, '(module (func))'); print('compiled')\n"
    )
    assert done.stdout.split() == ["thread", "True", "compiled"], done.stderr


@pytest.mark.slow
def test_an_abort_is_still_seen_as_one() -> None:
    assert confined("os.abort()").returncode == -6


@pytest.mark.slow
def test_the_same_calls_under_other_numbers_end_the_process() -> None:
    assert confined("prctl.system_call(0x40000000 + 39)").returncode == -31  # SIGSYS
