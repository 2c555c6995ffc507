import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from math import inf
from typing import Any

import orjson
import pytest

from edgecache.clock import ManualClock, SystemClock
from edgecache.config import Core, Price, Upstream, UpstreamModel
from edgecache.errors import ModelNotFound, NoUpstream, UpstreamError
from edgecache.router.pool import Pool
from edgecache.sim.upstream import ScriptedCore
from edgecache.telemetry.metrics import Metrics
from edgecache.upstream.client import UpstreamClient


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def start_core() -> AsyncIterator[Callable[..., Awaitable[ScriptedCore]]]:
    running: list[ScriptedCore] = []

    async def start(*models: str) -> ScriptedCore:
        settings = Core(models=models or ("m",), time_to_first_token=0, inter_token_latency=0, dialect="vllm")
        running.append(ScriptedCore(settings, SystemClock()))
        await running[-1].start()
        return running[-1]

    yield start
    for core in running:
        await core.stop()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """Where nobody listens, for as long as the test runs."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
async def make_clients(dead_url) -> AsyncIterator[Callable[..., list[UpstreamClient]]]:
    """Clients named a, b, c …, each from its URL, or from its settings."""
    made: list[UpstreamClient] = []

    def build(*upstreams: str | dict[str, Any]) -> list[UpstreamClient]:
        clients = []
        for name, upstream in zip("abcdef", upstreams, strict=False):
            own = {"url": upstream} if isinstance(upstream, str) else upstream
            settings = Upstream(**{"name": name, "url": dead_url, "dialect": "vllm", "connect_timeout": 1.0, **own})
            clients.append(UpstreamClient(settings, metrics=Metrics()))
        made.extend(clients)
        return clients

    yield build
    for client in made:
        await client.close()


@pytest.fixture
def make_pool(make_clients, clock) -> Callable[..., Pool]:
    return lambda *upstreams: Pool(make_clients(*upstreams), clock=clock)


async def names(pool: Pool, model: str) -> str:
    return "".join((await pool.offers(model)).names)


def asked(pool: Pool, name: str) -> float:
    """How often the list of models was had from `name`."""
    return pool.client(name)._requests.labels(name, "200")._value.get()


# ---------------------------------------------------------------------------------------------- who serves what
async def test_offers_are_those_who_serve_the_model_in_configured_order(make_pool) -> None:
    pool = make_pool({"models": ("x", "y")}, {"models": ("x",)}, {"models": ("y",)})
    assert await names(pool, "x") == "ab"
    assert await names(pool, "y") == "ac"
    assert (await pool.offers("y")).upstream.tolist() == [0, 2]


async def test_offers_stay_the_same_object_while_nothing_changes(make_pool) -> None:
    pool = make_pool({"models": ("x",)})
    assert await pool.offers("x") is await pool.offers("x")
    assert pool.known("x") is await pool.offers("x")
    assert pool.known("y") is None


async def test_an_upstream_without_a_list_is_asked_once_and_believed(start_core, make_pool, clock) -> None:
    core = await start_core("m1", "m2")
    pool = make_pool(core.url)
    assert [await names(pool, model) for model in ("m1", "m2", "m1")] == ["a"] * 3
    clock.advance(3600)  # a model once seen needs no second question
    await core.stop()
    assert await names(pool, "m2") == "a"


async def test_a_configured_list_wins_over_what_the_upstream_says(start_core, make_pool) -> None:
    pool = make_pool({"url": (await start_core("m1", "m2")).url, "models": ("m1",)})
    with pytest.raises(ModelNotFound):
        await pool.offers("m2")
    assert await pool.models() == [("m1", "a")]


async def test_an_unknown_model_names_those_there_are(start_core, make_pool) -> None:
    pool = make_pool((await start_core("m2")).url, {"models": ("m1",)})
    with pytest.raises(ModelNotFound, match=r"'gpt' does not exist here\. Served: m1, m2\.") as caught:
        await pool.offers("gpt")
    assert caught.value.param == "model"


async def test_a_model_that_appears_is_found_once_the_list_is_old(start_core, make_pool, clock) -> None:
    core = await start_core("m1")
    pool = make_pool(core.url)
    with pytest.raises(ModelNotFound):
        await pool.offers("m2")
    core.configure(models=["m1", "m2"])
    with pytest.raises(ModelNotFound):  # asked a moment ago
        await pool.offers("m2")
    clock.advance(10)
    assert await names(pool, "m2") == "a"


async def test_an_upstream_that_cannot_say_what_it_serves_is_tried_anyway(start_core, make_pool) -> None:
    pool = make_pool({}, (await start_core("m1")).url)
    assert await names(pool, "anything") == "a"
    assert pool.known("anything") is await pool.offers("anything")
    assert await names(pool, "m1") == "b"  # only who is known to serve it


async def test_once_it_says_what_it_serves_it_is_tried_for_nothing_else(start_core, make_pool, clock) -> None:
    pool = make_pool({})
    assert await names(pool, "m1") == "a"
    pool.heard("a", [("m2", "x")])
    assert pool.known("m1") is None
    assert await names(pool, "m2") == "a"


async def test_guesses_do_not_pile_up(make_pool) -> None:
    pool = make_pool({})
    for number in range(300):
        await pool.offers(f"model-{number}")
    assert pool.known("model-0") is None
    assert pool.known("model-299") is not None


async def test_who_is_left_out_is_not_waited_for(start_core, make_pool, clock) -> None:
    core = await start_core("m1")
    pool = make_pool(core.url)
    pool.board.out[0] = clock.monotonic() + 5
    assert await names(pool, "other") == "a"  # it may serve it: nobody has asked
    assert asked(pool, "a") == 0
    clock.advance(5)
    with pytest.raises(ModelNotFound):
        await pool.offers("other")
    assert asked(pool, "a") == 1


async def test_many_at_once_ask_for_the_list_only_once(start_core, make_pool) -> None:
    core = await start_core("m1")
    pool = make_pool(core.url)
    await asyncio.gather(*(pool.offers("m1") for _ in range(20)))
    assert asked(pool, "a") == 1


async def test_one_that_hangs_holds_up_nobody_else_who_asks(start_core, make_pool) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        pool = make_pool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", (await start_core("m1")).url)
        question = asyncio.gather(pool.offers("m1"))
        async with asyncio.timeout(4):  # the silent one is given up after 5 s
            while pool.known("m1") is None:
                await asyncio.sleep(0.01)
            assert (await pool.offers("m1")).names == ("b",)
        assert not question.done()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question


async def test_nobody_there_is_said_so(make_pool) -> None:
    with pytest.raises(NoUpstream):
        await make_pool().offers("x")


async def test_adapters_are_models_except_where_a_request_names_them_in_a_field_of_its_own(make_pool) -> None:
    pool = make_pool({"models": ("m",), "loras": ("l",)}, {"models": ("m",), "loras": ("l",), "dialect": "trtllm"})
    assert await names(pool, "l") == "a"
    assert await names(pool, "m") == "ab"
    assert await pool.models() == [("m", "a"), ("l", "a")]


async def test_facts_of_a_model_come_from_its_own_table(make_pool) -> None:
    dear = UpstreamModel(name="x", price=Price(input=3.0), context=8)
    pool = make_pool({"models": ("x", "y"), "model": (dear,), "price": Price(input=1.0)})
    assert (await pool.offers("x")).price_in.tolist() == [3e-6]
    assert (await pool.offers("x")).context.tolist() == [8]
    assert (await pool.offers("y")).price_in.tolist() == [1e-6]


# ---------------------------------------------------------------------------------------------- what is listed
async def test_a_model_stays_known_while_its_upstream_is_down(start_core, make_pool, clock) -> None:
    core = await start_core("m1")
    pool = make_pool(core.url)
    assert await pool.models() == [("m1", "vllm")]
    await core.stop()
    clock.advance(60)
    assert await pool.models() == [("m1", "vllm")]


async def test_a_list_that_is_suddenly_empty_is_a_failure_not_news(make_pool) -> None:
    pool = make_pool({})
    pool.heard("a", [("m1", "dynamo")])
    before = await pool.offers("m1")
    pool.heard("a", [])
    assert await pool.offers("m1") is before
    pool.heard("a", [("m2", "dynamo")])
    assert pool.known("m1") is None


async def test_one_that_has_never_served_anything_is_believed(make_pool) -> None:
    pool = make_pool({})
    pool.heard("a", [])
    with pytest.raises(ModelNotFound, match="none at the moment"):
        await pool.offers("m1")


async def test_what_was_heard_of_one_that_is_gone_does_not_matter(make_pool) -> None:
    pool = make_pool({"models": ("x",)})
    pool.heard("b", [("m1", "b")])
    assert await pool.models() == [("x", "a")]


async def test_models_are_listed_once_each_in_order(start_core, make_pool) -> None:
    pool = make_pool({"models": ("x", "y")}, (await start_core("y", "z")).url)
    assert await pool.models() == [("x", "a"), ("y", "a"), ("z", "vllm")]


async def test_no_list_at_all_is_an_error(make_pool) -> None:
    with pytest.raises(UpstreamError):
        await make_pool({}).models()
    assert await make_pool().models() == []


async def test_neighbours_are_told_of_but_not_asked_for_a_list(start_core, make_pool) -> None:
    core = await start_core("theirs")
    pool = make_pool({"models": ("ours",)}, {"url": core.url, "dialect": "edgecache"})
    assert await pool.models() == [("ours", "a")]
    assert asked(pool, "b") == 0
    assert await names(pool, "theirs") == "b"  # a request for a model that nobody else has does ask
    assert await pool.models() == [("ours", "a"), ("theirs", "vllm")]
    assert await pool.models(neighbours=False) == [("ours", "a")]


async def test_two_neighbours_that_ask_each_other_do_not_wait_for_each_other(make_clients, clock) -> None:
    pools: list[Pool] = []

    def answering(index: int) -> Callable[..., Awaitable[None]]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            listed = await pools[index].models()
            body = orjson.dumps({"data": [{"id": name, "owned_by": owner} for name, owner in listed]})
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()

        return answer

    servers = [await asyncio.start_server(answering(index), "127.0.0.1", 0) for index in range(2)]
    urls = [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    neighbours = [{"url": url, "dialect": "edgecache"} for url in reversed(urls)]
    pools += [Pool(make_clients({"models": ("m",)}, neighbour), clock=clock) for neighbour in neighbours]
    async with asyncio.timeout(4), servers[0], servers[1]:
        results = await asyncio.gather(*(pool.offers("new") for pool in pools), return_exceptions=True)
    assert [type(result) for result in results] == [ModelNotFound] * 2


# ---------------------------------------------------------------------------------------------- replacing
async def test_replacing_hands_back_who_is_no_longer_used(start_core, make_pool, make_clients) -> None:
    one, two = (await start_core("m1")).url, (await start_core("m2")).url
    pool = make_pool(one)
    assert await names(pool, "m1") == "a"
    old, new = pool.clients, make_clients(two)
    assert pool.replace(new) == list(old)
    assert pool.clients == tuple(new)
    assert pool.client("a") is new[0]
    with pytest.raises(ModelNotFound):  # the name is the same, the place is not
        await pool.offers("m1")
    assert pool.replace(new) == []


async def test_a_list_outlives_a_change_that_does_not_concern_it(start_core, make_pool, make_clients) -> None:
    core = await start_core("m1")
    pool = make_pool(core.url)
    assert await names(pool, "m1") == "a"
    await core.stop()
    pool.replace(make_clients({"url": core.url, "max_concurrency": 3}))
    assert await names(pool, "m1") == "a"


async def test_what_was_learned_outlives_a_reload_and_news_of_others(make_pool, make_clients) -> None:
    pool = make_pool({"models": ("x",)}, {"models": ("x",)}, {})
    (await pool.offers("x")).decode[:] = [0.1, 0.2]
    pool.heard("c", [("x", "c")])
    assert (await pool.offers("x")).decode.tolist()[:2] == [0.1, 0.2]
    gone, stays = pool.clients[0], pool.clients[1]
    fresh = make_clients({"models": ("x",), "name": "z"})
    pool.replace([*fresh, stays])
    assert (await pool.offers("x")).names == ("z", "b")
    assert (await pool.offers("x")).decode.tolist()[1] == 0.2
    pool.replace([gone])
    pool.replace([stays])  # nobody whom `x` was learned of was left meanwhile
    assert (await pool.offers("x")).decode.tolist() != [0.2]


async def test_the_board_keeps_what_is_known_of_those_who_stay(make_pool, make_clients) -> None:
    pool = make_pool({}, {})
    pool.board.rtt[:] = [0.1, 0.2]
    pool.board.inflight[:] = [1, 2]
    before = pool.board
    pool.replace([pool.clients[1], *make_clients({"name": "new"})])
    assert pool.board is not before
    assert pool.board.names == ("b", "new")
    assert pool.board.rtt[0] == 0.2
    assert pool.board.inflight.tolist() == [2, 0]


# ---------------------------------------------------------------------------------------------- limits
async def test_limits_come_from_the_settings(make_pool) -> None:
    pool = make_pool({"max_concurrency": 4, "tokens_per_minute": 600}, {})
    assert pool.board.slots.tolist() == [4, inf]
    assert pool.board.room.tolist() == [600, inf]


async def test_room_comes_back_with_time_and_never_beyond_a_minutes_worth(make_pool, clock) -> None:
    pool = make_pool({"tokens_per_minute": 600}, {}, {"tokens_per_minute": 60})
    pool.board.room[[0, 2]] -= [700, 30]
    clock.advance(6)
    pool.refill(clock.monotonic())
    assert pool.board.room.tolist() == pytest.approx([-40, inf, 36])
    pool.refill(clock.monotonic())
    assert pool.board.room[0] == pytest.approx(-40)  # no time has passed
    clock.advance(600)
    pool.refill(clock.monotonic())
    assert pool.board.room.tolist() == [600, inf, 60]


async def test_a_reload_gives_no_tokens_away(make_pool, make_clients, clock) -> None:
    pool = make_pool({"tokens_per_minute": 600}, {"tokens_per_minute": 600}, {})
    pool.board.room[:2] = [10, 20]
    pool.replace(make_clients({"tokens_per_minute": 900}, {}, {"tokens_per_minute": 60}))
    assert pool.board.room.tolist() == [10, inf, 60]
    clock.advance(60)
    pool.refill(clock.monotonic())
    assert pool.board.room.tolist() == [900, inf, 60]
