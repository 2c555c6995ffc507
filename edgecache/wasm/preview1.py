"""WASI preview 1 as a function gets it: arguments, variables, standard streams, a clock, randomness, and nothing else.

Every function of `wasi_snapshot_preview1` is here, in Python: none can sleep, open, connect, or tell the real time.
Those that would reach a file or a socket answer with an error, as they do on a machine that has none. Who runs a
program of it, and what its streams carry, is `command`'s part; QuickJS takes its clock from here too.

The clock shows the time of the request. Each look moves it on by 1 µs; a program that waits is not made to wait, its
clock is moved on by so much instead.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable
from typing import Final

from edgecache.wasm.module import Exit, HostFunction, Sandbox

MODULE: Final = "wasi_snapshot_preview1"
_SUCCESS, _BADF, _FAULT, _INVAL, _NOSYS, _NOTSUP, _SPIPE, _NOTCAPABLE = 0, 8, 21, 28, 52, 58, 70, 76
"""Error numbers of the specification."""
_STREAMS = range(3)
_LOOK = 1000
"""ns that a look at the clock moves it."""
_MOST_VECTORS = 1024
_MOST_RANDOM = 1024 * 1024
"""Bytes drawn at once."""
_SUBSCRIPTION = 48
_MAY_READ, _MAY_WRITE = 1 << 1 | 1 << 21 | 1 << 27, 1 << 0 | 1 << 6 | 1 << 21 | 1 << 27
"""Rights of a descriptor: read or write, stat and poll; sync."""


class Process:
    """What a program sees of the world: kept as the `state` of its sandbox.

    `read(most)` gives bytes of its input, none at the end; `write(descriptor, data)` takes what it puts out; `flush` is
    called where it sleeps, or asks for that.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        arguments: Iterable[bytes] = (),
        variables: Iterable[bytes] = (),
        read: Callable[[int], bytes] = lambda _most: b"",
        write: Callable[[int, bytes], None] = lambda _descriptor, _data: None,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self.arguments = [argument + b"\0" for argument in arguments]
        self.variables = [variable + b"\0" for variable in variables]
        self.read = read
        self.write = write
        self.flush = flush
        self.closed: set[int] = set()
        self.elapsed = 0
        """ns since the call began, by its own clock."""
        self.answer = b""
        """The last of its host, where it may ask it."""
        self._now = sandbox.request.now
        self._seed = sandbox.request.seed
        self._drawn = 0

    def look(self, clock: int) -> int:
        """What `clock` shows, in ns: 0 since 1970, the others since the call began."""
        self.elapsed += _LOOK
        return self._now + self.elapsed if clock == 0 else self.elapsed

    def draw(self, length: int) -> bytes:
        """The next `length` random bytes of this call."""
        self._drawn += 1
        return hashlib.shake_256(self._seed + self._drawn.to_bytes(8, "little")).digest(length)

    def has(self, descriptor: int) -> bool:
        """True for a standard stream that is open."""
        return descriptor in _STREAMS and descriptor not in self.closed


def process(sandbox: Sandbox) -> Process:
    """The process of `sandbox`; one with empty streams where it was given none."""
    if sandbox.state is None:
        sandbox.state = Process(sandbox)
    found: Process = sandbox.state
    return found


def _list(sandbox: Sandbox, items: list[bytes], pointers: int, text: int) -> int:
    offsets, position = [], text
    for item in items:
        offsets.append(position)
        position += len(item)
    sandbox.write(pointers, struct.pack(f"<{len(offsets)}I", *offsets))
    sandbox.write(text, b"".join(items))
    return _SUCCESS


def _sizes(sandbox: Sandbox, items: list[bytes], count: int, size: int) -> int:
    sandbox.write_u32(count, len(items))
    sandbox.write_u32(size, sum(map(len, items)))
    return _SUCCESS


def _args_get(sandbox: Sandbox, pointers: int, text: int) -> int:
    return _list(sandbox, process(sandbox).arguments, pointers, text)


def _args_sizes_get(sandbox: Sandbox, count: int, size: int) -> int:
    return _sizes(sandbox, process(sandbox).arguments, count, size)


def _environ_get(sandbox: Sandbox, pointers: int, text: int) -> int:
    return _list(sandbox, process(sandbox).variables, pointers, text)


def _environ_sizes_get(sandbox: Sandbox, count: int, size: int) -> int:
    return _sizes(sandbox, process(sandbox).variables, count, size)


def _clock_res_get(sandbox: Sandbox, clock: int, result: int) -> int:
    if clock > 3:
        return _INVAL
    sandbox.write_u64(result, _LOOK)
    return _SUCCESS


def _clock_time_get(sandbox: Sandbox, clock: int, _precision: int, result: int) -> int:
    if clock > 3:
        return _INVAL
    sandbox.write_u64(result, process(sandbox).look(clock))
    return _SUCCESS


def _random_get(sandbox: Sandbox, buffer: int, length: int) -> int:
    if length > _MOST_RANDOM:
        return _INVAL
    sandbox.write(buffer, process(sandbox).draw(length))
    return _SUCCESS


def _vectors(sandbox: Sandbox, vectors: int, count: int) -> list[tuple[int, int]]:
    """Address and length of each part."""
    return list(struct.iter_unpack("<II", sandbox.read(vectors, 8 * count)))


def _fd_write(sandbox: Sandbox, descriptor: int, vectors: int, count: int, written: int) -> int:
    found = process(sandbox)
    if descriptor == 0 or not found.has(descriptor):
        return _BADF
    if count > _MOST_VECTORS:
        return _INVAL
    total = 0
    for address, length in _vectors(sandbox, vectors, count):
        found.write(descriptor, sandbox.read(address, length))
        total += length
    sandbox.write_u32(written, total & 0xFFFFFFFF)
    return _SUCCESS


def _fd_read(sandbox: Sandbox, descriptor: int, vectors: int, count: int, got: int) -> int:
    found = process(sandbox)
    if descriptor != 0 or not found.has(descriptor):
        return _BADF
    if count > _MOST_VECTORS:
        return _INVAL
    total = 0
    for address, length in _vectors(sandbox, vectors, count):
        data = found.read(length) if length else b""
        sandbox.write(address, data)
        total += len(data)
        if len(data) < length:
            break
    sandbox.write_u32(got, total)
    return _SUCCESS


def _fd_close(sandbox: Sandbox, descriptor: int) -> int:
    found = process(sandbox)
    if not found.has(descriptor):
        return _BADF
    found.closed.add(descriptor)
    return _SUCCESS


def _fd_fdstat_get(sandbox: Sandbox, descriptor: int, result: int) -> int:
    if not process(sandbox).has(descriptor):
        return _BADF
    rights = _MAY_READ if descriptor == 0 else _MAY_WRITE
    sandbox.write(result, struct.pack("<BxHxxxxQQ", 0, 0, rights, 0))  # of no special type: output is buffered
    return _SUCCESS


def _fd_filestat_get(sandbox: Sandbox, descriptor: int, result: int) -> int:
    if not process(sandbox).has(descriptor):
        return _BADF
    sandbox.write(result, struct.pack("<QQB7xQQQQQ", 0, descriptor, 0, 1, 0, 0, 0, 0))
    return _SUCCESS


def _fd_sync(sandbox: Sandbox, descriptor: int) -> int:
    if not process(sandbox).has(descriptor):
        return _BADF
    process(sandbox).flush()
    return _SUCCESS


def _poll_oneoff(sandbox: Sandbox, subscriptions: int, events: int, count: int, happened: int) -> int:
    """Everything that is waited for has happened; the clock is moved on to the earliest end of a sleep."""
    if not 0 < count <= _MOST_VECTORS:
        return _INVAL
    found = process(sandbox)
    found.flush()
    asked = sandbox.read(subscriptions, _SUBSCRIPTION * count)
    told, sleeps = [], []
    for user, kind, clock, time, flags in struct.iter_unpack("<QB7xI4xQ8xH6x", asked):
        told.append(struct.pack("<QHB5xQH6x", user, _SUCCESS, kind, 0 if kind == 0 else 1, 0))
        if kind == 0:
            sleeps.append(max(0, time - found.look(clock)) if flags & 1 else time)
    if len(sleeps) == count:  # nothing else to wait for
        found.elapsed = min(found.elapsed + min(sleeps), 1 << 62)
    sandbox.write(events, b"".join(told))
    sandbox.write_u32(happened, count)
    return _SUCCESS


def _proc_exit(_sandbox: Sandbox, code: int) -> None:
    raise Exit(code)


def _on_stream(sandbox: Sandbox, descriptor: int, *_: int) -> int:
    """What has no place in a stream: seeking, reading at a place."""
    return _SPIPE if process(sandbox).has(descriptor) else _BADF


def _ignored(sandbox: Sandbox, descriptor: int, *_: int) -> int:
    return _SUCCESS if process(sandbox).has(descriptor) else _BADF


def _no_folder(sandbox: Sandbox, descriptor: int, *_: int) -> int:
    return _NOTCAPABLE if process(sandbox).has(descriptor) else _BADF


def _path_symlink(sandbox: Sandbox, _target: int, _length: int, descriptor: int, *_: int) -> int:
    return _no_folder(sandbox, descriptor)


def _bad_descriptor(_sandbox: Sandbox, *_: int) -> int:
    return _BADF


def _no_socket(_sandbox: Sandbox, *_: int) -> int:
    return _NOTSUP


def _missing(_sandbox: Sandbox, *_: int) -> int:
    return _NOSYS


def _done(_sandbox: Sandbox) -> int:
    return _SUCCESS


_FUNCTIONS: dict[str, tuple[str, Callable[..., int | None]]] = {
    "args_get": ("ii", _args_get),
    "args_sizes_get": ("ii", _args_sizes_get),
    "environ_get": ("ii", _environ_get),
    "environ_sizes_get": ("ii", _environ_sizes_get),
    "clock_res_get": ("ii", _clock_res_get),
    "clock_time_get": ("iIi", _clock_time_get),
    "fd_advise": ("iIIi", _on_stream),
    "fd_allocate": ("iII", _on_stream),
    "fd_close": ("i", _fd_close),
    "fd_datasync": ("i", _fd_sync),
    "fd_fdstat_get": ("ii", _fd_fdstat_get),
    "fd_fdstat_set_flags": ("ii", _ignored),
    "fd_fdstat_set_rights": ("iII", _ignored),
    "fd_filestat_get": ("ii", _fd_filestat_get),
    "fd_filestat_set_size": ("iI", _on_stream),
    "fd_filestat_set_times": ("iIIi", _ignored),
    "fd_pread": ("iiiIi", _on_stream),
    "fd_prestat_get": ("ii", _bad_descriptor),
    "fd_prestat_dir_name": ("iii", _bad_descriptor),
    "fd_pwrite": ("iiiIi", _on_stream),
    "fd_read": ("iiii", _fd_read),
    "fd_readdir": ("iiiIi", _no_folder),
    "fd_renumber": ("ii", _no_folder),
    "fd_seek": ("iIii", _on_stream),
    "fd_sync": ("i", _fd_sync),
    "fd_tell": ("ii", _on_stream),
    "fd_write": ("iiii", _fd_write),
    "path_create_directory": ("iii", _no_folder),
    "path_filestat_get": ("iiiii", _no_folder),
    "path_filestat_set_times": ("iiiiIIi", _no_folder),
    "path_link": ("iiiiiii", _no_folder),
    "path_open": ("iiiiiIIii", _no_folder),
    "path_readlink": ("iiiiii", _no_folder),
    "path_remove_directory": ("iii", _no_folder),
    "path_rename": ("iiiiii", _no_folder),
    "path_symlink": ("iiiii", _path_symlink),
    "path_unlink_file": ("iii", _no_folder),
    "poll_oneoff": ("iiii", _poll_oneoff),
    "proc_raise": ("i", _missing),
    "random_get": ("ii", _random_get),
    "sched_yield": ("", _done),
    "sock_accept": ("iii", _no_socket),
    "sock_recv": ("iiiiii", _no_socket),
    "sock_send": ("iiiii", _no_socket),
    "sock_shutdown": ("ii", _no_socket),
}
IMPORTS: Final = {
    (MODULE, "proc_exit"): HostFunction("i", "", _proc_exit),
    **{(MODULE, name): HostFunction(params, "i", function) for name, (params, function) in _FUNCTIONS.items()},
}
"""All of WASI preview 1."""
NAMES: Final = frozenset(name for _, name in IMPORTS)
"""What a command may import of it."""
