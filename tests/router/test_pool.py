import asyncio

import pytest

from edgecache.errors import ModelNotFound, NoUpstream, UpstreamError


async def picks(pool, model: str, times: int) -> str:
    return "".join([(await pool.pick(model)).name for _ in range(times)])


async def test_upstreams_take_turns_among_those_that_serve_the_model(start_core, make_pool) -> None:
    url = (await start_core()).url
    pool = make_pool((url, ("x", "y")), (url, ("x",)), (url, ("y",)))
    assert await picks(pool, "x", 4) == "abab"
    assert await picks(pool, "y", 3) == "aca"


async def test_turns_of_one_model_do_not_disturb_those_of_another(start_core, make_pool) -> None:
    url = (await start_core()).url
    pool = make_pool((url, ("x", "y")), (url, ("x", "y", "z")), (url, ("z",)))
    assert [(await pool.pick(model)).name for model in "xzxz"] == ["a", "b", "b", "c"]


async def test_an_upstream_without_a_list_is_asked_once_and_believed(start_core, make_pool, clock) -> None:
    core = await start_core("m1", "m2")
    pool = make_pool(core.url)
    asked = [(await pool.pick(model)).name for model in ("m1", "m2", "m1")]
    clock.advance(3600)
    asked.append((await pool.pick("m1")).name)  # a model once seen needs no second question
    assert asked == ["a"] * 4
    await core.stop()
    assert (await pool.pick("m2")).name == "a"


async def test_a_configured_list_wins_over_what_the_upstream_says(start_core, make_pool) -> None:
    core = await start_core("m1", "m2")
    pool = make_pool((core.url, ("m1",)))
    with pytest.raises(ModelNotFound):
        await pool.pick("m2")
    assert await pool.models() == [("m1", "a")]


async def test_an_unknown_model_names_those_there_are(start_core, make_pool, dead_url) -> None:
    pool = make_pool((await start_core("m2")).url, (dead_url, ("m1",)))
    with pytest.raises(ModelNotFound, match=r"'gpt' does not exist here\. Served: m1, m2\.") as caught:
        await pool.pick("gpt")
    assert caught.value.param == "model"


async def test_a_model_that_appears_is_found_once_the_list_is_old(start_core, make_pool, clock) -> None:
    core = await start_core("m1")
    pool = make_pool(core.url)
    with pytest.raises(ModelNotFound):
        await pool.pick("m2")
    core.configure(models=["m1", "m2"])
    with pytest.raises(ModelNotFound):  # asked a moment ago
        await pool.pick("m2")
    clock.advance(10)
    assert (await pool.pick("m2")).name == "a"


async def test_an_upstream_that_cannot_say_what_it_serves_is_tried_anyway(start_core, make_pool, dead_url) -> None:
    pool = make_pool(dead_url, (await start_core("m1")).url)
    assert (await pool.pick("anything")).name == "a"
    assert (await pool.pick("m1")).name == "b"  # who is known to serve it goes first


async def test_a_model_stays_known_while_its_upstream_is_down(start_core, make_pool, clock) -> None:
    core = await start_core("m1")
    pool = make_pool(core.url)
    assert await pool.models() == [("m1", "vllm")]
    await core.stop()
    clock.advance(60)
    assert await pool.models() == [("m1", "vllm")]


async def test_models_are_listed_once_each_in_order(start_core, make_pool) -> None:
    pool = make_pool(((await start_core()).url, ("x", "y")), (await start_core("y", "z")).url)
    assert await pool.models() == [("x", "a"), ("y", "a"), ("z", "vllm")]


async def test_no_list_at_all_is_an_error(make_pool, dead_url) -> None:
    with pytest.raises(UpstreamError):
        await make_pool(dead_url).models()
    assert await make_pool().models() == []


async def test_nobody_left_is_said_so(start_core, make_pool) -> None:
    pool = make_pool(((await start_core()).url, ("x",)))
    with pytest.raises(NoUpstream):
        await pool.pick("x", exclude={"a"})
    with pytest.raises(NoUpstream):
        await make_pool().pick("x")


async def test_many_at_once_ask_for_the_list_only_once(start_core, make_pool) -> None:
    core = await start_core("m1")
    pool = make_pool(core.url)
    await asyncio.gather(*(pool.pick("m1") for _ in range(20)))
    assert pool.clients[0]._requests.labels("a", "200")._value.get() == 1


async def test_replacing_hands_back_who_is_no_longer_used(start_core, make_pool) -> None:
    one, two = (await start_core("m1")).url, (await start_core("m2")).url
    pool = make_pool(one)
    assert (await pool.pick("m1")).name == "a"
    old, new = pool.clients, make_pool(two).clients
    assert pool.replace([*new]) == list(old)
    assert pool.clients == new
    with pytest.raises(ModelNotFound):
        await pool.pick("m1")
    assert pool.replace(new) == []


async def test_a_preferred_upstream_has_every_turn_if_it_serves_the_model(start_core, make_pool) -> None:
    url = (await start_core()).url
    pool = make_pool((url, ("m",)), (url, ("m",)), (url, ("other",)))
    assert [(await pool.pick("m", prefer="b")).name for _ in range(3)] == ["b"] * 3
    assert {(await pool.pick("m", prefer="c")).name for _ in range(2)} == {"a", "b"}
    assert (await pool.pick("m", prefer="b", exclude={"b"})).name == "a"
