from pathlib import Path
from typing import Any

import pytest

from edgecache.clock import SystemClock
from edgecache.config import Functions
from edgecache.errors import EdgeCacheError, FunctionRefused
from edgecache.workshop import inspection, project, templates
from edgecache.workshop.cases import Case, Expected, Fetched
from edgecache.workshop.local import Local


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starter")
    templates.make("greet", "js", folder)
    return folder


async def inspected(folder: Path, *, calls: int = 5, **settings: Any) -> dict[str, Any]:
    found = project.find(folder)
    with Local(found, Functions(**settings), SystemClock()) as local:
        return await inspection.inspect(found, local, calls=calls)


@pytest.mark.slow
async def test_it_says_what_a_function_is_made_of_and_takes(starter: Path) -> None:
    report = await inspected(starter, max_host_calls=50)
    assert report["kind"] == "script"
    assert report["bytes"] == len(project.find(starter).read())
    assert report["bound to"] == ["hit", "response"]
    assert report["cut"] == ["host_calls: 100 asked, 50 granted"]
    assert report["cases"] == 5
    assert report["us a call"]["p50"] > 0
    assert report["code bytes"] > 100_000


@pytest.mark.slow
async def test_without_calls_nothing_is_measured(starter: Path) -> None:
    assert "us a call" not in await inspected(starter, calls=0)


@pytest.mark.slow
async def test_what_would_be_refused_is_refused(tmp_path: Path) -> None:
    templates.make("greet", "js", tmp_path)
    (tmp_path / "function.js").write_text("export default {")
    with pytest.raises(FunctionRefused):
        await inspected(tmp_path)


async def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    templates.make("greet", "js", tmp_path)
    with (tmp_path / "function.toml").open("a") as file:
        file.write('[allow]\nfetch = ["example.com"]\n')
    with pytest.raises(FunctionRefused, match=r"allow\.fetch"):
        await inspected(tmp_path)


@pytest.mark.slow
async def test_a_bench_has_a_row_for_each_case(starter: Path) -> None:
    found = project.find(starter)
    with Local(found, Functions(), SystemClock()) as local:
        report = await inspection.bench(found, local, calls=10)
    assert [row["case"] for row in report["calls"]] == [case.name for case in inspection.kept(found)]
    assert all(row["calls/s/core"] > 10 for row in report["calls"])
    assert report["kill ms"] < 50


@pytest.mark.slow
async def test_a_case_whose_call_fails_is_named(probe: Any) -> None:
    case = Case(
        name="it loops", expect=Expected(), limits={"cpu_ms": 2}, request=inspection.Asked(headers={"x-do": "loop"})
    )
    with pytest.raises(EdgeCacheError, match="case 'it loops': "):
        await inspection.timed([case], probe.ready, probe.local, calls=1)


def test_cases_that_end_in_a_fault_or_ask_the_world_are_not_measured() -> None:
    plain = Case(name="plain", expect=Expected())
    asking = Case(name="asking", expect=Expected(), fetch=(Fetched(url="http://a"),))
    failing = Case(name="failing", expect=Expected(fault="cpu"))
    assert inspection.chosen([plain, asking, failing]) == [plain]
    (stand_in,) = inspection.chosen([asking])
    assert 900 < len(stand_in.request.raw()) < 1300
