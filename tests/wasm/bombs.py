"""Modules that are small to upload and dear to compile, and other hostile ones; written byte by byte."""

from edgecache.wasm.binary import MODULE, leb, name, section, vec

END = b"\x0b"
GET, SET, ADD, CONST = b"\x20", b"\x21", b"\x6a", b"\x41"
IF, BLOCK, LOOP, BRANCH, BR_TABLE = b"\x04\x40", b"\x02\x40", b"\x03\x40", b"\x0c\x00", b"\x0e"
_TYPES = [b"\x60\x01\x7f\x01\x7f", b"\x60\x02\x7f\x7f\x01\x7e"]
_HANDLE = b"\x00" + b"\x42\x00" + END


def module(*bodies: bytes, imports: tuple[tuple[str, str], ...] = (), pages: int = 1) -> bytes:
    """A module of functions i32 -> i32 that exports what the fast lane needs, the first function as `alloc`."""
    first, last = len(imports), len(imports) + len(bodies)
    exports = [("memory", 2, 0), ("alloc", 0, first), ("handle", 0, last)]
    parts = [
        section(1, vec(_TYPES)),
        section(2, vec(name(space) + name(item) + b"\x00\x00" for space, item in imports)),
        section(3, leb(len(bodies) + 1) + bytes(len(bodies)) + b"\x01"),
        section(5, vec([b"\x00" + leb(pages)])),
        section(7, vec(name(text) + bytes([kind]) + leb(index) for text, kind, index in exports)),
        section(10, vec(leb(len(each)) + each for each in (*bodies, _HANDLE))),
    ]
    return MODULE + b"".join(parts)


def tiny() -> bytes:
    """The smallest function that does something."""
    return b"\x00" + GET + b"\x00" + CONST + b"\x01" + ADD + END


def straight(count: int) -> bytes:
    """One long line of additions."""
    return b"\x00" + GET + b"\x00" + (CONST + b"\x07" + ADD) * count + END


def branchy(local: int, branches: int) -> bytes:
    """Many locals, set in many branches: the end of each branch joins all of them."""
    out = bytearray(leb(1) + leb(local) + b"\x7f")
    for index in range(branches):
        source, condition, target = (1 + (index * step) % local for step in (7, 1, 13))
        out += GET + leb(condition) + IF + GET + leb(source) + CONST + b"\x01" + ADD + SET + leb(target) + END
    return bytes(out) + GET + b"\x00" + END


def table_flood(targets: int) -> bytes:
    """A jump table with many targets."""
    depth = 200
    listed = b"".join(leb(index % depth) for index in range(targets))
    jump = GET + b"\x00" + BR_TABLE + leb(targets) + listed + leb(0)
    return b"\x00" + BLOCK * depth + jump + END * depth + GET + b"\x00" + END


def endless() -> bytes:
    """Never returns."""
    return b"\x00" + LOOP + BRANCH + END + GET + b"\x00" + END


def component(*modules: bytes) -> bytes:
    """A component that holds modules and does nothing with them."""
    return b"\0asm\x0d\x00\x01\x00" + b"".join(section(1, each) for each in modules)
