from pathlib import Path

import pytest

from edgecache.errors import NotFound
from edgecache.tasks import Tasks
from tests.functions.test_runtime import GREET, made
from tests.http.admin.test_functions import saying


async def test_a_function_is_told_from_all_sides(tmp_path: Path) -> None:
    tasks = Tasks()
    runtime = made(tmp_path, tasks)
    await runtime.start()
    version = await runtime.registry.deploy("acme", GREET, saying("one"), message="first", author="ada")
    report = runtime.report
    assert report.deployed(version)["split"] == {"stable": 1, "canary": None, "weight": 0.0}
    await runtime.registry.deploy("acme", GREET, saying("two"), canary=0.25)
    (line,) = report.all(None)
    assert (line["tenant"], line["kind"], line["stable"], line["canary"], line["weight"]) == (
        "acme",
        "core",
        1,
        2,
        0.25,
    )
    assert report.all("other") == []
    status = report.status("acme", "greet")
    assert [each["number"] for each in status["active"]] == [1, 2]
    assert [each["what"] for each in status["history"]] == ["deploy", "deploy"]
    assert (status["history"][1]["who"], status["history"][1]["message"]) == ("ada", "first")
    assert status["manifest"]["bind"] == [{"phase": "hit"}]
    assert [(each["number"], each["runs"]) for each in report.versions("acme", "greet")] == [
        (2, "canary"),
        (1, "stable"),
    ]
    assert report.stats("acme", "greet")["stats"]["2"]["calls"] == 0
    assert {each["name"] for each in report.limits("acme", "greet")["limits"]} >= {"cpu_ms", "memory_mb", "fetch"}
    await runtime.close()
    await tasks.close()


@pytest.mark.parametrize("asked", ["status", "versions", "stats", "limits"])
async def test_what_does_not_exist_is_not_found(tmp_path: Path, asked: str) -> None:
    tasks = Tasks()
    runtime = made(tmp_path, tasks)
    with pytest.raises(NotFound, match="no function 'greet'"):
        getattr(runtime.report, asked)("acme", "greet")
    await runtime.close()
