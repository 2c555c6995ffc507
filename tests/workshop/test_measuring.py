import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import SystemClock
from edgecache.config import Functions
from edgecache.wasm.base import Limits, NoHost, Request
from edgecache.workshop import measuring, project
from edgecache.workshop.local import Local
from edgecache.workshop.measuring import Timings, share

REQUEST = Request("POST", "/", (("x-do", "nothing"),), b"", 0, bytes(32))


@given(st.lists(st.integers(0, 100), min_size=1, max_size=50), st.floats(0, 1))
def test_a_share_of_the_values_is_at_most_it(values: list[int], part: float) -> None:
    found = share([float(value) for value in values], part)
    assert sum(value <= found for value in values) >= part * len(values)
    assert found in values


def test_calls_per_core_follow_from_cpu() -> None:
    assert Timings(1, 1, 1, 1, 50.0, 0).per_core == 20_000


@pytest.mark.slow
def test_calls_are_measured(probe: Any) -> None:
    timings = measuring.measure(
        probe.ready.program, REQUEST, Limits(cpu=1.0, wall=5.0), NoHost, calls=20, clock=SystemClock()
    )
    assert timings.calls == 20
    assert 0 < timings.p50 <= timings.p90 <= timings.p99
    assert timings.cpu > 0
    assert timings.memory > 0


@pytest.mark.slow
def test_an_endless_loop_ends_soon_after_its_time(tmp_path: Path) -> None:
    (tmp_path / "function.toml").write_text('name = "loop"\n')
    with Local(project.find(tmp_path), Functions(), SystemClock()) as local:
        ready = asyncio.run(local.ready(measuring.LOOP))
        late = measuring.killed(ready.program, REQUEST, cpu=0.005, clock=local.clock)
    assert min(late) >= 0
    assert sorted(late)[len(late) // 2] < 0.02
