"""Failover, legs, waiting and refusals; hedges, deadlines and continuations have files of their own."""

import asyncio

import msgspec
import orjson
import pytest

from edgecache.config import Hedging, Price, Route, RouteTarget
from edgecache.errors import (
    BadRequest,
    ModelNotFound,
    NoUpstream,
    Overloaded,
    RateLimited,
    ResidencyRefused,
    UpstreamDied,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from edgecache.types import Allowance, Call, Endpoint, Purpose, Tenant, Terms, Tier, Wishes
from tests.router.conftest import asked, attempts, outcomes, until, whole

CHEAP, DEAR = {"price": Price(input=1.0, output=1.0)}, {"price": Price(input=2.0, output=2.0)}
EAGER = {"retries": 1.0, "burst": 100}


def failing(kind: str, **more):
    return {"failure_injection_rate": 1.0, "failure_types": (kind,), "failure_position": 0, **more}


# ---------------------------------------------------------------------------------------------- the plain case
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_comes_whole_and_is_booked(start_core, make_broker, stream) -> None:
    core = await start_core()
    broker = make_broker({"a": (core.url, {"price": Price(input=3.0, output=5.0, version="v1"), "region": "fra"})})
    call = asked(stream=stream)
    name, body = await broker.served(call)
    assert name == "a"
    assert body.endswith(b"data: [DONE]\n\n") if stream else orjson.loads(body)["choices"]
    (attempt,) = attempts(call)
    read, written = core.seen.prompt_tokens["edge-test"], core.seen.generated_tokens["edge-test"]
    assert (attempt.prompt_tokens, attempt.completion_tokens, attempt.estimated) == (read, written, False)
    assert attempt.cost == pytest.approx((read * 3 + written * 5) / 1e6)
    assert (attempt.outcome, attempt.price, attempt.tier, attempt.region) == ("ok", "v1", "core", "fra")
    assert 0 < attempt.seconds < 5
    assert (0 < attempt.ttft <= attempt.seconds) if stream else attempt.ttft == 0.0
    assert broker.idle
    assert broker.count("upstream_attempts_total", cluster="a", tier="core", outcome="ok") == 1
    assert broker.count("tokens_total", model="edge-test", tier="core", type="completion") == written
    assert broker.count("cost_usd_total", model="edge-test", tier="core", purpose="client") == attempt.cost
    assert broker.count("routed_requests_total", tier="core", service_class="standard", why="only") == 1
    assert broker.count("upstream_ttft_seconds_count", cluster="a", tier="core") == stream
    assert call.account.service == "standard"


async def test_the_first_answers_teach_prediction_and_demand(start_core, make_broker) -> None:
    core = await start_core(time_to_first_token=0.03, inter_token_latency=0.001)
    broker = make_broker({"a": core.url})
    offers = await broker.pool.offers("edge-test")
    before = float(offers.decode[0])
    guess = (await broker.dispatcher.explain(asked()))["demand"]["prompt_tokens"]
    await broker.served(asked(stream=True))
    assert offers.seen[0] == 1
    assert float(offers.decode[0]) < before
    call = asked()
    await broker.served(call)
    assert offers.seen[0] == 2
    again = (await broker.dispatcher.explain(asked()))["demand"]["prompt_tokens"]
    counted = attempts(call)[0].prompt_tokens
    assert abs(again - counted) < abs(guess - counted)


async def test_the_route_is_told_in_a_header_unless_it_is_not_to_be(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": core.url, "b": core.url})
    answer = await broker.dispatcher.dispatch(asked())
    parts = answer.headers["x-edgecache-route"].split(";")
    assert parts[0] in {"a", "b"}
    assert parts[1:4] == ["tier=core", "model=edge-test", "class=standard"]
    assert [part.partition("=")[0] for part in parts[4:]] == ["why", "of", "ttft", "cost", "attempts"]
    assert (parts[5], parts[8]) == ("of=2", "attempts=1")
    broker.dispatcher.settings = msgspec.structs.replace(broker.dispatcher.settings, explain=False)
    assert "x-edgecache-route" not in (await broker.dispatcher.dispatch(asked())).headers


# ---------------------------------------------------------------------------------------------- failover
@pytest.mark.parametrize(
    ("kind", "stream", "outcome"),
    [
        ("server_error", False, "failed"),
        ("server_error", True, "failed"),
        ("null_body", False, "failed"),
        ("null_body", True, "failed"),
        ("empty_404", False, "failed"),
        ("empty_404", True, "failed"),
        ("cut", False, "cut"),
        ("cut", True, "cut"),
        ("error_event", True, "cut"),
        ("rate_limit", False, "overloaded"),
        ("overloaded", True, "overloaded"),
        ("hang", True, "timeout"),
        ("silent", True, "timeout"),
    ],
)
async def test_before_the_first_token_every_failure_goes_elsewhere(
    start_core, make_broker, kind, stream, outcome
) -> None:
    bad, good = await start_core(**failing(kind)), await start_core()
    upstreams = {"bad": (bad.url, CHEAP), "good": (good.url, DEAR)}
    broker = make_broker(upstreams, levels={"first_token_timeout": 0.1})
    call = asked(stream=stream)
    name, body = await broker.served(call)
    assert name == "good"
    assert body.endswith(b"[DONE]\n\n") if stream else b"choices" in body
    assert b"error" not in body
    assert outcomes(call) == [("bad", outcome), ("good", "ok")]
    assert broker.idle
    assert sum(broker.count("retries_total", result="sent", after=after) for after in AFTER) == 1


AFTER = ("status", "null", "empty", "cut", "overloaded", "timeout", "unreachable", "failed")


@pytest.mark.parametrize("dialect", ["dynamo", "trtllm"])
async def test_an_error_event_before_any_content_is_never_seen(start_core, make_broker, dialect) -> None:
    bad, good = await start_core(**failing("error_event"), dialect=dialect), await start_core()
    broker = make_broker({"bad": (bad.url, {**CHEAP, "dialect": dialect}), "good": (good.url, DEAR)})
    name, body = await broker.served(asked(stream=True))
    assert (name, b"error" in body) == ("good", False)


async def test_an_error_that_comes_together_with_the_first_token_is_found_in_time(
    start_core, make_broker, serve
) -> None:
    async def script(_reader, writer, _number) -> None:
        token = b'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
        body = token + b'data: {"error":{"message":"gone"}}\n\ndata: [DONE]\n\n'
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    broker = make_broker({"bad": (await serve(script), CHEAP), "good": ((await start_core()).url, DEAR)})
    call = asked(stream=True)
    name, body = await broker.served(call)
    assert (name, b"error" in body, b"Hel" in body) == ("good", False, False)
    assert outcomes(call) == [("bad", "cut"), ("good", "ok")]
    assert attempts(call)[0].completion_tokens == 1


async def test_a_dead_upstream_costs_one_try_and_no_request(start_core, make_broker, dead_url) -> None:
    core = await start_core()
    broker = make_broker({"dead": (dead_url, CHEAP), "good": (core.url, DEAR)})
    for _ in range(3):
        call = asked()
        assert (await broker.served(call))[0] == "good"
        assert outcomes(call) == [("dead", "failed"), ("good", "ok")]
        assert attempts(call)[0].prompt_tokens == 0  # nothing was sent


async def test_all_of_a_tier_may_die(start_core, make_broker, dead_url) -> None:
    core = await start_core()
    dead = {f"core-{number}": (dead_url, CHEAP) for number in range(5)}
    broker = make_broker({**dead, "regional": (core.url, {**DEAR, "tier": Tier.REGIONAL})})
    call = asked(stream=True)
    assert (await broker.served(call))[0] == "regional"
    assert len(outcomes(call)) == 6


async def test_there_is_an_end_to_trying(make_broker, dead_url) -> None:
    broker = make_broker({f"u{number}": dead_url for number in range(20)}, hedging=Hedging(**EAGER))
    call = asked()
    with pytest.raises(UpstreamUnreachable):
        await broker.dispatcher.dispatch(call)
    assert len({name for name, _ in outcomes(call)}) == 8


async def test_a_dead_kept_connection_is_replaced_without_the_client_noticing(make_broker, serve) -> None:
    connections = []

    async def script(reader, writer, number) -> None:
        await reader.readexactly(10)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connections.append(number)
        await reader.readuntil(b"\r\n\r\n")  # a second request on this connection is met with its end

    broker = make_broker({"a": await serve(script)})
    assert [(await broker.served(asked()))[1] for _ in range(2)] == [b"{}", b"{}"]
    assert connections == [1, 2]


async def test_a_broken_response_head_goes_elsewhere(make_broker, serve, start_core) -> None:
    async def script(_reader, writer, _number) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        await writer.drain()

    broker = make_broker({"bad": (await serve(script), CHEAP), "good": ((await start_core()).url, DEAR)})
    call = asked()
    assert (await broker.served(call))[0] == "good"
    assert outcomes(call) == [("bad", "cut"), ("good", "ok")]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_blames_the_request_is_passed_on_at_once(start_core, make_broker, stream) -> None:
    strict, other = await start_core(max_model_len=1), await start_core()
    broker = make_broker({"strict": (strict.url, CHEAP), "other": (other.url, DEAR)})
    call = asked(stream=stream)
    answer = await broker.dispatcher.dispatch(call)
    assert (answer.status, answer.streaming, answer.upstream) == (400, False, "strict")
    assert b"longer" in await answer.read()
    assert outcomes(call) == [("strict", "rejected")]
    assert attempts(call)[0].prompt_tokens == 0
    assert other.seen.requests == 0
    assert not broker.health.is_out("strict")


@pytest.mark.parametrize(("kind", "status"), [("server_error", 500), ("rate_limit", 429), ("overloaded", 503)])
async def test_where_all_fail_the_last_answer_is_passed_on_as_it_is(start_core, make_broker, kind, status) -> None:
    first, second = await start_core(**failing(kind)), await start_core(**failing(kind))
    broker = make_broker({"a": first.url, "b": second.url})
    call = asked(stream=True)
    answer = await broker.dispatcher.dispatch(call)
    assert (answer.status, answer.streaming) == (status, False)
    assert "error" in orjson.loads(await answer.read())
    assert {name for name, _ in outcomes(call)} == {"a", "b"}
    assert answer.headers.get("retry-after") == (None if status == 500 else "1")


async def test_where_all_fail_without_an_answer_the_last_error_is_raised(start_core, make_broker, dead_url) -> None:
    broker = make_broker({"a": dead_url, "b": dead_url})
    call = asked()
    with pytest.raises(UpstreamUnreachable):
        await broker.dispatcher.dispatch(call)
    assert outcomes(call) == [("a", "failed"), ("b", "failed")] or outcomes(call) == [("b", "failed"), ("a", "failed")]
    null = make_broker({"a": (await start_core(**failing("null_body"))).url})
    with pytest.raises(UpstreamError, match="nothing"):
        await null.dispatcher.dispatch(asked())
    assert broker.idle
    assert null.idle


async def test_the_only_upstream_is_tried_twice_where_it_could_not_be_reached(make_broker, dead_url) -> None:
    broker = make_broker({"a": dead_url})
    call = asked()
    with pytest.raises(UpstreamUnreachable):
        await broker.dispatcher.dispatch(call)
    assert outcomes(call) == [("a", "failed"), ("a", "failed")]


async def test_retries_have_a_budget(start_core, make_broker) -> None:
    bad, good = await start_core(**failing("server_error")), await start_core()
    upstreams = {"bad": (bad.url, CHEAP), "good": (good.url, DEAR)}
    broker = make_broker(upstreams, hedging=Hedging(retries=0.0, burst=2), levels={"hedge": False})
    statuses = []
    for _ in range(4):
        answer = await broker.dispatcher.dispatch(asked())
        statuses.append(answer.status)
        await answer.aclose()
    assert statuses == [200, 200, 500, 500]
    assert broker.count("retries_total", result="denied", after="status") == 2
    assert broker.idle


async def test_failures_eject_and_overload_only_pauses(start_core, make_broker) -> None:
    core, good = await start_core(**failing("server_error")), await start_core()
    upstreams = {"bad": (core.url, CHEAP), "good": (good.url, DEAR)}
    broker = make_broker(upstreams, hedging=Hedging(**EAGER))
    for _ in range(5):
        await broker.served(asked())
    assert broker.health.is_out("bad")
    busy = await start_core(**failing("rate_limit", retry_after=60))
    pausing = make_broker({"busy": (busy.url, CHEAP), "good": (good.url, DEAR)}, hedging=Hedging(**EAGER))
    for _ in range(10):
        assert (await pausing.served(asked()))[0] == "good"
    assert not pausing.health.is_out("busy")
    assert busy.seen.requests == 1  # it asked to be left alone for a minute


async def test_a_request_goes_to_the_upstream_that_it_names_unless_that_is_dead(
    start_core, make_broker, dead_url
) -> None:
    url = (await start_core()).url
    broker = make_broker({"a": url, "b": url, "c": dead_url})
    named = {name: lambda name=name: msgspec.structs.replace(asked(), upstream=name) for name in "abc"}
    assert [(await broker.served(named["b"]()))[0] for _ in range(3)] == ["b"] * 3
    assert (await broker.served(named["c"]()))[0] in {"a", "b"}


# ---------------------------------------------------------------------------------------------- models
async def test_an_unknown_model_never_leaves(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": core.url})
    with pytest.raises(ModelNotFound, match="edge-test"):
        await broker.dispatcher.dispatch(asked("other"))
    assert core.seen.requests == 0
    assert broker.count("route_refusals_total", reason="model_not_found") == 1
    with pytest.raises(NoUpstream):
        await make_broker({}).dispatcher.dispatch(asked())


async def test_a_fallback_model_answers_where_the_target_cannot_and_is_not_kept(start_core, make_broker) -> None:
    bad, other = await start_core(**failing("server_error")), await start_core("spare")
    broker = make_broker(
        {"bad": bad.url, "other": (other.url, {"models": ("spare",)})},
        route=(Route(model="edge-test", fallback=("unheard-of", "spare")),),
    )
    call = asked()
    answer = await broker.dispatcher.dispatch(call)
    assert (answer.status, answer.upstream, answer.model, answer.lifetime) == (200, "other", "spare", 0.0)
    assert "model=spare" in answer.headers["x-edgecache-route"]
    assert other.seen.body["model"] == "spare"
    assert outcomes(call) == [("bad", "failed"), ("other", "ok")]
    assert [attempt.model for attempt in attempts(call)] == ["edge-test", "spare"]


async def test_a_target_answers_for_the_name_that_was_asked_for_and_is_kept(start_core, make_broker) -> None:
    core = await start_core("llama")
    broker = make_broker(
        {"a": (core.url, {"models": ("llama",)})},
        route=(Route(model="chat", target=(RouteTarget(model="llama"),)),),
    )
    answer = await broker.dispatcher.dispatch(asked("chat"))
    assert (answer.status, answer.model, answer.lifetime, answer.small) == (200, "llama", None, False)


async def test_nobody_waits_for_the_target_while_a_fallback_can_answer(start_core, make_broker) -> None:
    slow, other = await start_core(time_to_first_token=30.0), await start_core("spare")
    broker = make_broker(
        {"slow": (slow.url, {"max_concurrency": 1}), "other": (other.url, {"models": ("spare",)})},
        route=(Route(model="edge-test", fallback=("spare",)),),
    )
    first = broker.begin(asked())
    await until(lambda: slow.seen.requests == 1)
    assert (await broker.served(asked()))[0] == "other"
    first.cancel()


# ---------------------------------------------------------------------------------------------- waiting
async def test_who_finds_no_room_is_served_when_somebody_leaves(start_core, make_broker) -> None:
    core = await start_core(time_to_first_token=0.05)
    broker = make_broker({"a": (core.url, {"max_concurrency": 2})}, levels={"share": 1.0})
    calls = [asked(stream=bool(number % 2)) for number in range(8)]
    names = await asyncio.gather(*(broker.served(call) for call in calls))
    assert [name for name, _ in names] == ["a"] * 8
    assert broker.count("waiting_requests", service_class="standard") == 0
    assert broker.count("wait_seconds_count", service_class="standard") == 6
    assert broker.idle


async def test_nobody_overtakes_those_who_wait(start_core, make_broker) -> None:
    core = await start_core(time_to_first_token=0.03)
    broker = make_broker({"a": (core.url, {"max_concurrency": 1})}, levels={"share": 1.0})
    answered = []

    async def ask(name: str) -> None:
        await broker.served(asked())
        answered.append(name)

    first = await broker.dispatcher.dispatch(asked(stream=True))
    early = broker.tasks.spawn(ask("early"), name="request")
    await until(lambda: broker.admission.waiting == 1)
    await first.aclose()
    await ask("late")  # there is a place at this moment
    await early
    assert answered == ["early", "late"]
    assert broker.idle


async def test_nobody_waits_past_the_deadline(start_core, make_broker) -> None:
    core = await start_core(time_to_first_token=30.0)
    broker = make_broker({"a": (core.url, {"max_concurrency": 1})})
    first = broker.begin(asked())
    await until(lambda: core.seen.requests == 1)
    with pytest.raises(Overloaded) as caught:
        await broker.dispatcher.dispatch(asked(wishes=Wishes(deadline=2.0)))
    assert caught.value.retry_after
    assert caught.value.code in {"predicted_miss", "due_time_passed"}
    first.cancel()
    await until(lambda: broker.idle)
    assert core.seen.requests == 1


async def test_a_full_queue_refuses_at_once(start_core, make_broker) -> None:
    core = await start_core(time_to_first_token=30.0)
    broker = make_broker({"a": (core.url, {"max_concurrency": 1})}, levels={"queue": 0})
    first = broker.begin(asked())
    await until(lambda: core.seen.requests == 1)
    with pytest.raises(Overloaded, match="may wait"):
        await broker.dispatcher.dispatch(asked())
    assert broker.count("route_refusals_total", reason="queue_full") == 1
    first.cancel()


async def test_who_was_told_that_one_is_busy_does_not_wait_for_another(start_core, make_broker) -> None:
    busy, full = await start_core(**failing("rate_limit")), await start_core(time_to_first_token=30.0)
    upstreams = {"busy": (busy.url, CHEAP), "full": (full.url, {**DEAR, "max_concurrency": 1})}
    broker = make_broker(upstreams)
    broker.begin(msgspec.structs.replace(asked(), upstream="full"))
    await until(lambda: full.seen.requests == 1)
    answer = await broker.dispatcher.dispatch(asked())
    assert (answer.status, answer.upstream) == (429, "busy")


async def test_a_failure_may_wait_for_room_elsewhere(start_core, make_broker) -> None:
    bad, good = await start_core(**failing("server_error")), await start_core(time_to_first_token=0.1)
    upstreams = {"bad": (bad.url, CHEAP), "good": (good.url, {**DEAR, "max_concurrency": 1})}
    broker = make_broker(upstreams, levels={"share": 1.0}, hedging=Hedging(**EAGER))
    calls = [asked() for _ in range(3)]
    assert {name for name, _ in await asyncio.gather(*map(broker.served, calls))} == {"good"}
    assert broker.idle


# ---------------------------------------------------------------------------------------------- refusals
async def test_no_prompt_leaves_its_jurisdiction(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"us": (core.url, {"jurisdiction": "us"}), "none": core.url})
    with pytest.raises(ResidencyRefused):
        await broker.dispatcher.dispatch(asked(terms=Terms(residency=frozenset({"de"}))))
    assert core.seen.requests == 0
    assert broker.count("route_refusals_total", reason="residency") == 1
    assert (await broker.served(asked(terms=Terms(residency=frozenset({"us"})))))[0] == "us"


async def test_failover_and_fallback_stay_within_the_jurisdiction_too(start_core, make_broker) -> None:
    bad, other = await start_core(**failing("server_error")), await start_core("edge-test", "spare")
    broker = make_broker(
        {
            "de": (bad.url, {"jurisdiction": "de"}),
            "us": (other.url, {"jurisdiction": "us", "models": ("edge-test", "spare")}),
        },
        route=(Route(model="edge-test", fallback=("spare",)),),
    )
    answer = await broker.dispatcher.dispatch(asked(terms=Terms(residency=frozenset({"de"}))))
    assert answer.status == 500
    assert other.seen.requests == 0


async def test_what_no_upstream_can_do_is_said_so(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": (core.url, {"context": 5, "features": ()})})
    with pytest.raises(BadRequest) as caught:
        await broker.dispatcher.dispatch(asked())
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(BadRequest) as caught:
        await broker.dispatcher.dispatch(asked(response_format={"type": "json_object"}))
    assert caught.value.code in {"unsupported_capability", "context_length_exceeded"}
    assert core.seen.requests == 0


# ---------------------------------------------------------------------------------------------- limits and accounts
def poor(**allowance) -> Terms:
    return Terms(allowances=(Allowance("acme", **allowance),))


async def test_tokens_are_taken_as_they_were_used(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": core.url})
    call = asked(terms=poor(tokens_per_minute=100_000))
    await broker.served(call)
    used = attempts(call)[0].prompt_tokens + attempts(call)[0].completion_tokens
    left = int(broker.limits.headers(call.tenant)["x-ratelimit-remaining-tokens"])
    assert 100_000 - used <= left <= 100_000 - used + 100  # a minute refills 100,000
    with pytest.raises(ModelNotFound):
        await broker.dispatcher.dispatch(asked("other", terms=call.tenant.terms))
    assert int(broker.limits.headers(call.tenant)["x-ratelimit-remaining-tokens"]) >= left


async def test_budgets_are_spent_by_clients_and_not_by_what_the_pop_does_for_itself(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": (core.url, {"price": Price(input=1e4, output=1e4)})})
    terms = poor(budget=10.0)
    call = asked(terms=terms)
    await broker.served(call)
    left = broker.limits.left(call.tenant)
    assert left == pytest.approx(10.0 - attempts(call)[0].cost)
    await broker.served(msgspec.structs.replace(asked(terms=terms), purpose=Purpose.SAMPLE))
    assert broker.limits.left(call.tenant) == left
    with pytest.raises(RateLimited) as caught:
        for _ in range(60):
            await broker.served(asked(terms=terms))
    assert caught.value.code == "insufficient_quota"
    assert broker.idle


async def test_work_that_no_client_waits_for_is_booked_as_well(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker({"a": (core.url, {"price": Price(input=1.0, output=1.0)})})
    call = msgspec.structs.replace(asked(), account=None, purpose=Purpose.MIRROR)
    await broker.served(call)
    assert broker.ledger.tokenomics.cost > 0
    assert broker.count("cost_usd_total", model="edge-test", tier="core", purpose="mirror") > 0


# ---------------------------------------------------------------------------------------------- deadlines
@pytest.mark.parametrize("kind", ["hang", "silent", "stall"])
@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_hangs_past_its_deadline(start_core, make_broker, kind, stream) -> None:
    core = await start_core(**failing(kind))
    broker = make_broker({"a": core.url, "b": core.url})
    await broker.known_to_be(decode=0.0)
    loop = asyncio.get_running_loop()
    call, begun = asked(stream=stream, wishes=Wishes(deadline=1.2)), loop.time()
    with pytest.raises(UpstreamTimeout):
        await broker.dispatcher.dispatch(call)
    assert 1.1 < loop.time() - begun < 2.5
    assert [outcome for _, outcome in outcomes(call)] == ["timeout"]
    assert attempts(call)[0].estimated
    assert broker.idle
    assert not broker.health.is_out("a")


async def test_a_stream_that_is_still_going_at_its_deadline_is_cut(start_core, make_broker) -> None:
    core = await start_core(inter_token_latency=0.2)
    broker = make_broker({"a": core.url})
    await broker.known_to_be(decode=0.0)  # else it is refused, since it is predicted to be late
    call = asked(stream=True, wishes=Wishes(deadline=1.0))
    answer = await broker.dispatcher.dispatch(call)
    with pytest.raises(UpstreamDied, match="deadline"):
        await whole(answer)
    assert outcomes(call) == [("a", "timeout")]
    assert attempts(call)[0].completion_tokens in range(2, 8)
    assert broker.idle
    await until(lambda: core.seen.disconnected == 1)


# ---------------------------------------------------------------------------------------------- explain
async def test_explain_says_what_is_needed_and_what_is_held_of_each_upstream(start_core, make_broker) -> None:
    core = await start_core()
    broker = make_broker(
        {"a": (core.url, {**CHEAP, "jurisdiction": "de"}), "b": (core.url, {**DEAR, "jurisdiction": "us"})},
        route=(Route(model="edge-test", fallback=("gone",)),),
    )
    call = asked(terms=Terms(residency=frozenset({"us"})))
    report = orjson.loads(orjson.dumps(await broker.dispatcher.explain(call)))
    assert report["demand"]["residency"] == ["us"]
    assert report["demand"]["service_class"] == "standard"
    leg, gone = report["legs"]
    assert (leg["model"], leg["choice"]["upstream"], leg["choice"]["why"]) == ("edge-test", "b", "only")
    assert leg["choice"]["refused"] == {"residency": 1}
    assert [(line["name"], line["refusal"], line["chosen"]) for line in leg["upstreams"]] == [
        ("a", "residency", 0),
        ("b", None, 1),
    ]
    assert (gone["model"], gone["choice"], gone["upstreams"]) == ("gone", None, [])
    assert "does not exist" in gone["error"]
    assert core.seen.requests == 0
    assert attempts(call) == []
    assert broker.idle


# ---------------------------------------------------------------------------------------------- stored responses
async def stored(url: str, make_pool) -> str:
    """A response kept by the server at `url`; its path."""
    body = {"model": "edge-test", "input": "hello"}
    call = Call("r", Tenant("default"), Endpoint.RESPONSES, "edge-test", body, orjson.dumps(body))
    answer = await make_pool(url).clients[0].open(call)
    return "/v1/responses/" + orjson.loads(await answer.read())["id"]


ANYBODY = Tenant("default")


async def test_a_stored_response_is_not_looked_for_where_the_prompt_could_not_go(
    start_core, make_broker, make_pool
) -> None:
    one, two = await start_core(), await start_core(seed=1)
    path = await stored(two.url, make_pool)
    places = {"a": (one.url, {"jurisdiction": "EU"}), "b": (two.url, {"jurisdiction": "US"})}
    dispatcher = make_broker(places).dispatcher
    tenant = Tenant("clinic", terms=Terms(residency=frozenset({"EU"})))
    before = two.seen.requests
    answer = await dispatcher.forward("GET", path, {}, tenant=tenant)
    assert answer.status == 404
    assert two.seen.requests == before
    await answer.aclose()


async def test_a_stored_response_is_found_wherever_it_is_kept(start_core, make_broker, make_pool) -> None:
    one, two = await start_core(), await start_core(seed=1)
    path = await stored(two.url, make_pool)
    dispatcher = make_broker({"a": one.url, "b": two.url}).dispatcher
    answer = await dispatcher.forward("GET", path, {}, tenant=ANYBODY)
    assert (answer.status, answer.upstream) == (200, "b")
    await answer.aclose()
    missing = await dispatcher.forward("GET", "/v1/responses/resp_none", {}, tenant=ANYBODY)
    assert missing.status == 404
    assert orjson.loads(await missing.read())["error"]


async def test_not_found_is_only_said_when_everybody_said_so(start_core, make_broker, dead_url) -> None:
    one = await start_core()
    for urls in ((one.url, dead_url), (dead_url, one.url)):
        with pytest.raises(UpstreamUnreachable):
            await make_broker(dict(zip("ab", urls, strict=True))).dispatcher.forward(
                "GET", "/v1/responses/resp_none", {}, tenant=ANYBODY
            )
    with pytest.raises(NoUpstream):
        await make_broker({}).dispatcher.forward("GET", "/v1/responses/resp_none", {}, tenant=ANYBODY)
