"""Where and with what a figure was measured: machine, versions, commit, models. Reads, changes nothing."""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from edgecache import __version__

PACKAGES = ("numpy", "faiss-cpu", "torch", "transformers", "sentence-transformers", "lmdb", "msgspec", "matplotlib")
_ROOT = Path(__file__).resolve().parents[2]


def manifest(*, seed: int, models: dict[str, str]) -> dict[str, Any]:
    """JSON-compatible. `models` are the fingerprints of what took part."""
    return {
        "edgecache": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        **_commit(),
        "models": models,
        "seed": seed,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"


def _commit() -> dict[str, Any]:
    """The commit of the checkout that this package runs from; an installed package has none."""
    git = shutil.which("git")
    if git is None or not (_ROOT / ".git").exists():
        return {"commit": None, "dirty": None}
    return {"commit": _said(git, "rev-parse", "HEAD"), "dirty": bool(_said(git, "status", "--porcelain", "-uno"))}


def _said(git: str, *arguments: str) -> str | None:
    done = subprocess.run([git, *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None
