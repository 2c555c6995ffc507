"""Where in a TOML text each key stands, since `tomllib` does not say. The text must already have parsed."""

import tomllib
from typing import Any

Path = tuple[str | int, ...]
"""A key from the root: names, and positions in arrays of tables."""


def dotted(path: Path) -> str:
    """`path` as people write it: `upstream[0].url`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def lines(text: str) -> dict[Path, int]:
    """The 1-based line on which each key and table header of `text` begins.

    A statement of a valid TOML document (a header or `key = value`) parses on its own, and no part of one that spans
    lines does. So the parser itself finds where statements end, quoting and multi-line values included.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    arrays: dict[Path, int] = {}
    pending, begun = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not pending:
            begun = number
        pending += line + "\n"
        try:
            statement = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        if pending.lstrip().startswith("["):
            table = _header(statement, arrays)
            found.setdefault(table, begun)
        else:
            _record(found, table, statement, begun)
        pending = ""
    return found


def _header(statement: dict[str, Any], arrays: dict[Path, int]) -> Path:
    """The table that `[a.b]` or `[[a.b]]` opens; names of earlier arrays of tables stand for their last element."""
    path: Path = ()
    node: Any = statement
    while isinstance(node, dict) and node:
        name, node = next(iter(node.items()))
        path += (name,)
        if isinstance(node, list):
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path += (arrays[path],)
    return path


def _record(found: dict[Path, int], table: Path, value: Any, line: int) -> None:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        found.setdefault((*table, name), line)
        _record(found, (*table, name), child, line)


def line_of(found: dict[Path, int], path: Path) -> int | None:
    """The line of `path`, else of the nearest table around it."""
    while path:
        if path in found:
            return found[path]
        path = path[:-1]
    return None


def error_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line that a syntax error of `text` complains about (its last line when the text ends too early)."""
    _, _, tail = str(error).rpartition("(at line ")
    digits = tail.partition(",")[0]
    return int(digits) if digits.isdigit() else len(text.rstrip("\n").split("\n"))
