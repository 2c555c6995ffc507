"""Builds the guests of the tests: `python -m tests.adapter.guests.build`; the results are committed."""

from collections.abc import Callable
from pathlib import Path

from edgecache.wasm.adapter.build import FOLDER, Toolchain

HERE = Path(__file__).parent
WORLDS = {"conformance": "guest", "page": "page"}


def build(folder: Path = FOLDER, out: Path = HERE, change: Callable[[str], str] = lambda wit: wit) -> None:
    """Build every guest into `out`; `change` may alter the WIT, so that a guest is built for another WASI 0.2."""
    tools = Toolchain(folder, change)
    for name, world in WORLDS.items():
        core = folder / f"{name}.core.wasm"
        tools.compile([HERE / f"{name}.c"], core)
        tools.component(core, world, out / f"{name}.wasm", HERE / "guest.wit")


if __name__ == "__main__":
    build()
