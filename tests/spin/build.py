"""Builds the apps here with Spin's own tools, unmodified: `make spin`.

JavaScript with npm's @spinframework/build-tools, Python with PyPI's spin-sdk and componentize-py, in environments of
their own (`build/spin`, `.venv-spin`). The components come out in `build/spin`.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "spin"
JAVASCRIPT = ("shop", "support")


def javascript(work: Path) -> None:
    """Every app in `js/src`, bundled and made a component as Spin's template does it."""
    work.mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "js", work, dirs_exist_ok=True)
    run([tool("npm"), "install", "--no-save", "--ignore-scripts"], work)
    for app in JAVASCRIPT:
        bundle = f"build/{app}.js"
        run([tool("node"), "build.mjs", f"src/{app}.js", bundle], work)
        run([tool("node"), "node_modules/.bin/j2w", "-i", bundle, "-o", str(OUT / f"{app}.wasm")], work)


def python(environment: Path) -> None:
    """The Python app, with the packages in `environment`."""
    command = [str(environment / "bin" / "componentize-py"), "-w", "spin-http", "componentize", "app"]
    # It looks for packages in the environment that this variable names.
    run(["env", f"VIRTUAL_ENV={environment}", *command, "-o", str(OUT / "guestbook.wasm")], HERE / "python")


def tool(name: str) -> str:
    """`node` or `npm`: of this environment, else the system's."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def run(command: Sequence[str], folder: Path) -> None:
    """Run a tool; what it says is seen."""
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    javascript(OUT / "js")
    python(ROOT / ".venv-spin")
