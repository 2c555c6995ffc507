"""prctl(2) and plain system calls of Linux: what a child process sets on itself before it touches what others made."""

import ctypes
import os
import sys

SET_PDEATHSIG = 1
SET_DUMPABLE = 4
SET_SECCOMP = 22
SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """True on Linux."""
    return sys.platform == "linux"


def call(option: int, first: int, second: int = 0) -> None:
    """prctl(option, first, second, 0, 0); raises OSError."""
    arguments = (ctypes.c_ulong(value) for value in (first, second, 0, 0))
    if _libc.prctl(ctypes.c_int(option), *arguments) == -1:
        raise _failed("prctl")


def system_call(number: int, *arguments: int) -> int:
    """A system call by its number; raises OSError."""
    result = int(_libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(value) for value in arguments)))
    if result == -1:
        raise _failed(f"system call {number}")
    return result


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
