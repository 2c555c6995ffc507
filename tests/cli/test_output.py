import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from edgecache.cli import output

ROWS = [{"name": "a", "size": 1, "note": None}, {"name": "b\tc\n", "size": 2.5, "note": ["x"]}]


def on_terminal(code: str, **environment: str) -> str:
    """What `code` writes when standard output and error are a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from edgecache.cli import output\n" + code],
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment},  # noqa: TID251 - of the child
    )
    os.close(slave)
    written = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    assert process.wait(timeout=30) == 0, written
    os.close(master)
    return written.decode()


def test_rows_are_tab_separated_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(ROWS, as_json=False)
    assert capsys.readouterr().out == 'name\tsize\tnote\na\t1\t-\nb\\x09c\\x0a\t2.5\t["x"]\n'


def test_a_mapping_is_a_line_for_each_name(capsys: pytest.CaptureFixture[str]) -> None:
    output.show({"a": True, "b": "x"}, as_json=False)
    assert capsys.readouterr().out == "a\ttrue\nb\tx\n"


@pytest.mark.parametrize("result", [ROWS, {"a": {"b": [1, None]}}, [], {}])
def test_json_says_the_same(result: Any, capsys: pytest.CaptureFixture[str]) -> None:
    output.show(result, as_json=True)
    assert json.loads(capsys.readouterr().out) == result


def test_nothing_to_show_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.show([], as_json=False)
    assert capsys.readouterr().out == ""


def test_errors_go_to_standard_error_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.fail("one\ntwo")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "edgecache: one\nedgecache: two\n"


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("counting") as step:
        step(1, 2)
    assert capsys.readouterr().err == ""


def test_tables_are_plain_ascii_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table("a", title="[bold]t[/bold]")
    table.add_row("1")
    output.tables([table])
    written = capsys.readouterr().out
    assert written.isascii()
    assert "\x1b" not in written


def test_a_terminal_gets_a_table_a_bar_and_colours_that_can_be_turned_off() -> None:
    table = "output.show([{'name': '[red]x[/red]'}], as_json=False)\n"
    bar = "with output.progress('counting') as step: step(1, 2)\n"
    written = on_terminal(table + bar)
    assert "│" in written
    assert "[red]x[/red]" in written  # values are text, never markup
    assert "counting" in written
    assert "\x1b[3" in written
    assert "\x1b[3" not in on_terminal(table + bar, NO_COLOR="1").replace("\x1b[3A", "")
