"""A hit counts when it goes out, and only then."""

import pytest

from edgecache.clock import SystemClock
from edgecache.functions.manifest import Bind, Phase
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheStatus
from tests.conftest import Pop, call, read
from tests.puppet import deploy, saying

QUESTION = "What is tea?"


def counted(pop: Pop, result: str, reason: str) -> float:
    labels = {"result": result, "reason": reason}
    return pop.daemon.metrics.registry.get_sample_value("edgecache_cache_lookups_total", labels) or 0.0


async def stored(pop: Pop) -> None:
    await read(await pop.ask(QUESTION))
    await pop.settled()


async def test_a_hit_is_told_with_age_and_entry_and_counted(pop: Pop) -> None:
    await stored(pop)
    reply = await pop.ask(QUESTION)
    assert (reply.cache.status, reply.cache.age, reply.cache.entry_id) == (CacheStatus.HIT, 0, 1)
    assert counted(pop, "hit", "fresh") == 1


async def test_the_short_cut_counts_too_under_the_id_at_hand(pop: Pop) -> None:
    await stored(pop)
    reply = pop.daemon.pipeline.hit(call(QUESTION), Trace(SystemClock()), "req-9", {})
    assert reply is not None
    assert reply.cache.status is CacheStatus.HIT
    assert counted(pop, "hit", "fresh") == 1


@pytest.mark.slow
async def test_a_hit_that_a_function_declines_is_none(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    await stored(pop)
    declined = saying(QUESTION, {"hit": "204~x-edgecache-action: miss"})
    await read(await pop.daemon.pipeline.serve(declined, Trace(SystemClock())))
    await pop.settled()
    assert counted(pop, "hit", "fresh") == 0
    assert counted(pop, "miss", "function") == 1
