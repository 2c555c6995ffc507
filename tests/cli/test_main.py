import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecache import __version__

ROOT = Path(__file__).parents[2]


def edgecache(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgecache", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},  # noqa: TID251 - of the child
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version_and_help_end_well() -> None:
    assert edgecache("--version").stdout == f"edgecache {__version__}\n"
    assert "serve" in edgecache("--help").stdout
    assert "replay" in edgecache("bench", "-h").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("chek",), 2, "chek"),
        (("serve", "--nonsense"), 2, "--nonsense"),
        (("cache", "stats", "--admin", "127.0.0.1:1"), 1, "edgecache: no answer from the admin API on 127.0.0.1:1"),
        (("check", "--config", "absent.toml"), 78, "edgecache: absent.toml: cannot be read"),
        (("serve", "--listen", "nowhere"), 78, "edgecache: command line: server.listen: expected host:port"),
        (("check",), 0, ""),
    ],
)
def test_the_exit_status_tells_what_kind_of_failure_it_was(arguments: tuple[str, ...], status: int, says: str) -> None:
    done = edgecache(*arguments)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_every_mistake_is_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text("[cache]\nttl = -1\n[log]\nlevle = 1\n")
    done = edgecache("check", "--config", file)
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"edgecache: {file}:2: cache.ttl: expected a number, at least 0, got -1",
        f"edgecache: {file}:4: log.levle: unknown key (did you mean 'level'?)",
    ]


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    assert edgecache("check", EDGECACHE_CONFIG=str(tmp_path / "absent.toml")).returncode == 78


def test_help_starts_without_anything_heavy() -> None:
    code = (
        "import sys, edgecache.cli.main as main\n"
        "heavy = {'torch', 'faiss', 'aiohttp', 'lmdb', 'numpy', 'openai', 'sentence_transformers', 'transformers'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ("bash", {"COMP_WORDS": "edgecache models ve", "COMP_CWORD": "2"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "edgecache models ve"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "edgecache models ve", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_shells_complete_commands(shell: str, asked: dict[str, str]) -> None:
    assert f"complete_{shell}" in edgecache(_EDGECACHE_COMPLETE=f"source_{shell}").stdout
    suggested = edgecache(_EDGECACHE_COMPLETE=f"complete_{shell}", **asked).stdout
    assert "verify" in suggested
    assert "list" not in suggested
