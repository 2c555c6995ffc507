from math import inf

import numpy as np

from edgecache.router.board import Board


def test_what_is_not_known_yet_is_neither_full_nor_down_nor_slow() -> None:
    board = Board(["a", "b"])
    assert board.row == {"a": 0, "b": 1}
    assert (board.slots == inf).all()
    assert (board.room == inf).all()
    assert (board.oldest == inf).all()
    assert np.isnan(board.rtt).all()
    assert not board.out.any()
    assert (board.ramp == 1).all()


def test_after_a_reload_upstreams_keep_their_state_and_get_their_new_limits() -> None:
    old, new = Board(["a", "b", "gone"]), Board(["b", "fresh", "a"])
    old.inflight[:], old.rtt[:], old.out[:], old.slots[:] = [1, 2, 3], [0.1, 0.2, 0.3], [7, 8, 9], 4
    new.slots[:] = 5
    new.take_over(old)
    assert new.inflight.tolist() == [2, 0, 1]
    assert new.rtt[[0, 2]].tolist() == [0.2, 0.1]
    assert np.isnan(new.rtt[1])
    assert new.out.tolist() == [8, 0, 7]
    assert new.slots.tolist() == [5, 5, 5]


def test_a_board_takes_nothing_over_from_one_with_other_upstreams() -> None:
    old, new = Board(["a"]), Board(["b"])
    old.inflight[:] = 3
    new.take_over(old)
    assert new.inflight.tolist() == [0]
