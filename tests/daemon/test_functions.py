import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from edgecache.config import Functions
from edgecache.errors import ConfigError
from tests.conftest import Pop
from tests.http.admin.test_functions import ROOT, upload


async def checked(pop: Pop) -> dict[str, object]:
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        checks = (await client.get("/readyz?verbose")).json()["checks"]
    return next(check for check in checks if check["name"] == "functions")


async def test_functions_are_there_again_after_a_restart(start_pop, core, tmp_path: Path) -> None:
    first = await start_pop(core.url)
    async with httpx.AsyncClient(base_url=first.admin_url, timeout=60) as client:
        await client.post(ROOT, **upload("kept"))
    await first.daemon.stop()
    again = await start_pop(core.url)
    assert (await checked(again))["detail"] == "1 deployed"
    assert [each.label for each in again.daemon.runtime.registry.versions("default", "greet")] == ["greet@1"]


async def test_a_pop_that_never_had_functions_does_without_where_it_must(start_pop, core, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    pop = await start_pop(core.url, data=blocked)
    assert pop.daemon.runtime is None
    assert not (await checked(pop))["ok"]


async def test_a_pop_does_not_start_without_the_functions_that_it_has(start_pop, core, tmp_path: Path) -> None:
    first = await start_pop(core.url)
    await first.daemon.stop()
    (tmp_path / "data" / "functions" / "code.key").write_bytes(b"too short")
    with pytest.raises(ConfigError, match=r"functions cannot be run: .*code\.key"):
        await start_pop(core.url)
    off = await start_pop(core.url, functions=Functions(enabled=False))
    assert (await checked(off))["detail"] == "off"


def test_the_fault_handler_is_installed_before_the_engine(tmp_path: Path) -> None:
    """In a process of its own: pytest installs one anyway."""
    code = """
import asyncio, faulthandler, sys
from pathlib import Path
from edgecache.clock import SystemClock
from edgecache.config import Config, Server
from edgecache.daemon import functions
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
async def main():
    assert not faulthandler.is_enabled()
    config = Config(server=Server(data=sys.argv[1]))
    made, why = functions.runtime(config, None, clock=SystemClock(), metrics=Metrics(), tasks=Tasks())
    assert faulthandler.is_enabled() and not why
    await made.close()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
