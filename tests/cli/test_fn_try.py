import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import main
from edgecache.errors import EdgeCacheError
from edgecache.workshop import templates

ROOT = Path(__file__).parents[2]


def fn(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.app, ["fn", *(str(each) for each in arguments)])


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    templates.make("greet", "js", tmp_path / "greet")
    return tmp_path / "greet"


@pytest.mark.slow
def test_the_cases_of_a_starter_pass(starter: Path) -> None:
    result = fn("test", "--dir", starter)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.endswith("5 passed, 0 failed\n")
    rows = json.loads(fn("test", "--dir", starter, "--only", "nobody", "--json").stdout)
    assert [(row["name"], row["passed"]) for row in rows] == [("nobody named", True)]


@pytest.mark.slow
def test_a_case_that_fails_says_how_and_ends_with_1(starter: Path) -> None:
    source = starter / "function.js"
    source.write_text(
        source.read_text().replace('?? "there"', '?? "you"').replace("const name", "console.log(1); const name")
    )
    result = fn("test", "--dir", starter)
    assert result.exit_code == 1
    assert re.search(r"^FAIL  nobody named  \(\d+\.\d\d ms\)$", result.stdout, re.MULTILINE)
    assert (
        '      $.choices[0].message.content: expected "Hello there.", got "Hello you."\n      log: 1\n' in result.stdout
    )
    assert result.stdout.endswith("4 passed, 1 failed\n")


def test_no_case_is_no_success(starter: Path) -> None:
    assert isinstance(fn("test", "--dir", starter, "--only", "absent").exception, EdgeCacheError)
    (starter / "cases.jsonl").unlink()
    assert "No such file" in str(fn("test", "--dir", starter).exception)


@pytest.mark.slow
def test_a_bench_prints_its_tables(starter: Path) -> None:
    result = fn("bench", "--dir", starter, "--calls", "10")
    assert "kind\tscript\n" in result.stdout
    assert "case\tcalls\tp50 us\tp90 us\tp99 us\tCPU us\tcalls/s/core\tmemory KiB\n" in result.stdout
    report = json.loads(fn("bench", "--dir", starter, "--calls", "10", "--json").stdout)
    assert len(report["calls"]) == 5


class Dev:
    """`edgecache fn dev` as a process."""

    def __init__(self, folder: Path, log: Path) -> None:
        own = {"EDGECACHE__EMBED__MODEL": "hashing", "EDGECACHE__STORE__SYNC": "false"}
        self.said = ""
        self.log = log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "edgecache", "fn", "dev", "--watch", "--dir", str(folder)],
            cwd=ROOT,
            env={**os.environ, **own},  # noqa: TID251 - of the child
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def until(self, wanted: Callable[[str], Any]) -> str:
        """The first line of which `wanted` is true."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if wanted(line):
                return line
        pytest.fail(self.said)


@pytest.mark.slow
def test_a_pop_of_ones_own_serves_replays_and_ends(starter: Path, tmp_path: Path) -> None:
    dev = Dev(starter, tmp_path / "log")
    try:
        dev.until(lambda line: line.startswith("deployed greet@1: script"))
        url = dev.until(lambda line: line.startswith("  API ")).split()[1]  # told when the function is there
        client = openai.OpenAI(base_url=url, api_key="none", default_headers={"x-user": "Ada"})
        ask: Any = {"model": "edge-test", "messages": [{"role": "user", "content": "Say hello to {{name}}."}]}
        for _ in range(2):  # fresh, then from the cache
            assert "hello to Ada." in str(client.chat.completions.create(**ask).choices[0].message.content)
        streamed = [each.choices[0].delta.content or "" for each in client.chat.completions.create(**ask, stream=True)]
        assert "hello to Ada." in "".join(streamed)
        dev.until(lambda line: "@1 hit" in line)
        source = starter / "function.js"
        source.write_text(source.read_text().replace(".slice(1, -1)", ".slice(1, -1).toUpperCase()"))
        dev.until(lambda line: line.startswith("deployed greet@2"))
        dev.until(lambda line: "hello to ADA." in line)
        dev.until(lambda line: re.fullmatch(r"replayed \d calls: \d changed\n", line))
        assert "hello to ADA." in str(client.chat.completions.create(**ask).choices[0].message.content)
        dev.process.send_signal(signal.SIGINT)
        assert dev.process.wait(timeout=20) == 0
    finally:
        dev.process.kill()
        assert dev.process.stdout is not None
        dev.process.stdout.close()
        dev.process.wait()
        dev.log.close()
    assert "Traceback" not in (tmp_path / "log").read_text()
