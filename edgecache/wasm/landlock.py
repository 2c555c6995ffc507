"""Which files this process may read (Linux 5.13 and later): the given folders, and nothing may be written or run.

Without it a child could read what its user can: the keys and answers of all tenants. Where the kernel does not have it,
`confine` says so and the other walls stand. See landlock(7).
"""

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from edgecache.wasm import prctl

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_FILES = ((1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)
"""All rights on files that versions 1, 2, ... of the interface know: each must be named to be refused."""
_NETWORK = 0b11
"""Bind and connect by TCP, since version 4."""
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The version of the kernel's interface; 0 = it has none."""
    if not prctl.available():
        return 0
    try:
        return prctl.system_call(_CREATE, 0, 0, _ASK_VERSION)
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}:
            return 0
        raise


def confine(readable: Iterable[Path]) -> bool:
    """Let this process read only beneath `readable` from now on; False where the kernel cannot do that.

    Needs no-new-privs. Paths that are not there are passed over. Raises OSError.
    """
    if (known := version()) == 0:
        return False
    ruleset = _Ruleset(_FILES[min(known, len(_FILES)) - 1], _NETWORK if known >= 4 else 0)
    size = ctypes.sizeof(ruleset) if known >= 4 else 8
    rules = prctl.system_call(_CREATE, ctypes.addressof(ruleset), size, 0)
    try:
        for path in readable:
            _allow(rules, path)
        prctl.system_call(_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return True


def _allow(rules: int, path: Path) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | (_READ_FOLDER if path.is_dir() else 0)
        rule = _Beneath(rights, opened)
        prctl.system_call(_ADD, rules, _PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(opened)
