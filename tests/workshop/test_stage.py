import asyncio
from typing import Any

import pytest

from edgecache.clock import ManualClock
from edgecache.functions.manifest import Manifest
from edgecache.wasm.base import pack
from edgecache.wasm.hostcalls import result
from edgecache.workshop.cases import Case, Expected
from edgecache.workshop.stage import CaseClock, staged, version_of


def case(**more: Any) -> Case:
    return Case(name="a", expect=Expected(), **more)


def test_the_clock_shows_the_case_while_time_is_measured() -> None:
    under = ManualClock(5.0)
    clock = CaseClock(1e9, under)
    under.advance(1)
    assert (clock.now(), clock.monotonic()) == (1e9, 6.0)


@pytest.mark.slow
async def test_a_case_is_set_up_over_empty_stores(probe: Any) -> None:
    manifest, artefact = probe.local.project.manifest, probe.ready.artefact
    given = case(kv={"data": {"a": "1"}}, limits={"cpu_ms": 7})
    async with staged(given, manifest, artefact, probe.local.settings, probe.local.clock) as stage:
        assert stage.limits.cpu == pytest.approx(0.007)
        host = stage.host()
        assert result(await asyncio.to_thread(host.call, "kv.get", pack(b"data", b"a"))) == [b"1"]
        host.call("log", pack(b"info", b"hello"))
        assert stage.log() == ("hello",)
        assert (stage.value("data", "a"), stage.value("data", "b")) == ("1", None)


@pytest.mark.slow
def test_another_case_is_another_version(probe: Any) -> None:
    artefact = probe.ready.artefact
    one = version_of(case(), Manifest(name="f"), artefact)
    other = version_of(case(variables={"a": "b"}), Manifest(name="f"), artefact)
    assert one.digest != other.digest
    assert other.manifest.variables == {"a": "b"}
