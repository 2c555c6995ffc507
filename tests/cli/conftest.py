"""A developer at a shell: the folder of a function, and `edgecache fn` beside a running POP."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edgecache.cli import main

UNCHANGED = bytes.fromhex(
    "0061736d01000000010c0260017f017f60027f7f017e03030200010503010001071b03066d656d6f7279020005616c6c6f6300000668616e"
    "646c6500010a0c0205004180080b040042000b"
)
"""A core module whose `handle` answers 0: 204, whatever it is asked."""
MANIFEST = 'name = "greet"\n[[bind]]\nphase = "hit"\n[allow]\nkv = ["seen"]\nsecrets = ["key"]\n'


class Developer:
    """Somebody in the folder of a function."""

    def __init__(self, folder: Path, admin_url: str, *options: str) -> None:
        self.folder = folder
        self.pop: Any = None
        self.options = ("--admin", admin_url.removeprefix("http://"), *options)

    def change(self, mark: bytes) -> None:
        """Make another artefact that does the same: it has a custom section of that name."""
        section = bytes([len(mark) + 1, len(mark)]) + mark
        (self.folder / "function.wasm").write_bytes(UNCHANGED + b"\0" + section)

    async def run(self, *arguments: str | Path, typed: bytes | str | None = None) -> Result:
        """`edgecache fn ARGUMENTS` in the folder, beside the POP."""
        command = ["fn", *(str(each) for each in arguments), *self.options]
        return await asyncio.to_thread(CliRunner().invoke, main.app, command, input=typed)

    async def told(self, *arguments: str | Path, typed: bytes | str | None = None) -> Any:
        """What it says with `--json`, having ended well."""
        result = await self.run(*arguments, "--json", typed=typed)
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    async def here(self, *arguments: str | Path, typed: bytes | str | None = None) -> Any:
        """The same about the function in the folder."""
        return await self.told(*arguments, "--dir", self.folder, typed=typed)


@pytest.fixture
def function(tmp_path: Path) -> Path:
    folder = tmp_path / "greet"
    folder.mkdir()
    (folder / "function.toml").write_text(MANIFEST)
    (folder / "function.wasm").write_bytes(UNCHANGED)
    return folder


@pytest.fixture
def start_developer(
    start_pop: Callable[..., Awaitable[Any]], core: Any, function: Path
) -> Callable[..., Awaitable[Developer]]:
    """Somebody beside a POP with these sections of the configuration."""

    async def start(*options: str, **sections: Any) -> Developer:
        pop = await start_pop(core.url, **sections)
        developer = Developer(function, pop.admin_url, *options)
        developer.pop = pop
        return developer

    return start


@pytest.fixture
async def developer(start_developer: Callable[..., Awaitable[Developer]]) -> Developer:
    return await start_developer()
