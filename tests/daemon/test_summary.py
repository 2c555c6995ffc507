from tests.conftest import Pop


async def test_it_says_what_a_pop_is_made_of(pop: Pop) -> None:
    summary = pop.daemon.summary()
    assert (summary.url, summary.admin_url) == (pop.url, pop.admin_url)
    assert summary.embedder == "hashing"
    assert summary.functions == "0 deployed"
    assert not summary.cache
