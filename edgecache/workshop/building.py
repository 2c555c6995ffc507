"""Making the artefact: the `[build]` command of `function.toml`, run as its developer would in the folder."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecache.clock import Clock
from edgecache.errors import EdgeCacheError
from edgecache.workshop.project import Project

_TOOLS = {
    "zig": "pip install ziglang, or https://ziglang.org/download",
    "cargo": "https://rustup.rs, then rustup target add wasm32-unknown-unknown",
    "npm": "Node.js 20 or newer, https://nodejs.org",
    "python3": "Python 3.10 or newer",
    "clang": "clang and lld from your system's packages",
}
"""Where to get what starters are built with."""

_STANDARD_ERROR = 2
"""Descriptor that a build's output goes to: results are on standard output."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left: the artefact, its size, how long it took (s; 0 where there is nothing to build)."""

    artefact: Path
    bytes: int
    seconds: float


def build(project: Project, environment: Mapping[str, str], clock: Clock) -> Built:
    """Run the build command, its output going where this program's goes, and look for the artefact.

    The command is the developer's own and is given to a shell. Where it says `zig` and there is none on the path, the
    `ziglang` package of this Python stands in.

    Raises:
        EdgeCacheError: the command failed; the message says what is missing if a known tool is.
        FunctionRefused: it did not make the artefact that `function.toml` names.
    """
    command, begun = project.manifest.build.command.strip(), clock.monotonic()
    if command:
        _run(command, project.folder, environment)
    seconds = clock.monotonic() - begun if command else 0.0
    return Built(project.artefact, len(project.read()), seconds)


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    path = environment.get("PATH", os.defpath)
    with tempfile.TemporaryDirectory(prefix="edgecache-tools-") as tools:
        if shutil.which("zig", path=path) is None and importlib.util.find_spec("ziglang") is not None:
            _stand_in(Path(tools) / "zig")
            path = f"{path}{os.pathsep}{tools}"
        sys.stdout.flush()
        try:
            done = subprocess.run(  # noqa: S603 - the developer's own command, on their own machine
                ["/bin/sh", "-c", command],
                cwd=folder,
                env={**environment, "PATH": path},
                stdout=_STANDARD_ERROR,
                check=False,
            )
        except OSError as error:
            raise EdgeCacheError(f"cannot run the build command: {error.strerror}") from error
        if done.returncode != 0:
            hints = "".join(f"\n{tool} is not installed: {where}" for tool, where in missing(command, path))
            raise EdgeCacheError(f"the build command of function.toml ended with status {done.returncode}{hints}")


def missing(command: str, path: str) -> list[tuple[str, str]]:
    """The known tools that `command` names and that are not on `path`, each with where to get it."""
    words = re.findall(r"[\w./-]+", command)
    return [(tool, where) for tool, where in _TOOLS.items() if tool in words and shutil.which(tool, path=path) is None]


def _stand_in(file: Path) -> None:
    """A `zig` that is the `ziglang` package of this Python."""
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ziglang "$@"\n', encoding="utf-8")
    file.chmod(0o700)
