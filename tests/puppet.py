"""A function for tests that does what its request says (see `functions/guests/puppet.c`), and how to deploy it."""

import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from edgecache.functions.manifest import Bind, Manifest
from edgecache.functions.versions import Version
from edgecache.types import Call
from tests.conftest import Pop, call

SOURCE = Path(__file__).parent / "functions" / "guests" / "puppet.c"
TARGET = ("-target", "wasm32-freestanding", "-nostdlib", "-O2", "-s", "-Wl,--no-entry")


@lru_cache
def wasm() -> bytes:
    """The puppet as a core module."""
    with TemporaryDirectory() as folder:
        made = Path(folder, "puppet.wasm")
        subprocess.run([sys.executable, "-m", "ziglang", "cc", *TARGET, str(SOURCE), "-o", str(made)], check=True)
        return made.read_bytes()


async def deploy(
    pop: Pop, *bind: Bind, name: str = "puppet", tenant: str = "default", canary: float | None = None, **manifest: Any
) -> Version:
    """Deploy the puppet at `pop`."""
    runtime = pop.daemon.runtime
    assert runtime is not None
    return await runtime.registry.deploy(tenant, Manifest(name=name, bind=bind, **manifest), wasm(), canary=canary)


def saying(body: dict[str, Any] | str, says: Mapping[str, str] | None = None, *, user: str = "", **more: Any) -> Call:
    """A chat request whose functions say what `says` has for their phase."""
    client = {f"x-say-{phase}": text for phase, text in (says or {}).items()}
    if user:
        client["x-user"] = user
    return msgspec.structs.replace(call(body, **more), client=client)
