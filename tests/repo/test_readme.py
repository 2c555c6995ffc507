"""The README's commands and snippets run as they are written, against a POP on free ports."""

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from edgecache.sim.pop import own_pop

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Shell lines, continuations joined."""
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in text.splitlines() if line.strip()]


@pytest.fixture
async def pop(tmp_path: Path):
    config = tmp_path / "edgecache.toml"
    config.write_text('[embed]\nmodel = "hashing"\n[core]\ntime_to_first_token = 0.0\ninter_token_latency = 0.0\n')
    async with own_pop(["--config", str(config)]) as started:
        yield started


async def test_the_curl_line_misses_once_and_hits_after_that(pop) -> None:
    (line,) = [command for command in commands() if command.startswith("curl")]

    def ask() -> str:
        asked = subprocess.run(line.replace(ADDRESS, pop.url), shell=True, capture_output=True, text=True, check=True)  # noqa: S602
        return asked.stdout

    assert "x-edgecache-status: MISS" in ask()
    deadline = time.monotonic() + 20  # noqa: TID251 - an answer is stored shortly after it was sent, by a disk's measure
    while "x-edgecache-status: HIT" not in ask():
        assert time.monotonic() < deadline  # noqa: TID251


async def test_the_python_snippet_prints_an_answer(pop) -> None:
    (snippet,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", snippet.replace(ADDRESS, pop.url)], capture_output=True, text=True, check=True
    )
    assert "edge cache" in done.stdout


def test_the_configuration_is_accepted(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    tomllib.loads(text)
    file = tmp_path / "edgecache.toml"
    file.write_text(text)
    command = [sys.executable, "-m", "edgecache", "check", "--config", str(file)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {command.split()[1] for command in commands() if command.startswith("make ")}
    assert named
    assert named <= targets


def test_every_command_of_ours_is_known() -> None:
    named = [command.split()[1:] for command in commands() if ".venv/bin/edgecache" in command]
    for words in named:
        verbs = [word for word in words if re.fullmatch(r"[a-z]+", word)][:2]
        done = subprocess.run([sys.executable, "-m", "edgecache", *verbs, "--help"], capture_output=True, check=False)
        assert done.returncode == 0, verbs
