from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.clock import ManualClock
from edgecache.router.board import Board
from edgecache.router.traffic import Traffic


class Place:
    """What has a board: here not a pool, so that boards can be changed at will."""

    def __init__(self, *names: str) -> None:
        self.board = Board(names)

    def reload(self, *names: str) -> None:
        board = Board(names)
        board.take_over(self.board)
        self.board = board


def column(place: Place, name: str) -> dict[str, float]:
    return {each: float(getattr(place.board, name)[row]) for each, row in place.board.row.items()}


def test_a_slot_shows_until_it_is_left_and_its_tokens_are_corrected(clock) -> None:
    place = Place("a", "b")
    place.board.room[:] = 1000.0
    traffic = Traffic(place, clock)
    slot = traffic.enter("b", 300, stream=True)
    assert column(place, "inflight") == {"a": 0, "b": 1}
    assert column(place, "unanswered") == {"a": 0, "b": 1}
    assert column(place, "room") == {"a": 1000, "b": 700}
    slot.answered()
    assert (column(place, "unanswered")["b"], column(place, "inflight")["b"]) == (0, 1)
    assert slot.leave(250)
    assert (column(place, "inflight")["b"], column(place, "room")["b"]) == (0, 750)
    assert not slot.leave(250)
    slot.answered()
    assert (column(place, "inflight")["b"], column(place, "room")["b"]) == (0, 750)


def test_the_oldest_is_the_stream_that_has_waited_longest_for_its_first_token(clock) -> None:
    place = Place("a")
    traffic = Traffic(place, clock)
    traffic.enter("a", 0, stream=False)
    assert place.board.oldest[0] == inf
    slots, sent = [], []
    for _ in range(3):
        clock.advance(1)
        sent.append(clock.monotonic())
        slots.append(traffic.enter("a", 0, stream=True))
    assert place.board.oldest[0] == sent[0]
    slots[1].answered()
    assert place.board.oldest[0] == sent[0]
    slots[0].leave()
    assert place.board.oldest[0] == sent[2]
    slots[2].answered()
    assert place.board.oldest[0] == inf
    assert column(place, "unanswered") == {"a": 0}


def test_what_is_in_progress_survives_a_reload_and_its_end_is_seen_on_the_new_board(clock) -> None:
    place = Place("a", "b")
    traffic = Traffic(place, clock)
    slots = [traffic.enter(name, 0, stream=True) for name in "abb"]
    place.reload("c", "b")
    assert column(place, "inflight") == {"c": 0, "b": 2}
    for slot in slots:
        slot.leave()
    assert column(place, "inflight") == {"c": 0, "b": 0}
    assert column(place, "oldest") == {"c": inf, "b": inf}


def test_streams_that_wait_are_seen_again_once_their_upstream_is_back(clock) -> None:
    place = Place("a")
    traffic = Traffic(place, clock)
    stream = traffic.enter("a", 0, stream=True)
    place.reload()
    place.reload("a")
    whole = traffic.enter("a", 0, stream=False)
    assert [column(place, each)["a"] for each in ("inflight", "unanswered", "oldest")] == [2, 1, clock.monotonic()]
    place.reload()
    stream.answered()
    place.reload("a")
    whole.leave()
    assert [column(place, each)["a"] for each in ("inflight", "unanswered", "oldest")] == [1, 0, inf]


def test_an_upstream_that_was_taken_out_and_put_back_never_counts_below_nothing(clock) -> None:
    place = Place("a")
    traffic = Traffic(place, clock)
    slots = [traffic.enter("a", 0, stream=True) for _ in range(2)]
    place.reload("b")
    place.reload("a")
    slots[0].leave()
    assert column(place, "inflight") == {"a": 1}
    slots[1].leave()
    assert column(place, "inflight") == {"a": 0}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 3)), max_size=30), st.randoms())
def test_after_all_have_left_in_any_order_nothing_is_left_but_the_tokens(requests, rng) -> None:
    place, clock = Place("a", "b"), ManualClock()
    place.board.room[:] = 1e6
    traffic = Traffic(place, clock)
    slots = [(traffic.enter(name, 10, stream=stream), name, took) for name, stream, took in requests]
    assert sum(column(place, "inflight").values()) == len(requests)
    rng.shuffle(slots)
    for slot, _, took in slots:
        if took > 1:
            slot.answered()
        slot.leave(took)
        slot.leave(took)
    assert column(place, "inflight") == column(place, "unanswered") == {"a": 0, "b": 0}
    for name in "ab":
        assert column(place, "room")[name] == pytest.approx(1e6 - sum(took for _, at, took in slots if at == name))
