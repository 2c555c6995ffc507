import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgecache.clock import SystemClock
from edgecache.config import Core, Mirror, Route, Router, RouteTarget, SmallModel, Upstream
from edgecache.pipeline.mirror import asked_again
from edgecache.sim.upstream import ScriptedCore
from edgecache.types import Purpose, ServiceClass
from edgecache.wire.answers import Finished
from tests.conftest import MODEL, call

NEW = "new-model"


@pytest.fixture
async def both() -> AsyncIterator[ScriptedCore]:
    """A cluster that serves the model asked for and another one, which says something else."""
    made = ScriptedCore(
        Core(models=(MODEL, NEW), dialect="vllm", time_to_first_token=0, inter_token_latency=0), SystemClock()
    )
    await made.start()
    yield made
    await made.stop()


def upstream(core: ScriptedCore) -> tuple[Upstream, ...]:
    return (Upstream(name="core", url=core.url, dialect="vllm", models=(MODEL, NEW)),)


def counted(counter: Any) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.value
    }


async def until_compared(pop: Any) -> None:
    """Until nothing is on its way any more: fills first, then what they have set off."""
    await pop.settled()
    async with asyncio.timeout(10):
        while waiting := [task for task in pop.daemon.tasks if task.get_name() == "mirror"]:
            await asyncio.gather(*waiting)


async def test_a_share_of_answered_requests_is_asked_of_the_new_model_too(both, start_pop) -> None:
    routes = (Route(model=MODEL, mirror=Mirror(model=NEW, sample=1.0)),)
    pop = await start_pop(both.url, upstream=upstream(both), router=Router(route=routes))
    reply = await pop.ask("what is tea?")
    assert reply.status == 200
    await until_compared(pop)
    assert sum(counted(pop.daemon.metrics.mirrored).values()) == 1
    assert {labels[0] for labels in counted(pop.daemon.metrics.mirrored)} == {NEW}
    assert (await pop.ask("what is tea?")).body == reply.body


async def test_what_comes_from_the_cache_is_asked_of_nobody(both, start_pop) -> None:
    routes = (Route(model=MODEL, mirror=Mirror(model=NEW, sample=1.0)),)
    pop = await start_pop(both.url, upstream=upstream(both), router=Router(route=routes))
    for _ in range(3):
        await pop.ask("what is tea?")
        await until_compared(pop)
    assert sum(counted(pop.daemon.metrics.mirrored).values()) == 1


async def test_without_a_mirror_nothing_more_is_asked(both, start_pop) -> None:
    pop = await start_pop(both.url, upstream=upstream(both))
    await pop.ask("what is tea?")
    await until_compared(pop)
    assert counted(pop.daemon.metrics.mirrored) == {}


async def test_a_mirror_that_fails_is_counted_and_nobody_notices(both, start_pop) -> None:
    routes = (Route(model=MODEL, mirror=Mirror(model="absent", sample=1.0)),)
    pop = await start_pop(both.url, upstream=upstream(both), router=Router(route=routes))
    assert (await pop.ask("what is tea?")).status == 200
    await until_compared(pop)
    assert counted(pop.daemon.metrics.mirrored) == {("absent", "unanswered"): 1.0}


def test_the_second_request_is_whole_without_haste_and_on_its_own_account() -> None:
    asked = call({"messages": [{"role": "user", "content": "x"}], "stream": True, "stream_options": {}})
    again = asked_again(asked, NEW)
    assert (again.model, again.body["model"], again.stream) == (NEW, NEW, False)
    assert not {"stream", "stream_options"} & again.body.keys()
    assert (again.purpose, again.account, again.wishes.service) == (Purpose.MIRROR, None, ServiceClass.BATCH)
    assert asked_again(asked, "").purpose is Purpose.SAMPLE


async def test_a_small_models_answer_is_checked_with_the_model_that_was_asked_for(both, start_pop) -> None:
    small = SmallModel(model=NEW, probability=0.5, sample=1.0)
    routes = (Route(model=MODEL, target=(RouteTarget(model=MODEL),), small=small),)
    pop = await start_pop(both.url, upstream=upstream(both))
    mirrors = pop.daemon.parts.mirrors
    mirrors.settings = Router(route=routes)
    ticket = await filled(pop)
    mirrors.consider(*ticket, small=True)
    await until_compared(pop)
    assert sum(counted(pop.daemon.metrics.small_answers).values()) == 1


async def filled(pop: Any) -> tuple[Any, ...]:
    """A request with its key and answer, as a fill hands them over."""
    asked = call("what is tea?")
    settings = pop.daemon.pipeline.settings
    plan = pop.daemon.pipeline._planner.plan(asked, settings)
    reply = await pop.ask("what is tea?")
    return asked, plan.key, Finished(reply.body, "stop"), settings.learning
