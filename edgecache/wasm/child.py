"""Processes of our own that touch what others uploaded: how they are started, and all that they give up first.

Used by `compiler` (one process an upload) and `remote` (worker processes). The parent starts them without environment,
without inherited descriptors and in a session of their own; they confine themselves before they read a hostile byte.
"""

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgecache.wasm import landlock, prctl, seccomp

_ROOT = str(Path(__file__).resolve().parents[2])
_START = (
    "import sys, json; sys.path[:0] = json.loads(sys.argv[1]); "
    "from importlib import import_module; import_module(sys.argv[2]).main(sys.argv[3:])"
)
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/proc/self", "/sys/fs/cgroup", "/dev/null")
"""What Python and the engine read beside their own folders; the control group says how many cores there are."""


_RESERVED = 8 * 1024**3
"""Address space beside the memory: a sandbox reserves 4 GiB for a linear memory and does not use it."""


def start(
    module: str, arguments: Sequence[str], *, keep: Iterable[int], stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Run `main(arguments)` of `module` in a new Python; the descriptors `keep` stay open in it. Raises OSError."""
    paths = json.dumps([_ROOT, *(path for path in sys.path if path)])
    command = [sys.executable, "-I", "-c", _START, paths, module, *arguments]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        env={},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=tuple(keep),
        start_new_session=True,
    )


def shown(content: bytes) -> int:
    """A descriptor from which a child can read `content`; to be closed."""
    descriptor = os.memfd_create("edgecache", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def room(size: int) -> int:
    """A descriptor to which a child can write `size` bytes, and not one more; to be closed."""
    descriptor = os.memfd_create("edgecache", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor


def written(descriptor: int) -> bytes:
    """What was written to a `room`."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).rstrip(b"\0")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started, and wait until it is gone."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
    process.wait()


def limit(*, memory: int | None = None, cpu: int | None = None, file: int = 0, descriptors: int = 64) -> None:
    """Bound what this process may take: bytes of memory, s of CPU, bytes of one file, open descriptors."""
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: file,
        resource.RLIMIT_NOFILE: descriptors,
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_AS: None if memory is None else memory + _RESERVED,
        resource.RLIMIT_CPU: cpu,
    }
    for what, bound in bounds.items():
        if bound is not None:
            _, hard = resource.getrlimit(what)
            lowest = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            # A second more before the kernel kills: SIGXCPU says why a child ended, SIGKILL would not.
            resource.setrlimit(what, (lowest, lowest + 1 if what == resource.RLIMIT_CPU else lowest))


def dies_with_parent(parent: int) -> None:
    """End this process when the thread that started it ends; it ends at once if `parent` is gone already."""
    if prctl.available():
        prctl.call(prctl.SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def confine(readable: Iterable[Path] = ()) -> None:
    """Give up every right that running WebAssembly does not need; only `readable` and Python's own files can be read.

    To be called after all imports, and before threads are started. Elsewhere than on Linux only `limit` bounds a child.
    """
    if not prctl.available():
        return
    prctl.call(prctl.SET_DUMPABLE, 0)
    prctl.call(prctl.SET_NO_NEW_PRIVS, 1)
    landlock.confine([*map(Path, _SYSTEM), *_python(), *readable])
    if seccomp.supported():
        seccomp.confine()


def _python() -> set[Path]:
    """The folders that Python reads its modules from, and ours."""
    named = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return {Path(path).resolve() for path in named} | {Path(_ROOT) / "edgecache"}
