"""Poisoning through the front door: two API keys of one tenant, over HTTP, and what each can make the other get."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from edgecache.config import Admission, Auth, AuthTenant, Cache
from tests.conftest import MODEL, Pop

QUESTION = "How do I change the oil of my old red car"
REWORDED = "how do i change the oil of my old red car?"
KEYS = Auth(mode="keys", tenant=(AuthTenant(id="acme", keys=("ann", "bob")), AuthTenant(id="other", keys=("eve",))))


def cache(**admission: Any) -> Cache:
    return Cache(admission=Admission(**admission))


class Client:
    """Asks a POP with one key, as one end user, or both, or neither."""

    def __init__(self, pop: Pop, key: str = "", **body: str) -> None:
        self._pop = pop
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._body = body

    async def ask(self, question: str = QUESTION, **headers: str) -> httpx.Headers:
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}], **self._body}
        async with httpx.AsyncClient(base_url=self._pop.url) as client:
            answer = await client.post("/v1/chat/completions", json=body, headers=self._headers | headers)
        assert answer.status_code == 200, answer.text
        await settled(self._pop)
        return answer.headers

    async def status(self, question: str = QUESTION, **headers: str) -> str:
        return (await self.ask(question, **headers))["x-edgecache-status"]


async def settled(pop: Pop) -> None:
    """Until everything that an answer sets off is done."""
    await pop.settled()
    await asyncio.gather(*(task for task in pop.daemon.tasks if task.get_name() == "sighting"))


def counted(pop: Pop, result: str) -> float:
    found = pop.daemon.metrics.registry.get_sample_value("edgecache_cache_fills_total", {"result": result})
    return found or 0.0


async def told(pop: Pop, entry: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        report: dict[str, Any] = (await client.get(f"/admin/v1/entries/{entry}")).json()
        return report


@pytest.fixture
async def strict(start_pop, core) -> Pop:
    return await start_pop(core.url, auth=KEYS, cache=cache(second_sighting=True))


async def test_by_default_one_writer_serves_the_others_and_is_named_with_the_entry(start_pop, core) -> None:
    pop = await start_pop(core.url, auth=KEYS)
    ann, bob = Client(pop, "ann"), Client(pop, "bob")
    assert await ann.status() == "MISS"
    hit = await bob.ask(REWORDED)
    assert hit["x-edgecache-status"] == "SEMANTIC_HIT"
    report = await told(pop, hit["x-edgecache-entry"])
    assert report["writer"] == pop.daemon.services.auth.tenant("Bearer ann").writer
    assert report["held"] == ""


async def test_an_answer_reaches_other_wordings_from_the_second_sighting_on(strict: Pop) -> None:
    ann, bob = Client(strict, "ann"), Client(strict, "bob")
    assert await ann.status() == "MISS"
    assert counted(strict, "second-sighting") == 1
    for _ in range(3):  # ann alone changes nothing, whatever she does
        assert await ann.status() == "HIT"
        assert await ann.status(**{"EdgeCache-Mode": "refresh"}) == "REFRESH"
    assert strict.daemon.index.count == 0
    hit = await bob.ask()
    assert hit["x-edgecache-status"] == "HIT"
    assert counted(strict, "released") == 1
    assert strict.daemon.index.count == strict.daemon.store.stats().vectors == 1
    assert await bob.status(REWORDED) == "SEMANTIC_HIT"
    assert (await told(strict, hit["x-edgecache-entry"]))["held"] == ""


async def test_a_poisoned_entry_never_reaches_another_wording(strict: Pop) -> None:
    ann, bob = Client(strict, "ann"), Client(strict, "bob")
    assert await ann.status() == "MISS"
    assert await bob.status(REWORDED) == "MISS"
    assert await ann.status(REWORDED) == "HIT"  # and so the second wording has been seen twice
    assert strict.daemon.index.count == 1


async def test_what_was_let_in_stays_in_when_it_is_renewed_and_after_a_restart(start_pop, core, tmp_path: Path) -> None:
    sections = {"auth": KEYS, "cache": cache(second_sighting=True), "data": tmp_path / "kept"}
    pop = await start_pop(core.url, **sections)
    await Client(pop, "ann").ask()
    await Client(pop, "ann").ask("What is the tallest mountain of Peru")
    await Client(pop, "bob").ask()
    assert await Client(pop, "ann").status(**{"EdgeCache-Mode": "refresh"}) == "REFRESH"
    assert await Client(pop, "ann").status(REWORDED) == "SEMANTIC_HIT"
    await pop.daemon.stop()
    again = await start_pop(core.url, **sections)
    assert await Client(again, "bob").status(REWORDED) == "SEMANTIC_HIT"
    assert await Client(again, "bob").status("what is the tallest mountain of peru?") == "MISS"
    assert await Client(again, "bob").status("What is the tallest mountain of Peru") == "HIT"
    assert await Client(again, "ann").status("what is the tallest mountain of Peru") == "SEMANTIC_HIT"


async def test_a_new_answer_for_another_writer_is_a_second_sighting_too(strict: Pop) -> None:
    assert await Client(strict, "ann").status() == "MISS"
    assert await Client(strict, "bob").status(**{"EdgeCache-Mode": "refresh"}) == "REFRESH"
    assert counted(strict, "stored") == 1
    assert await Client(strict, "ann").status(REWORDED) == "SEMANTIC_HIT"


async def test_a_detour_by_the_exact_tier_lets_nothing_in(strict: Pop) -> None:
    ann = Client(strict, "ann")
    assert await ann.status(**{"EdgeCache-Mode": "exact"}) == "MISS"
    assert await ann.status(**{"EdgeCache-Mode": "refresh"}) == "REFRESH"
    assert await ann.status() == "HIT"
    assert strict.daemon.index.count == 0


async def test_a_writer_at_its_limits_cannot_take_the_questions_of_others_out_of_the_semantic_tier(
    start_pop, core
) -> None:
    pop = await start_pop(core.url, auth=KEYS, cache=cache(max_entries_per_writer=1, max_fills_per_minute=1))
    ann, bob = Client(pop, "ann"), Client(pop, "bob")
    await bob.ask()
    await ann.ask("What is the tallest mountain of Peru")
    assert await ann.status(**{"EdgeCache-Mode": "refresh"}) == "REFRESH"
    assert await bob.status(REWORDED) == "SEMANTIC_HIT"


async def test_a_repeat_that_takes_the_short_cut_is_a_sighting_too(strict: Pop) -> None:
    ann, bob = Client(strict, "ann"), Client(strict, "bob")
    await ann.ask()
    await bob.ask()  # known to the short cut from now on
    entry = (await bob.ask())["x-edgecache-entry"]
    async with httpx.AsyncClient(base_url=strict.admin_url) as client:
        await client.post("/admin/v1/purge", json={"entry": int(entry)})
    assert await ann.status() == "MISS"
    assert strict.daemon.index.count == 0
    assert await bob.status() == "HIT"
    assert strict.daemon.index.count == 1


async def test_end_users_of_one_key_are_writers_where_the_operator_says_so(start_pop, core) -> None:
    strict = await start_pop(core.url, auth=KEYS, cache=cache(second_sighting=True, writer="end_user"))
    one, two, unnamed = Client(strict, "ann", user="1"), Client(strict, "ann", user="2"), Client(strict, "ann")
    assert [await each.status() for each in (one, one, unnamed)] == ["MISS", "HIT", "HIT"]
    assert strict.daemon.index.count == 0
    assert await two.status() == "HIT"
    assert strict.daemon.index.count == 1


async def test_without_keys_a_second_request_will_do_unless_end_users_are_named(start_pop, core) -> None:
    pop = await start_pop(core.url, cache=cache(second_sighting=True))
    anybody, one, two = Client(pop), Client(pop, safety_identifier="1"), Client(pop, safety_identifier="2")
    assert [await anybody.status(), await anybody.status()] == ["MISS", "HIT"]
    assert pop.daemon.index.count == 1
    other = "What is the tallest mountain of Peru"
    assert [await one.status(other), await one.status(other)] == ["MISS", "HIT"]
    assert pop.daemon.index.count == 1
    assert await two.status(other) == "HIT"
    assert pop.daemon.index.count == 2


async def test_a_pin_of_an_operator_lets_in_what_was_held(strict: Pop) -> None:
    await Client(strict, "ann").ask()
    entry = (await Client(strict, "ann").ask())["x-edgecache-entry"]
    async with httpx.AsyncClient(base_url=strict.admin_url) as client:
        assert (await client.post(f"/admin/v1/entries/{entry}/pin")).status_code == 200
    assert (await told(strict, entry))["held"] == ""
    assert await Client(strict, "ann").status(REWORDED) == "SEMANTIC_HIT"


async def test_turning_the_option_off_lets_held_answers_in_at_their_next_hit(strict: Pop) -> None:
    await Client(strict, "ann").ask()
    strict.daemon.pipeline.settings = msgspec.structs.replace(strict.daemon.pipeline.settings, admission=Admission())
    assert await Client(strict, "ann").status() == "HIT"
    assert strict.daemon.index.count == 1


async def test_a_writer_at_its_limit_fills_the_exact_tier_only(start_pop, core) -> None:
    pop = await start_pop(core.url, auth=KEYS, cache=cache(max_entries_per_writer=2))
    ann, bob = Client(pop, "ann"), Client(pop, "bob")
    for number in range(4):
        assert await ann.status(f"{QUESTION} part {number}") == "MISS"
    assert (counted(pop, "stored"), counted(pop, "writer-entries")) == (2, 2)
    assert pop.daemon.index.count == pop.daemon.store.stats().vectors == 2
    hit = await ann.ask(f"{QUESTION} part 3")
    assert hit["x-edgecache-status"] == "HIT"
    assert (await told(pop, hit["x-edgecache-entry"]))["held"] == "writer-entries"
    assert await bob.status(f"{QUESTION} part 9") == "MISS"
    assert pop.daemon.index.count == 3
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        await client.post("/admin/v1/purge", json={"entry": int(await entry_of(ann, f"{QUESTION} part 0"))})
    assert await ann.status(f"{QUESTION} part 7") == "MISS"
    assert counted(pop, "stored") == 4


async def entry_of(client: Client, question: str) -> str:
    return (await client.ask(question))["x-edgecache-entry"]


async def test_the_limit_also_holds_for_what_a_second_sighting_lets_in(start_pop, core) -> None:
    pop = await start_pop(core.url, auth=KEYS, cache=cache(second_sighting=True, max_entries_per_writer=1))
    for number in range(3):
        await Client(pop, "ann").ask(f"{QUESTION} part {number}")
        await Client(pop, "bob").ask(f"{QUESTION} part {number}")
    assert pop.daemon.index.count == 1
    assert counted(pop, "released") == 1


async def test_a_writer_in_a_hurry_fills_the_exact_tier_only(start_pop, core) -> None:
    pop = await start_pop(core.url, auth=KEYS, cache=cache(max_fills_per_minute=2))
    for number in range(4):
        assert await Client(pop, "ann").status(f"{QUESTION} part {number}") == "MISS"
    assert (counted(pop, "stored"), counted(pop, "writer-rate")) == (2, 2)
    assert await Client(pop, "bob").status(f"{QUESTION} part 9") == "MISS"
    assert counted(pop, "stored") == 3
    assert await Client(pop, "ann").status(f"{QUESTION} part 3") == "HIT"


async def test_caps_lock_nobody_up_where_there_are_no_writers(start_pop, core) -> None:
    pop = await start_pop(core.url, cache=cache(max_entries_per_writer=1, max_fills_per_minute=1))
    for number in range(5):
        assert await Client(pop).status(f"{QUESTION} part {number}") == "MISS"
    assert counted(pop, "stored") == pop.daemon.index.count == 5


async def test_a_question_beyond_the_window_is_not_held_back_from_what_it_cannot_do(strict: Pop) -> None:
    long = "word " * 5000
    entry = (await Client(strict, "ann").ask(long), await Client(strict, "ann").ask(long))[1]["x-edgecache-entry"]
    assert (await told(strict, entry))["held"] == ""
    assert strict.daemon.index.count == 0


@pytest.mark.parametrize(("name", "gone"), [("ann", True), ("bob", False)])
async def test_all_that_a_key_has_written_can_be_purged_and_nothing_else(
    start_pop, core, name: str, gone: bool
) -> None:
    pop = await start_pop(core.url, auth=KEYS)
    for body in ({}, {"user": "1"}, {"user": "2"}):
        await Client(pop, "ann", **body).ask(f"{QUESTION} {body}")
    writer = pop.daemon.services.auth.tenant(f"Bearer {name}").writer
    async with httpx.AsyncClient(base_url=pop.admin_url) as client:
        assert (await client.post("/admin/v1/purge", json={"writer": writer})).status_code == 200
    for body in ({}, {"user": "1"}, {"user": "2"}):
        assert await Client(pop, "bob", **body).status(f"{QUESTION} {body}") == ("MISS" if gone else "HIT")
