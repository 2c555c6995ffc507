import asyncio
from pathlib import Path

import pytest

from edgecache.clock import SystemClock
from edgecache.config.tree import Functions
from edgecache.errors import ConfigError
from edgecache.functions.manifest import Bind, Manifest, Phase
from edgecache.functions.runtime import Runtime
from edgecache.store.functions import Table, owner_key
from edgecache.tasks import Tasks
from edgecache.telemetry.metrics import Metrics
from tests.functions.conftest import Parrot
from tests.http.admin.test_functions import saying

GREET = Manifest(name="greet", bind=(Bind(phase=Phase.HIT),))


def made(folder: Path, tasks: Tasks, settings: Functions = Functions()) -> Runtime:  # noqa: B008 - frozen
    return Runtime(folder, settings, Parrot(), sync=False, clock=SystemClock(), metrics=Metrics(), tasks=tasks)


async def test_what_was_deployed_runs_again_from_the_code_on_disk(tmp_path: Path) -> None:
    tasks = Tasks()
    first = made(tmp_path, tasks)
    await first.start()
    await first.registry.deploy("acme", GREET, saying("hello"))
    await first.close()
    second = made(tmp_path, tasks)
    await second.start()
    (active,) = second.registry.active()
    assert (active.stable.version.label, active.trouble) == ("greet@1", "")
    assert second.report.all("acme")[0]["name"] == "greet"
    await second.close()
    await tasks.close()


async def test_it_does_not_start_where_a_function_cannot_be_read(tmp_path: Path) -> None:
    tasks = Tasks()
    first = made(tmp_path, tasks)
    await first.start()
    await first.registry.deploy("acme", GREET, saying("hello"))
    first._store.write(lambda txn: txn.put(Table.DEPLOYMENTS, owner_key("acme", "greet"), b"spoilt"))
    await first.close()
    second = made(tmp_path, tasks)
    with pytest.raises(ConfigError, match="functions of this POP cannot be read: the record of function greet of acme"):
        await second.start()
    await second.close()
    await tasks.close()


async def test_nothing_goes_on_once_it_is_closed(tmp_path: Path) -> None:
    tasks, before = Tasks(), asyncio.all_tasks()
    runtime = made(tmp_path, tasks)
    await runtime.start()
    await runtime.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_functions_of_tenants_that_are_not_trusted_run_in_a_process_of_their_own(tmp_path: Path) -> None:
    tasks = Tasks()
    runtime = made(tmp_path, tasks, Functions(untrusted=("acme",)))
    await runtime.start()
    for tenant in ("acme", "other"):
        await runtime.registry.deploy(tenant, GREET, saying("hello"))
    where = {
        each["tenant"]: runtime.report.stats(each["tenant"], "greet")["stats"]["1"]["where"]
        for each in runtime.report.all(None)
    }
    assert where == {"acme": "process", "other": "thread"}
    await runtime.close()
    await tasks.close()


async def test_a_key_that_others_may_read_is_refused_and_the_state_is_free_again(tmp_path: Path) -> None:
    tasks = Tasks()
    key = tmp_path / "code.key"
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        made(tmp_path, tasks)
    key.chmod(0o600)
    runtime = made(tmp_path, tasks)
    await runtime.close()
