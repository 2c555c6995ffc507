"""Which requests meet functions, and the short cut through them."""

import json
from typing import Any

import msgspec
import pytest

from edgecache.clock import SystemClock
from edgecache.functions.manifest import Allow, Bind, Phase
from edgecache.functions.versions import Version
from edgecache.pipeline.hooks import Hooks
from edgecache.pipeline.visit import Visit
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheStatus, Call, Reply
from tests.conftest import Pop, call, read
from tests.puppet import deploy, saying

QUESTION = "Who is NAME?"
STREAM = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
pytestmark = pytest.mark.slow  # each test compiles a function


async def warm(pop: Pop, version: Version, asked: Call | None = None) -> None:
    """Have the answer stored, and the function called in threads until it may run on the loop."""
    asked = asked or saying(QUESTION)
    await read(await pop.daemon.pipeline.serve(asked, Trace(SystemClock())))
    await pop.settled()
    runner = pop.daemon.runtime.runner
    for _ in range(2000):
        await read(await pop.daemon.pipeline.serve(asked, Trace(SystemClock())))
        if runner.stats(version).where == "inline":
            return
    pytest.fail(f"never quick enough: {runner.stats(version)}")


def quick(pop: Pop, asked: Call, says: dict[str, str] | None = None, **headers: str) -> Reply | None:
    """The short cut for the bytes of `asked`, sent with other headers."""
    client = headers | {f"x-say-{phase}": text for phase, text in (says or {}).items()}
    return pop.daemon.pipeline.hit(asked, Trace(SystemClock()), "req-2", client)


async def test_without_functions_every_request_goes_by_them(pop: Pop) -> None:
    trace, asked = Trace(SystemClock()), call(QUESTION)
    for hooks in (Hooks(), pop.daemon.pipeline._hooks):
        assert not isinstance(hooks.visit(asked, trace), Visit)
        assert not isinstance(hooks.quick(asked, trace, "r", {}), Visit)


async def test_a_request_that_no_function_is_bound_to_goes_by_them(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT, models=("another",)), Bind(Phase.ROUTE))
    assert not isinstance(pop.daemon.pipeline._hooks.visit(call(QUESTION), Trace(SystemClock())), Visit)


async def test_the_short_cut_runs_a_quick_function_with_the_headers_at_hand(pop: Pop) -> None:
    version = await deploy(pop, Bind(Phase.HIT))
    earlier = saying(QUESTION, {"hit": "204~x-seen: earlier"}, user="Eve")
    await warm(pop, version, earlier)
    reply = quick(pop, earlier, {"hit": "200~x-seen: now~~%R"}, **{"x-user": "Ada"})
    assert reply is not None
    assert reply.cache.status is CacheStatus.HIT
    assert "Who is Ada?" in json.loads(reply.body)["choices"][0]["message"]["content"]
    assert reply.headers == {"x-seen": "now", "x-edgecache-function": "puppet@1"}
    unchanged = quick(pop, earlier)
    assert unchanged is not None
    assert b"NAME" in unchanged.body


async def test_the_short_cut_serves_streams_of_changed_answers(pop: Pop) -> None:
    version = await deploy(pop, Bind(Phase.HIT))
    asked = saying(STREAM)
    await warm(pop, version, asked)
    reply = quick(pop, asked, {"hit": "200~~%R"}, **{"x-user": "Ada"})
    assert reply is not None
    assert b"Who is Ada?" in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("says", ["204~x-edgecache-action: miss", "403~x-edgecache-action: refuse~~"])
async def test_what_is_more_than_a_change_takes_the_long_way(pop: Pop, says: str) -> None:
    version = await deploy(pop, Bind(Phase.HIT))
    asked = saying(QUESTION)
    await warm(pop, version, asked)
    assert quick(pop, asked, {"hit": says}) is None


async def test_a_failing_function_is_passed_by_on_the_short_cut_too(pop: Pop) -> None:
    version = await deploy(pop, Bind(Phase.HIT))
    asked = saying(QUESTION)
    await warm(pop, version, asked)
    reply = quick(pop, asked, {"hit": "%T"})
    assert reply is not None
    assert b"NAME" in reply.body


async def test_one_that_must_not_fail_fails_on_the_long_way(pop: Pop) -> None:
    version = await deploy(pop, Bind(Phase.HIT), on_error="fail")
    asked = saying(QUESTION)
    await warm(pop, version, asked)
    assert quick(pop, asked, {"hit": "%T"}) is None


async def test_a_function_that_has_not_shown_that_it_is_quick_takes_the_long_way(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    asked = saying(QUESTION)
    await read(await pop.daemon.pipeline.serve(asked, Trace(SystemClock())))
    await pop.settled()
    assert quick(pop, asked) is None


@pytest.mark.parametrize(
    "bind",
    [Bind(Phase.REQUEST), Bind(Phase.KEY), Bind(Phase.HIT, stream="chunk")],
    ids=["request", "key", "events"],
)
async def test_what_the_short_cut_cannot_do_takes_the_long_way(pop: Pop, bind: Bind) -> None:
    asked = saying(STREAM)
    await read(await pop.daemon.pipeline.serve(asked, Trace(SystemClock())))
    await pop.settled()
    assert quick(pop, asked) is not None
    await deploy(pop, bind)
    assert quick(pop, asked) is None


async def test_functions_of_other_phases_leave_the_short_cut_open(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.MISS), Bind(Phase.RESPONSE))
    asked = saying(QUESTION)
    await read(await pop.daemon.pipeline.serve(asked, Trace(SystemClock())))
    await pop.settled()
    reply = quick(pop, asked)
    assert reply is not None
    assert reply.headers == {}


async def test_a_chain_takes_the_short_cut_only_if_all_of_it_can(pop: Pop) -> None:
    version = await deploy(pop, Bind(Phase.HIT, order=1), name="first")
    asked = saying(QUESTION)
    await warm(pop, version, asked)
    await deploy(pop, Bind(Phase.HIT, order=2), name="second", allow=Allow(kv=("shop",)))
    runner = pop.daemon.runtime.runner
    before = runner.stats(version).calls
    assert quick(pop, asked) is None
    assert runner.stats(version).calls == before


async def test_functions_that_are_gone_run_no_more(pop: Pop) -> None:
    version = await deploy(pop, Bind(Phase.HIT))
    asked = saying(QUESTION)
    await warm(pop, version, asked)
    await pop.daemon.runtime.registry.delete("default", "puppet")
    reply: Any = quick(pop, asked, {"hit": "200~~%R"}, **{"x-user": "Ada"})
    assert reply.headers == {}
    assert b"NAME" in reply.body


async def test_no_function_runs_on_a_function_s_own_request(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    inner = msgspec.structs.replace(call(QUESTION), inner=True)
    assert not isinstance(pop.daemon.pipeline._hooks.visit(inner, Trace(SystemClock())), Visit)
