import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgecache.router.affinity import Affinity
from edgecache.router.demand import Demand, Prefix
from edgecache.router.predict import predict, rank
from tests.router.market import Fleet, Server, market, upstream

SHORT, LONG = Prefix(b"short", 100), Prefix(b"long", 400)
_, OFFERS = market(*(upstream(name) for name in "abc"))


def prompt(*prefixes: Prefix, tokens: int = 500, **fields) -> Demand:
    return Demand("m", prompt_tokens=tokens, prefixes=prefixes, **fields)


def test_an_upstream_knows_the_longest_prefix_that_it_has_read() -> None:
    affinity = Affinity()
    affinity.note(prompt(SHORT), "a", 0.0)
    affinity.note(prompt(SHORT, LONG), "b", 0.0)
    assert affinity.known(OFFERS, prompt(SHORT, LONG), 1.0).tolist() == [100, 400, 0]
    assert affinity.known(OFFERS, prompt(SHORT), 1.0).tolist() == [100, 100, 0]
    assert affinity.known(OFFERS, prompt(Prefix(b"else", 400)), 1.0).tolist() == [0, 0, 0]
    assert affinity.known(OFFERS, prompt(), 1.0).tolist() == [0, 0, 0]


def test_a_session_remembers_its_whole_prompt_for_its_own_tenant() -> None:
    affinity = Affinity()
    affinity.note(prompt(tokens=300, session=b"s", tenant="t"), "c", 0.0)
    assert affinity.known(OFFERS, prompt(session=b"s", tenant="t"), 1.0).tolist() == [0, 0, 300]
    assert affinity.known(OFFERS, prompt(session=b"s", tenant="u"), 1.0).tolist() == [0, 0, 0]
    assert affinity.known(OFFERS, prompt(session=b"s", tenant="t", tokens=200), 1.0).tolist() == [0, 0, 200]


def test_models_do_not_share_what_they_have_read() -> None:
    affinity = Affinity()
    affinity.note(Demand("other", prompt_tokens=500, prefixes=(LONG,)), "a", 0.0)
    assert not affinity.known(OFFERS, prompt(LONG), 1.0).any()


def test_what_was_read_is_forgotten_after_a_time_unless_it_is_read_again() -> None:
    affinity = Affinity(ttl=10.0)
    affinity.note(prompt(LONG), "a", 0.0)
    affinity.note(prompt(LONG), "b", 5.0)
    assert affinity.known(OFFERS, prompt(LONG), 10.0).tolist() == [400, 400, 0]
    assert affinity.known(OFFERS, prompt(LONG), 10.1).tolist() == [0, 400, 0]
    affinity.note(prompt(LONG), "a", 10.2)
    assert affinity.known(OFFERS, prompt(LONG), 20.2).tolist() == [400, 0, 0]


def test_upstreams_that_are_gone_are_passed_over() -> None:
    affinity = Affinity()
    affinity.note(prompt(LONG), "gone", 0.0)
    assert not affinity.known(OFFERS, prompt(LONG), 1.0).any()


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcdefghijklmnop")), max_size=200))
def test_memory_is_bounded_and_keeps_what_was_used_last(read) -> None:
    affinity = Affinity(entries=5)
    for time, (number, name) in enumerate(read):
        affinity.note(prompt(Prefix(b"%d" % number, 100)), name, float(time))
    assert len(affinity) <= 5
    assert all(len(holders) <= 8 for holders in affinity._held.values())
    latest = list(dict.fromkeys(number for number, _ in reversed(read)))[:5]
    assert {key[2] for key in affinity._held} == {b"%d" % number for number in latest}


def test_of_many_upstreams_that_have_read_a_prefix_the_latest_are_remembered() -> None:
    _, offers = market(*(upstream(f"u{row}") for row in range(10)))
    affinity = Affinity()
    for time, row in enumerate([0, 1, 2, 3, 4, 5, 6, 7, 0, 8, 9]):
        affinity.note(prompt(LONG), f"u{row}", float(time))
    assert np.flatnonzero(affinity.known(offers, prompt(LONG), 11.0)).tolist() == [0, 3, 4, 5, 6, 7, 8, 9]


def paced(rate: float, decode: float, tokens: int = 4000) -> Fleet:
    """Four upstreams, and requests that share all but a hundred tokens of their prompts."""
    demand = Demand("m", prompt_tokens=tokens, output_tokens=100.0, prefixes=(Prefix(b"system", tokens - 100),))
    fleet = Fleet([Server(decode=decode) for _ in range(4)], rate, demand=lambda _: demand)
    fleet.run(600 / rate)
    return fleet


def test_requests_with_one_prefix_stay_together_while_there_is_no_load() -> None:
    fleet = paced(rate=1.0, decode=0.002)
    shares = sorted(fleet.share(row) for row in range(4))
    assert shares[-1] > 0.9
    assert sum(each.ttft for each in fleet.seen[50:]) / len(fleet.seen[50:]) < 0.1


def test_requests_with_one_prefix_spread_once_more_are_in_progress_however_evenly_they_come() -> None:
    """Each is answered before the next comes, so that only those still being written say how loaded an upstream is."""
    fleet = paced(rate=12.0, decode=0.1)
    settled = fleet.seen[len(fleet.seen) // 3 :]
    shares = [sum(each.row == row for each in settled) / len(settled) for row in range(4)]
    assert max(shares) < 0.4, shares
    assert min(shares) > 0.1, shares


def test_a_full_upstream_is_not_chosen_for_what_it_has_read() -> None:
    board, offers = market(upstream("a", max_concurrency=10), upstream("b", max_concurrency=10))
    affinity = Affinity()
    affinity.note(prompt(LONG), "a", 0.0)
    board.inflight[0] = 10
    known = affinity.known(offers, prompt(LONG), 1.0)
    found = predict(offers, board, prompt(LONG), known, 0.9, 1.0)
    ranks = rank(found, np.arange(2))
    assert ranks[0] > ranks[1]
