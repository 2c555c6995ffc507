from edgecache.config import Cache, Semantic
from edgecache.types import CacheStatus
from tests.conftest import Pop, read


async def test_all_parts_work_on_the_same_evidence(pop: Pop) -> None:
    parts = pop.daemon.parts
    parts.pipeline.settings = Cache(semantic=Semantic(mode="shadow"))
    for question in ("What is tea?", "what is tea"):
        await read(await pop.ask(question))
        await pop.settled()
    assert parts.learner.report()["total"]["hits"] == 1


async def test_evidence_is_there_after_a_restart(start_pop, core) -> None:
    first = await start_pop(core.url)
    await read(await first.ask("What is tea?"))
    await first.settled()
    assert (await first.ask("what is tea")).cache.status == CacheStatus.SEMANTIC_HIT
    told = first.daemon.parts.learner.report()
    await first.daemon.stop()
    second = await start_pop(core.url)
    assert second.daemon.parts.learner.report() == told
