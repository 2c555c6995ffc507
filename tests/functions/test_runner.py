"""Calls of a real function: where they run, what they may take, and what is booked."""

import asyncio
import threading
from typing import Any

import msgspec
import pytest

from edgecache.config.tree import Functions
from edgecache.errors import Fault, FunctionFault
from edgecache.functions.journal import Filter
from edgecache.functions.manifest import Allow, Bind, Phase, Quotas
from edgecache.functions.runner import Job, Runner
from edgecache.functions.versions import Version
from edgecache.types import Tenant
from edgecache.wasm.base import Request, Response
from tests.conftest import Pop
from tests.puppet import deploy

pytestmark = pytest.mark.slow  # each test compiles a function


def job(pop: Pop, says: str = "200~~%B", *, name: str = "puppet", body: bytes = b"hello", **more: Any) -> Job[Response]:
    runtime = pop.daemon.runtime
    active = runtime.registry.running("default", name)
    headers = (("x-say-hit", says), ("x-edgecache-phase", "hit"))
    request = Request("POST", "/v1/x", headers, body, 1, runtime.runner.seed())
    return Job(active.stable, Phase.HIT, request, lambda response: response, Tenant("acme"), "req-1", **more)


async def promoted(runner: Runner, pop: Pop, version: Version) -> None:
    """Call the function in threads until it may run on the loop."""
    for _ in range(2000):
        await runner.run(job(pop))
        if runner.stats(version).where == "inline":
            return
    pytest.fail(f"never quick enough: {runner.stats(version)}")


async def test_a_call_gives_what_the_function_answers(pop: Pop) -> None:
    version = await deploy(pop)
    runner = pop.daemon.runtime.runner
    found = await runner.run(job(pop))
    assert (found.status, found.body) == (200, b"hello")
    told = runner.stats(version)
    assert (told.calls, told.outcomes, told.ran) == (1, {"ok": 1}, {"thread": 1})
    assert told.memory > 0


async def test_a_quick_function_moves_to_the_loop_and_back_for_good_after_one_long_call(pop: Pop) -> None:
    version = await deploy(pop, limits=Quotas(cpu_ms=20))
    runner = pop.daemon.runtime.runner
    assert runner.now(job(pop)) is None
    await promoted(runner, pop, version)
    found = runner.now(job(pop))
    assert found is not None
    assert found.body == b"hello"
    assert runner.now(job(pop, "%L")) is None  # stopped, and to be made again in a thread
    assert runner.stats(version).where == "thread"
    with pytest.raises(FunctionFault, match="20 ms") as caught:
        await runner.run(job(pop, "%L"))
    assert caught.value.fault is Fault.CPU
    for _ in range(300):
        await runner.run(job(pop))
    assert runner.stats(version).where == "thread"


async def test_a_stop_that_was_not_the_functions_doing_is_forgiven(pop: Pop) -> None:
    version = await deploy(pop)
    runner = pop.daemon.runtime.runner
    await promoted(runner, pop, version)
    runner.place(version).suspect = True  # as if the machine had been busy elsewhere while it ran
    assert runner.stats(version).where == "thread"
    await runner.run(job(pop))
    assert runner.stats(version).where == "inline"


@pytest.mark.parametrize(
    ("body", "user", "here"),
    [(b"hello", "Ada", True), (bytes(64 * 1024 + 1), "Ada", False), (b"NAME" * 10_000, "Ada Byron", False)],
    ids=["small", "large request", "large answer"],
)
async def test_what_is_large_is_handed_over_and_read_in_a_thread(pop: Pop, body: bytes, user: str, here: bool) -> None:
    version = await deploy(pop)
    runner = pop.daemon.runtime.runner
    await promoted(runner, pop, version)
    readers: list[int] = []

    def read(response: Response) -> Response:
        readers.append(threading.get_ident())
        return response

    given = job(pop, "200~~%R", body=body)
    given.request = msgspec.structs.replace(given.request, headers=(*given.request.headers, ("x-user", user)))
    given.read = read
    assert (runner.now(given) is not None) is here
    assert readers == [threading.get_ident()] * here
    found = await runner.run(given)
    assert found.body == body.replace(b"NAME", user.encode())
    assert (readers[-1] == threading.get_ident()) is here
    assert runner.stats(version).outcomes.keys() == {"ok"}


async def test_log_lines_of_a_call_on_the_loop_stand_there_once(pop: Pop) -> None:
    version = await deploy(pop)
    runtime = pop.daemon.runtime
    await promoted(runtime.runner, pop, version)

    def lines() -> list[str]:
        return [record.text for record in runtime.journal.records("default", "puppet", Filter(events=("log",)))]

    assert runtime.runner.now(job(pop, "%G200~~")) is not None
    assert lines() == ["hello"]
    assert runtime.runner.now(job(pop, "%G%L")) is None
    assert lines() == ["hello"]


async def test_a_function_that_may_wait_never_runs_on_the_loop(pop: Pop) -> None:
    version = await deploy(pop, allow=Allow(kv=("shop",)))
    runner = pop.daemon.runtime.runner
    for _ in range(60):
        await runner.run(job(pop))
    assert runner.stats(version).where == "thread"
    assert runner.now(job(pop)) is None


async def test_an_answer_that_means_nothing_is_a_failed_call(pop: Pop) -> None:
    version = await deploy(pop)
    runtime = pop.daemon.runtime

    def read(_response: Response) -> Response:
        raise FunctionFault(Fault.ANSWER, "means nothing")

    given = job(pop)
    given.read = read
    with pytest.raises(FunctionFault, match=r"Function puppet@1 failed \(answer\)"):
        await runtime.runner.run(given)
    assert runtime.runner.stats(version).outcomes == {"answer": 1}


async def test_every_call_is_counted_and_in_the_journal_with_what_it_takes_to_make_it_again(pop: Pop) -> None:
    version = await deploy(pop)
    runtime = pop.daemon.runtime
    given = job(pop)
    await runtime.runner.run(given)
    with pytest.raises(FunctionFault):
        await runtime.runner.run(job(pop, "%T"))
    runtime.runner.stats(version)  # books what waits
    ok, trap = runtime.journal.records("default", "puppet", Filter(events=("call",)))
    assert (ok.outcome, ok.phase, ok.request_id, ok.version, ok.level) == ("ok", "hit", "req-1", 1, "info")
    assert (trap.outcome, trap.level) == ("trap", "error")
    assert "unreachable" in trap.text
    assert ok.data["seed"] == given.request.seed.hex()
    sample = pop.daemon.metrics.registry.get_sample_value
    labels = {"tenant": "default", "function": "puppet"}
    assert sample("edgecache_function_calls_total", labels | {"phase": "hit", "outcome": "ok"}) == 1
    assert sample("edgecache_function_calls_total", labels | {"phase": "hit", "outcome": "trap"}) == 1
    assert sample("edgecache_function_duration_seconds_count", labels) == 2
    assert (sample("edgecache_function_memory_bytes", labels) or 0) > 0


async def test_too_many_calls_at_once_fail_at_once_and_are_not_the_functions_fault(start_pop, core) -> None:
    pop = await start_pop(core.url, functions=Functions(threads=1))
    version = await deploy(pop, limits=Quotas(cpu_ms=50))
    runner = pop.daemon.runtime.runner
    slow = [runner.start(job(pop, "%L")) for _ in range(5)]
    with pytest.raises(FunctionFault, match="5 calls of functions of default") as caught:
        runner.start(job(pop))
    assert caught.value.fault is Fault.POOL
    ended = await asyncio.gather(*slow, return_exceptions=True)
    assert {error.fault for error in ended if isinstance(error, FunctionFault)} == {Fault.CPU}
    assert (await runner.run(job(pop))).status == 200
    assert runner.stats(version).outcomes == {"pool": 1, "cpu": 5, "ok": 1}


async def test_who_leaves_does_not_stop_a_call_that_runs_and_takes_back_one_that_waits(start_pop, core) -> None:
    pop = await start_pop(core.url, functions=Functions(threads=1))
    version = await deploy(pop, limits=Quotas(cpu_ms=20))
    runner = pop.daemon.runtime.runner
    running, waiting = runner.start(job(pop, "%L")), runner.start(job(pop))
    running.cancel()
    waiting.cancel()
    assert (await runner.run(job(pop))).status == 200
    assert runner.stats(version).outcomes in ({"cpu": 1, "ok": 1}, {"ok": 1})


async def test_a_secret_does_not_leave_by_a_fault(pop: Pop) -> None:
    version = await deploy(pop)
    runtime = pop.daemon.runtime
    await runtime.secrets.put("default", "puppet", {"TOKEN": "hunter2hunter2"})

    def read(_response: Response) -> Response:
        raise FunctionFault(Fault.TRAP, "threw hunter2hunter2")

    given = job(pop)
    given.read = read
    with pytest.raises(FunctionFault) as caught:
        await runtime.runner.run(given)
    runtime.runner.stats(version)
    texts = [caught.value.message, *(record.text for record in runtime.journal.records("default", "puppet"))]
    assert not [text for text in texts if "hunter2" in text]


async def test_what_a_version_did_is_forgotten_with_it(pop: Pop) -> None:
    version = await deploy(pop)
    runtime = pop.daemon.runtime
    await runtime.runner.run(job(pop))
    await runtime.registry.delete("default", "puppet")
    assert runtime.runner.stats(version).calls == 0


async def test_a_call_of_a_deleted_function_is_not_told_of_the_next_by_its_name(pop: Pop) -> None:
    await deploy(pop)
    runtime = pop.daemon.runtime
    old = job(pop, "%T")
    await runtime.registry.delete("default", "puppet")
    await deploy(pop)
    with pytest.raises(FunctionFault):
        await runtime.runner.run(old)  # it was on its way when its function went
    await runtime.runner.run(job(pop))
    runtime.runner.flush()
    (told,) = runtime.journal.records("default", "puppet", Filter(events=("call",)))
    assert told.outcome == "ok"


async def test_seeds_never_come_again(pop: Pop) -> None:
    runner = pop.daemon.runtime.runner
    assert len({runner.seed() for _ in range(1000)}) == 1000
    assert len(runner.seed()) == 32


async def test_a_canary_that_fails_is_told_on(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    runtime = pop.daemon.runtime
    await deploy(pop, Bind(Phase.HIT), description="another", canary=1.0)
    active = runtime.registry.running("default", "puppet")
    assert active.canary is not None
    for number in range(200):
        given = job(pop, "%T")
        given.loaded = active.canary
        with pytest.raises(FunctionFault):
            await runtime.runner.run(given)
        if number % 10 == 9:
            runtime.runner.stats(active.canary.version)
            await asyncio.sleep(0.01)
            if runtime.registry.running("default", "puppet").canary is None:
                return
    pytest.fail("the canary is still there")
