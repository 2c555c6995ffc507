from dataclasses import replace

from edgecache.cache.exact import ExactTier
from edgecache.store.epochs import Kind, Selector


async def test_the_same_request_finds_its_answer_and_another_one_does_not(open_shelf, make_entry, make_key) -> None:
    shelf = await open_shelf()
    await shelf.store.put(make_entry("why"), None)
    tier = ExactTier(shelf.store)
    assert tier.lookup(make_key("why")).body == b"answer to why"
    assert tier.lookup(make_key("why not")) is None
    assert tier.lookup(make_key("why", tenant="other")) is None


async def test_a_digest_alone_does_not_reach_another_tenants_answer(open_shelf, make_entry, make_key) -> None:
    shelf = await open_shelf()
    await shelf.store.put(make_entry("why"), None)
    tier, key = ExactTier(shelf.store), make_key("why")
    assert tier.lookup(replace(key, tenant="other")) is None
    assert tier.lookup(replace(key, scope=bytes(16))) is None


async def test_stale_answers_are_returned_marked_and_purged_ones_are_not(open_shelf, make_entry, make_key) -> None:
    shelf = await open_shelf()
    await shelf.store.put(make_entry("why", expires=1.0), None)
    tier = ExactTier(shelf.store)
    await shelf.store.purge(Selector(Kind.ALL), soft=True)
    found = tier.lookup(make_key("why"))
    assert (found.expires, found.soft_purged) == (1.0, True)
    await shelf.store.purge(Selector(Kind.ALL))
    assert tier.lookup(make_key("why")) is None
