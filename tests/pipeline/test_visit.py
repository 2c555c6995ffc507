"""What functions make of requests and answers, on a whole POP; the guest does what each request tells it to."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from edgecache.clock import ManualClock, SystemClock
from edgecache.config import Cache, Semantic
from edgecache.errors import FunctionFault, NotCached, UpstreamDied
from edgecache.functions.manifest import Bind, Phase, Quotas
from edgecache.telemetry.trace import Trace
from edgecache.types import CacheStatus, Call, Reply
from tests.conftest import MODEL, Pop, call, read
from tests.puppet import deploy, saying

pytestmark = pytest.mark.slow  # each test compiles a function

QUESTION = "Who is NAME, and where do they live?"
OTHER = "Who  is NAME,  and where do they live?"
"""The same words: another request with the same answer."""
STREAM = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
ANSWER = json.dumps(
    {
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Said by a function."}}
        ]
    }
)
ALWAYS = Quotas(cpu_ms=200)


async def serve(pop: Pop, asked: Call) -> Reply:
    return await pop.daemon.pipeline.serve(asked, Trace(SystemClock()))


async def ask(pop: Pop, body: Any = QUESTION, says: dict[str, str] | None = None, **more: Any) -> tuple[Reply, bytes]:
    reply = await serve(pop, saying(body, says, **more))
    text = await read(reply)
    await pop.settled()
    return reply, text


def content(body: bytes) -> str:
    """What an answer says, streamed or not."""
    if not body.startswith(b"data:"):
        return json.loads(body)["choices"][0]["message"]["content"]
    chunks = [json.loads(line[6:]) for line in body.decode().split("\n\n") if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def error(body: bytes) -> dict[str, Any]:
    return json.loads(body)["error"]


# ---------------------------------------------------------------------------------------------- phase hit


@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["json", "stream"])
async def test_a_hit_is_personalised_and_the_stored_copy_is_not(pop: Pop, body) -> None:
    await deploy(pop, Bind(Phase.HIT))
    _, stored = await ask(pop, body)
    reply, text = await ask(pop, body, {"hit": "200~x-banner: hi~~%R"}, user="Ada")
    assert reply.cache.status is CacheStatus.HIT
    assert content(text) == content(stored).replace("NAME", "Ada") != content(stored)
    assert reply.headers == {"x-banner": "hi", "x-edgecache-function": "puppet@1"}
    assert content((await ask(pop, body))[1]) == content(stored)


async def test_one_entry_is_personalised_in_either_form(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    await ask(pop, STREAM)
    _, text = await ask(pop, QUESTION, {"hit": "200~~%R"}, user="Ada")
    _, events = await ask(pop, STREAM, {"hit": "200~~%R"}, user="Ada")
    assert content(text) == content(events)
    assert "Ada" in content(text)
    assert events.endswith(b"data: [DONE]\n\n")


async def test_unchanged_is_byte_for_byte_what_is_stored(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    _, stored = await ask(pop)
    reply, text = await ask(pop, QUESTION, {"hit": "204~x-seen: %S"})
    assert text == stored
    assert reply.headers["x-seen"] == "HIT"


async def test_another_wording_says_how_near_it_was(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    await ask(pop)
    reply, _ = await ask(pop, OTHER, {"hit": "204~x-seen: %S"})
    assert reply.cache.status is CacheStatus.SEMANTIC_HIT
    assert reply.headers["x-seen"] == "SEMANTIC_HIT"


@pytest.mark.parametrize("question", [QUESTION, OTHER], ids=["exact", "semantic"])
async def test_a_declined_hit_goes_upstream_and_what_comes_is_stored_as_usual(pop: Pop, core, question) -> None:
    await deploy(pop, Bind(Phase.HIT))
    await ask(pop)
    before = core.seen.requests
    reply, _ = await ask(pop, question, {"hit": "204~x-edgecache-action: miss"})
    assert (reply.cache.status, reply.cache.detail) == (CacheStatus.MISS, "function")
    assert core.seen.requests == before + 1
    hit, _ = await ask(pop, question)
    assert hit.cache.status is CacheStatus.HIT
    assert pop.daemon.metrics.lookups.labels("hit", "fresh")._value.get() == 1


async def test_who_wants_no_more_than_the_cache_has_gets_none_of_it_declined(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    await ask(pop)
    with pytest.raises(NotCached):
        await ask(pop, QUESTION, {"hit": "204~x-edgecache-action: miss"}, only_if_cached=True)


@pytest.mark.parametrize("phase", ["request", "key", "hit", "miss", "response"])
@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["json", "stream"])
async def test_a_refusal_is_an_error_as_the_api_has_it(pop: Pop, phase: str, body) -> None:
    await deploy(pop, Bind(Phase(phase)))
    if phase == "hit":
        await ask(pop, body)
    reply, text = await ask(pop, body, {phase: "451~x-edgecache-action: refuse~x-why: law~~Not in your country."})
    assert reply.status == 451
    assert error(text)["code"] == "refused_by_function"
    assert error(text)["message"] == "Not in your country."
    assert reply.headers == {"x-why": "law", "x-edgecache-function": "puppet@1"}


async def test_a_refused_answer_was_kept_all_the_same(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.RESPONSE))
    assert (await ask(pop, QUESTION, {"response": "200~x-edgecache-action: refuse~~"}))[0].status == 403
    assert (await ask(pop))[0].cache.status is CacheStatus.HIT


async def test_a_stream_may_go_through_event_by_event(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT, stream="chunk"))
    await ask(pop)
    reply, events = await ask(pop, STREAM, {"hit": "200~~%R"}, user="Ada")
    assert "Ada" in content(events)
    assert events.endswith(b"data: [DONE]\n\n")
    assert reply.headers["x-edgecache-function"] == "puppet@1"
    declined, _ = await ask(pop, STREAM, {"hit": "204~x-edgecache-action: miss"})
    assert declined.cache.status is CacheStatus.MISS
    refused, text = await ask(pop, STREAM, {"hit": "403~x-edgecache-action: refuse~~no"})
    assert (refused.status, error(text)["message"]) == (403, "no")


async def test_an_expired_answer_goes_through_the_functions_of_hits(start_pop, core) -> None:
    clock = ManualClock()
    pop = await start_pop(
        core.url, clock=clock, cache=Cache(ttl=60.0, ttl_jitter=0.0, stale_while_revalidate=0.0, stale_if_error=300.0)
    )
    await deploy(pop, Bind(Phase.HIT), Bind(Phase.RESPONSE))
    await ask(pop)
    await core.stop()
    clock.advance(100.0)
    reply, text = await ask(
        pop, QUESTION, {"hit": "200~x-seen: %S~~%R", "response": "403~x-edgecache-action: refuse~~"}, user="Ada"
    )
    assert (reply.cache.detail, reply.headers["x-seen"]) == ("stale-if-error", "STALE")
    assert "Ada" in content(text)
    with pytest.raises(Exception, match="cannot be reached"):
        await ask(pop, QUESTION, {"hit": "204~x-edgecache-action: miss"})


async def test_a_stale_answer_is_renewed_behind_and_its_functions_have_a_say(start_pop, core) -> None:
    clock = ManualClock()
    pop = await start_pop(core.url, clock=clock, cache=Cache(ttl=60.0, ttl_jitter=0.0, stale_while_revalidate=300.0))
    await deploy(pop, Bind(Phase.HIT), Bind(Phase.MISS))
    await ask(pop)
    clock.advance(70.0)
    reply, _ = await ask(pop, QUESTION, {"hit": "204~x-seen: %S", "miss": "403~x-edgecache-action: refuse~~"})
    assert (reply.cache.detail, reply.headers["x-seen"]) == ("stale-while-revalidate", "STALE")
    for task in [task for task in pop.daemon.tasks if task.get_name() == "renew"]:
        await task
    assert (await ask(pop))[0].cache.detail == "stale-while-revalidate"  # the first renewal was refused
    for task in [task for task in pop.daemon.tasks if task.get_name() == "renew"]:
        await task
    assert (await ask(pop))[0].cache.status is CacheStatus.HIT
    clock.advance(70.0)
    declined, _ = await ask(pop, QUESTION, {"hit": "204~x-edgecache-action: miss"})
    assert declined.cache.status is CacheStatus.MISS


# ---------------------------------------------------------------------------------------------- chains


async def test_each_function_of_a_chain_gets_what_the_one_before_has_made(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT, order=2), name="second")
    await deploy(pop, Bind(Phase.HIT, order=1), name="first")
    _, stored = await ask(pop)
    reply, text = await ask(pop, QUESTION, {"hit": "200~~%R"}, user="NAMENAME")
    assert content(text) == content(stored).replace("NAME", "NAMENAMENAMENAME")
    assert reply.headers["x-edgecache-function"] == "first@1, second@1"


async def test_a_function_runs_for_its_own_tenant_only(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT), tenant="acme")
    for tenant, ran in (("acme", True), ("other", False)):
        await ask(pop, tenant=tenant)
        reply, _ = await ask(pop, QUESTION, {"hit": "204"}, tenant=tenant)
        assert ("x-edgecache-function" in reply.headers) is ran


# ---------------------------------------------------------------------------------------------- phase request


async def test_a_request_can_be_rewritten_before_it_is_keyed(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.REQUEST))
    _, stored = await ask(pop, "What is tea?")
    asked = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "What is tea?"}]})
    reply, text = await ask(pop, "And what is this?", {"request": f"200~~{asked}"})
    assert reply.cache.status is CacheStatus.HIT
    assert text == stored


async def test_a_rewritten_request_is_answered_in_the_form_that_the_client_asked_for(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.REQUEST))
    asked = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "What is tea?"}]})
    _, text = await ask(pop, STREAM, {"request": f"200~~{asked}"})
    assert text.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("phase", ["request", "key"])
async def test_a_function_can_keep_a_request_out_of_the_cache(pop: Pop, phase: str) -> None:
    await deploy(pop, Bind(Phase(phase)))
    for _ in range(2):
        reply, _ = await ask(pop, QUESTION, {phase: "204~x-edgecache-action: bypass"})
        assert (reply.cache.status, reply.cache.detail) == (CacheStatus.BYPASS, "function")
    assert (await ask(pop))[0].cache.status is CacheStatus.MISS


@pytest.mark.parametrize("phase", ["request", "key", "miss"])
@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["json", "stream"])
async def test_a_function_can_answer_itself_and_that_is_never_stored(pop: Pop, core, phase: str, body) -> None:
    await deploy(pop, Bind(Phase(phase)))
    before = core.seen.requests
    reply, text = await ask(pop, body, {phase: f"200~x-edgecache-action: answer~~{ANSWER}"})
    assert content(text) == "Said by a function."
    assert text.startswith(b"data:") is (body is STREAM)
    assert (reply.cache.status, reply.cache.detail) == (CacheStatus.BYPASS, "function")
    assert core.seen.requests == before
    assert pop.daemon.store.stats().entries == 0


# ---------------------------------------------------------------------------------------------- phase key


@pytest.mark.parametrize("phase", ["request", "key"])
async def test_a_key_can_be_divided_and_never_widened(pop: Pop, phase: str) -> None:
    await deploy(pop, Bind(Phase(phase)))
    german, french = ({phase: f"204~x-edgecache-key: {country}"} for country in ("de", "fr"))
    assert (await ask(pop, QUESTION, german))[0].cache.status is CacheStatus.MISS
    for says, status in ((german, CacheStatus.HIT), (french, CacheStatus.MISS), (None, CacheStatus.MISS)):
        assert (await ask(pop, QUESTION, says))[0].cache.status is status
    assert (await ask(pop, OTHER, french))[0].cache.status is CacheStatus.SEMANTIC_HIT
    assert (await ask(pop, OTHER, {phase: "204~x-edgecache-key: it"}))[0].cache.status is CacheStatus.MISS


# ---------------------------------------------------------------------------------------------- phase miss


async def test_what_goes_upstream_can_be_rewritten_and_is_kept_under_the_request_that_was_made(pop: Pop, core) -> None:
    await deploy(pop, Bind(Phase.MISS))
    other = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "What is tea?"}]})
    _, tea = await ask(pop, "What is tea?")
    _, text = await ask(pop, QUESTION, {"miss": f"200~~{other}"})
    assert content(text) == content(tea)
    reply, again = await ask(pop)
    assert reply.cache.status is CacheStatus.HIT
    assert content(again) == content(tea)


async def test_only_the_same_rewritten_request_shares_an_answer_in_progress(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.MISS))

    def says(question: str) -> dict[str, str]:
        return {"miss": "200~~" + json.dumps({"model": MODEL, "messages": [{"role": "user", "content": question}]})}

    asked = ("What is tea?", "What is tea?", "What is coffee?")
    replies = await asyncio.gather(*(serve(pop, saying(QUESTION, says(question))) for question in asked))
    texts = [content(await read(reply)) for reply in replies]
    assert texts[0] == texts[1] != texts[2]
    assert sorted(reply.cache.collapsed for reply in replies) == [False, False, True]


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}], ids=["miss", "bypass"])
async def test_a_function_prefers_an_upstream(start_pop, core, options) -> None:
    from edgecache.config import Upstream

    upstreams = tuple(Upstream(name=name, url=core.url, dialect="trtllm", models=(MODEL,)) for name in ("one", "two"))
    pop = await start_pop(core.url, upstream=upstreams)
    await deploy(pop, Bind(Phase.MISS))
    for number in range(3):
        body = {"messages": [{"role": "user", "content": f"Question {number}?"}], **options}
        reply, _ = await ask(pop, body, {"miss": "204~x-edgecache-route: two"})
        assert reply.upstream == "two"
    reply, _ = await ask(pop, "Another?", {"miss": "204~x-edgecache-route: three"})
    assert reply.upstream in {"one", "two"}


async def test_no_function_of_misses_runs_where_only_a_stored_answer_is_wanted(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.MISS))
    with pytest.raises(NotCached):
        await ask(pop, QUESTION, {"miss": f"200~x-edgecache-action: answer~~{ANSWER}"}, only_if_cached=True)


async def test_hits_are_not_sampled_where_the_upstream_would_be_asked_something_else(pop: Pop) -> None:
    from edgecache.config import Learning

    pop.daemon.pipeline.settings = Cache(learning=Learning(sample=1.0))
    await deploy(pop, Bind(Phase.MISS))
    await ask(pop)
    assert (await ask(pop, OTHER))[0].cache.status is CacheStatus.SEMANTIC_HIT
    assert not [task for task in pop.daemon.tasks if task.get_name() == "sample"]


# ---------------------------------------------------------------------------------------------- phase response


@pytest.mark.parametrize("body", [QUESTION, STREAM], ids=["json", "stream"])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}], ids=["miss", "bypass"])
async def test_a_fresh_answer_is_changed_and_kept_as_it_came(pop: Pop, body, options) -> None:
    await deploy(pop, Bind(Phase.RESPONSE))
    asked = (body if isinstance(body, dict) else {"messages": [{"role": "user", "content": body}]}) | options
    reply, text = await ask(pop, asked, {"response": "200~x-new: 1~~%R"}, user="Ada")
    assert "Ada" in content(text)
    assert reply.headers["x-new"] == "1"
    if not options:
        hit, stored = await ask(pop, asked)
        assert hit.cache.status is CacheStatus.HIT
        assert "NAME" in content(stored)
        assert "x-edgecache-function" not in hit.headers


async def test_a_fresh_stream_is_changed_event_by_event_as_it_passes(pop: Pop, core) -> None:
    await deploy(pop, Bind(Phase.RESPONSE, stream="chunk"))
    core.configure(inter_token_latency=0.001)
    reply = await serve(pop, saying(STREAM, {"response": "200~~%R"}, user="Ada"))
    assert reply.headers["x-edgecache-function"] == "puppet@1"
    assert reply.chunks is not None
    first = await anext(reply.chunks)
    assert b"[DONE]" not in first
    events = first + await read(reply)
    await pop.settled()
    assert "Ada" in content(events)
    assert "NAME" in content((await ask(pop, STREAM))[1])


async def test_a_stream_that_is_left_unchanged_passes_byte_for_byte(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.RESPONSE, stream="chunk"))
    _, events = await ask(pop, STREAM, {"response": "204"})
    assert events.startswith(b"data: {")
    await deploy(pop, Bind(Phase.RESPONSE), name="puppet")
    _, whole = await ask(pop, STREAM, {"response": "204"}, no_cache=True)
    assert content(whole) == content(events)


async def test_the_rest_of_a_stream_can_be_refused(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.RESPONSE, stream="chunk"))
    reply = await serve(pop, saying(STREAM, {"response": "403~x-edgecache-action: refuse~~enough"}))
    with pytest.raises(Exception, match="enough") as caught:
        await read(reply)
    assert caught.value.code == "refused_by_function"
    await pop.settled()


async def test_followers_get_their_own_answers_made_of_one_upstream_answer(pop: Pop, core) -> None:
    await deploy(pop, Bind(Phase.RESPONSE))
    before = core.seen.requests
    asked = [saying(body, {"response": "200~~%R"}, user=user) for body in (QUESTION, STREAM) for user in ("Ada", "Bob")]
    replies = await asyncio.gather(*(serve(pop, each) for each in asked))
    texts = [content(await read(reply)) for reply in replies]
    assert ["Ada" in text for text in texts] == [True, False, True, False]
    assert ["Bob" in text for text in texts] == [False, True, False, True]
    assert core.seen.requests == before + 1


async def test_an_error_of_the_upstream_goes_through_no_function(pop: Pop, core) -> None:
    await deploy(pop, Bind(Phase.RESPONSE))
    core.configure(failure_injection_rate=1.0, failure_types=("rate_limit",))
    reply, _ = await ask(pop, QUESTION, {"response": "403~x-edgecache-action: refuse~~"})
    assert reply.status == 429
    assert "x-edgecache-function" not in reply.headers


async def test_a_remembered_refusal_goes_through_no_function(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.RESPONSE), Bind(Phase.HIT))
    wrong = {"messages": [{"role": "user", "content": QUESTION}], "no_such_field": True}
    for detail in (None, "negative"):
        reply, _ = await ask(pop, wrong, {"response": "204", "hit": "204"})
        assert (reply.status, reply.cache.detail) == (400, detail)
        assert "x-edgecache-function" not in reply.headers


async def test_a_stream_that_breaks_off_before_it_was_gathered_is_an_error(pop: Pop, core) -> None:
    await deploy(pop, Bind(Phase.RESPONSE))
    core.configure(failure_injection_rate=1.0, failure_types=("cut",))
    with pytest.raises(UpstreamDied):
        await ask(pop, STREAM, {"response": "204"})


@pytest.mark.parametrize("on_error", ["pass_through", "fail"])
async def test_a_stream_too_long_to_be_gathered_goes_on_as_it_came_or_fails(pop: Pop, on_error: str) -> None:
    await deploy(pop, Bind(Phase.RESPONSE), on_error=on_error)
    hooks = pop.daemon.pipeline._hooks
    hooks._parts = msgspec.structs.replace(hooks._parts, whole=500)
    if on_error == "fail":
        with pytest.raises(FunctionFault, match="500 bytes"):
            await ask(pop, STREAM, {"response": "200~~%R"}, user="Ada")
    else:
        _, events = await ask(pop, STREAM, {"response": "200~~%R"}, user="Ada")
        assert events.endswith(b"data: [DONE]\n\n")
        assert "NAME" in content(events)
    await pop.settled()


# ---------------------------------------------------------------------------------------------- failing functions


@pytest.mark.parametrize("says", ["%T", "%L", "nonsense", "500~~", "200~~no answer", "204~x-edgecache-action: answer"])
async def test_a_function_that_fails_is_passed_by(pop: Pop, says: str) -> None:
    await deploy(pop, Bind(Phase.HIT), limits=Quotas(cpu_ms=20))
    _, stored = await ask(pop)
    reply, text = await ask(pop, QUESTION, {"hit": says})
    assert (reply.cache.status, text) == (CacheStatus.HIT, stored)
    assert reply.headers["x-edgecache-function"] == "puppet@1"


async def test_a_function_that_must_not_fail_fails_the_request(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT), Bind(Phase.RESPONSE), on_error="fail")
    await ask(pop)
    with pytest.raises(FunctionFault, match=r"Function puppet@1 failed") as caught:
        await ask(pop, QUESTION, {"hit": "%T"})
    assert (caught.value.status, caught.value.code) == (502, "function_trap")
    with pytest.raises(FunctionFault, match=r"failed \(answer\)"):
        await ask(pop, QUESTION, {"response": "200~~{}"}, no_cache=True)
    await pop.settled()


async def test_a_function_that_fails_on_a_hit_can_mean_a_miss(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT), Bind(Phase.RESPONSE), on_error="miss")
    await ask(pop)
    reply, _ = await ask(pop, QUESTION, {"hit": "%T", "response": "%T"})
    assert (reply.cache.status, reply.cache.detail) == (CacheStatus.MISS, "function")


async def test_a_fault_is_booked_as_what_it_was(pop: Pop) -> None:
    version = await deploy(pop, Bind(Phase.HIT), limits=ALWAYS)
    await ask(pop)
    for says in ("%T", "200~~{}", "204"):
        await ask(pop, QUESTION, {"hit": says})
    runner = pop.daemon.runtime.runner
    assert runner.stats(version).outcomes == {"trap": 1, "answer": 1, "ok": 1}


# ---------------------------------------------------------------------------------------------- calls of functions


async def test_no_function_runs_on_a_request_that_a_function_makes(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.REQUEST), Bind(Phase.RESPONSE))
    refuse = "403~x-edgecache-action: refuse~~"
    asked = msgspec.structs.replace(saying(QUESTION, {"request": refuse, "response": refuse}), inner=True)
    assert (await serve(pop, asked)).status == 200


async def test_time_in_functions_is_a_stage_of_its_own(pop: Pop) -> None:
    await deploy(pop, Bind(Phase.HIT))
    await ask(pop)
    trace = Trace(SystemClock())
    await pop.daemon.pipeline.serve(saying(QUESTION), trace)
    assert trace.stages["wasm"] > 0


async def test_shadow_mode_shows_no_function_what_it_would_have_served(start_pop, core) -> None:
    pop = await start_pop(core.url, cache=Cache(semantic=Semantic(mode="shadow")))
    await deploy(pop, Bind(Phase.HIT))
    await ask(pop)
    reply, _ = await ask(pop, OTHER, {"hit": "204"})
    assert reply.cache.status is CacheStatus.MISS
    assert "x-edgecache-function" not in reply.headers


async def test_requests_without_functions_are_as_they_were(pop: Pop) -> None:
    await ask(pop)
    reply = await serve(pop, call(QUESTION))
    assert reply.headers == {}
