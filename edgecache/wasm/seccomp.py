"""A filter on the system calls of this process (Linux on x86-64): no new program, no socket, no file to write.

Children that compile or run what others uploaded put it on before they see a byte of it. It lists what such a child
needs; everything else fails with EPERM, so that a bug in the engine ends in an error and not on the machine. What may
be opened for reading is `landlock`'s part. See seccomp(2) and Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import os
import platform
import struct

from edgecache.wasm import prctl

_NUMBERS = {
    # reading, and writing to what is open already
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "ioctl": 16, "pread64": 17, "readv": 19,
    "writev": 20, "select": 23, "dup": 32, "fcntl": 72, "fsync": 74, "ftruncate": 77, "getdents64": 217,
    "epoll_wait": 232, "epoll_ctl": 233, "ppoll": 271, "epoll_create1": 291, "dup3": 292, "statx": 332,
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "getsockname": 51, "getsockopt": 55,
    # looking at files
    "stat": 4, "lstat": 6, "access": 21, "getcwd": 79, "readlink": 89, "statfs": 137, "newfstatat": 262,
    "readlinkat": 267, "faccessat": 269, "faccessat2": 439,
    # memory
    "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "msync": 26, "mincore": 27, "madvise": 28,
    "memfd_create": 319, "membarrier": 324,
    # threads and signals
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "nanosleep": 35, "getpid": 39,
    "exit": 60, "gettid": 186, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219,
    "clock_nanosleep": 230, "exit_group": 231, "set_robust_list": 273, "sigaltstack": 131, "rseq": 334,
    # facts about the process and the time
    "getrusage": 98, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
    "sysinfo": 99, "uname": 63, "gettimeofday": 96, "time": 201, "clock_gettime": 228, "clock_getres": 229,
    "getrandom": 318, "getcpu": 309,
}  # fmt: skip
_TGKILL, _OPEN, _OPENAT, _CLONE, _CLONE3, _PRLIMIT = 234, 2, 257, 56, 435, 302
_WRITES = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE."""
_THREAD = 0x00010000
"""CLONE_THREAD."""

_MODE_FILTER = 2
_ARCHITECTURE = 0xC000003E
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _GREATER, _MASK, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_INSTRUCTION = struct.Struct("<HBBI")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def supported() -> bool:
    """True where there is a filter for this machine."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def confine() -> None:
    """Put the filter on this thread and all that it starts from now on, for good. Raises OSError."""
    code = _filter()
    program = _Program(len(code) // _INSTRUCTION.size, code)
    prctl.call(prctl.SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def _filter() -> bytes:
    fail, allow = _FAIL | errno.EPERM, (_RETURN, 0, 0, _ALLOW)
    instructions = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHITECTURE),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER, 0, 1, _X32),  # the same calls under other numbers
        (_RETURN, 0, 0, _KILL),
        (_EQUAL, 0, 1, _CLONE3),  # its flags are out of reach; without it, libc takes clone
        (_RETURN, 0, 0, _FAIL | errno.ENOSYS),
        *_if(_OPEN, argument=1, mask=_WRITES, when=fail, otherwise=_ALLOW),
        *_if(_OPENAT, argument=2, mask=_WRITES, when=fail, otherwise=_ALLOW),
        *_if(_CLONE, argument=0, mask=_THREAD, when=_ALLOW, otherwise=fail),
        *_if(_TGKILL, argument=0, equals=os.getpid(), when=_ALLOW, otherwise=fail),  # abort()
        *_if(_PRLIMIT, argument=0, equals=0, when=_ALLOW, otherwise=fail),  # its own limits only
    ]
    for number in _NUMBERS.values():
        instructions += [(_EQUAL, 0, 1, number), allow]
    instructions.append((_RETURN, 0, 0, fail))
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)


def _if(
    number: int, *, argument: int, when: int, otherwise: int, mask: int = 0, equals: int = 0
) -> list[tuple[int, int, int, int]]:
    """For one call: `when` if the argument has any bit of `mask`, or else is `equals`; if not, `otherwise`."""
    return [
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        (_MASK if mask else _EQUAL, 0, 1, mask or equals),
        (_RETURN, 0, 0, when),
        (_RETURN, 0, 0, otherwise),
    ]
