import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecache.wasm import child

LIMITED = """
import sys
from edgecache.wasm import child
child.limit(memory={memory}, cpu={cpu}, file=1000, descriptors=20)
{code}
"""


def limited(code: str, memory: int = 1 << 30, cpu: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED.format(memory=memory, cpu=cpu, code=code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
def test_a_child_has_nothing_of_its_parent_but_what_it_is_given() -> None:
    read, write = os.pipe()
    secret = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(secret, True)
    process = child.start("tests.wasm.child_facts", [str(write)], keep=[write])
    os.close(write)
    with os.fdopen(read) as answer:
        environment, descriptors, session, folder = answer.read().splitlines()
    os.close(secret)
    process.wait()
    assert environment in {"{}", "{'LC_CTYPE': 'C.UTF-8'}"}  # Python sets that itself
    assert sorted(map(int, descriptors.split())) == [0, 1, 2, write]
    assert session == str(process.pid)
    assert folder == "/"


def test_what_is_shown_to_a_child_and_what_it_may_write() -> None:
    shown, room = child.shown(b"upload"), child.room(10)
    assert os.read(shown, 100) == b"upload"
    os.write(room, b"123")
    assert child.written(room) == b"123"
    with pytest.raises(PermissionError):
        os.pwrite(room, b"x", 10)
    with pytest.raises(PermissionError):
        os.ftruncate(room, 0)
    for each in (shown, room):
        os.close(each)


@pytest.mark.slow
def test_a_child_is_killed_with_all_that_it_started() -> None:
    read, write = os.pipe()
    process = child.start("tests.wasm.child_forks", [str(write)], keep=[write])
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.readline() == "started\n"
        child.kill(process)
        assert answer.read() == ""  # ends only when nobody holds the pipe any more
    assert process.returncode == -signal.SIGKILL
    child.kill(process)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "ending"),
    [
        pytest.param("while True: pass", -signal.SIGXCPU, id="time"),
        pytest.param(
            "import os; file = os.memfd_create('f'); os.write(file, bytes(1000)); os.write(file, b'x')", 1, id="file"
        ),
        pytest.param("held = [open('/dev/null') for _ in range(30)]", 1, id="descriptors"),
        pytest.param("b'x' * (2 << 30)", 1, id="memory"),
    ],
)
def test_limits_hold(code: str, ending: int) -> None:
    done = limited(code)
    assert done.returncode == ending, done.stderr


@pytest.mark.slow
def test_no_core_is_left_behind() -> None:
    assert limited("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))").stdout == "(0, 0)\n"


@pytest.mark.slow
def test_a_child_of_somebody_else_ends_at_once() -> None:
    code = "child.dies_with_parent(1234567); print('alive')"
    done = limited(code)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.slow
def test_a_confined_child_reads_python_and_what_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("given")
    (tmp_path / "other").write_text("other")
    code = (
        f"from pathlib import Path; child.confine([Path({str(tmp_path / 'given')!r})]); import decimal, colorsys\n"
        f"print(open({str(tmp_path / 'given')!r}).read())\n"
        f"open({str(tmp_path / 'other')!r})"
    )
    done = limited(code)
    assert done.stdout == "given\n"
    assert "PermissionError" in done.stderr
