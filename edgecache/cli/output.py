"""How commands speak: one function prints results, as a table or as JSON; errors and progress go to standard error.

`NO_COLOR` is honoured by rich. Where nobody watches, tables are plain tab-separated lines and there is no progress.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Rows = Sequence[Mapping[str, Any]]


def show(result: Mapping[str, Any] | Rows, *, as_json: bool, title: str = "") -> None:
    """Print one result: a mapping as name and value, a sequence of mappings as a table with their keys as header."""
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2, default=str, ensure_ascii=False) + "\n")
        return
    rows = [{"name": key, "value": value} for key, value in result.items()] if isinstance(result, Mapping) else result
    if sys.stdout.isatty():
        _table(rows, title, header=not isinstance(result, Mapping))
        return
    if rows and not isinstance(result, Mapping):
        sys.stdout.write("\t".join(rows[0]) + "\n")
    for row in rows:
        sys.stdout.write("\t".join(_plain(value) for value in row.values()) + "\n")


def _table(rows: Rows, title: str, *, header: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - a fifth of the start-up time, for terminals only
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title or None, show_header=header, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_plain(value)) for value in row.values()))
    Console().print(table)


def tables(made: Sequence["Table"]) -> None:
    """Print tables that are already laid out, in ASCII and without colour where nobody watches."""
    from rich import box  # noqa: PLC0415 - see _table
    from rich.console import Console  # noqa: PLC0415

    console = Console() if sys.stdout.isatty() else Console(width=120, no_color=True)
    for table in made:
        if not sys.stdout.isatty():
            table.box = box.ASCII
        console.print(table)


def _plain(value: Any) -> str:
    """One cell: no control character may reach the terminal or break the line."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def facts(title: str, told: Mapping[str, str]) -> None:
    """Print a title and one line a fact, never wrapped so that commands among them can be copied."""
    width = max(len(name) for name in told)
    if not sys.stdout.isatty():
        say(title)
        for name, value in told.items():
            say(f"  {name:<{width}}  {_plain(value)}")
        return
    from rich.console import Console  # noqa: PLC0415 - see _table
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    console.print(Text(title, "bold"))
    for name, value in told.items():
        console.print(Text.assemble("  ", (f"{name:<{width}}", "cyan"), f"  {_plain(value)}"), soft_wrap=True)


def say(line: str = "") -> None:
    """Print one line of prose on standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def fail(message: str) -> None:
    """Print an error, a line or several, on standard error."""
    for line in message.splitlines():
        sys.stderr.write(f"edgecache: {line}\n")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function to call with steps done and steps in all; it draws a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415 - see _table
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def flat(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested report, each by the dotted name of where it stands."""
    for name, value in report.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
