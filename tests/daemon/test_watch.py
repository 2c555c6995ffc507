import asyncio
import time

from edgecache.daemon import watch
from edgecache.telemetry.metrics import Metrics
from tests.conftest import Pop, read


async def test_a_loop_that_was_held_up_is_seen_to_be_late() -> None:
    metrics = Metrics()
    watching = asyncio.get_running_loop().create_task(watch.loop_lag(metrics))
    await asyncio.sleep(0)
    time.sleep(0.7)  # longer than the interval: the next look is late
    while not sum(sample.value for sample in metrics.loop_lag.collect()[0].samples if sample.name.endswith("_count")):
        await asyncio.sleep(0)
    watching.cancel()
    late = next(sample.value for sample in metrics.loop_lag.collect()[0].samples if sample.name.endswith("_sum"))
    assert late >= 0.1


async def test_the_size_of_the_store_is_shown(pop: Pop) -> None:
    await read(await pop.ask("What is the capital of France?"))
    await pop.settled()
    daemon = pop.daemon
    watching = asyncio.get_running_loop().create_task(
        watch.store_stats(daemon.store, daemon.index, daemon.semantic, daemon.metrics)
    )
    while not daemon.metrics.index_vectors.collect()[0].samples[0].value:
        await asyncio.sleep(0)
    watching.cancel()
    assert daemon.metrics.entries.collect()[0].samples[0].value == 1
    assert daemon.metrics.index_drift.collect()[0].samples[0].value == 0
