"""Both ways to choose come to the same, whatever there is to choose from."""

import random
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.config import ServiceLevel
from edgecache.router import few, policy
from edgecache.router.board import Board
from edgecache.router.choice import Refusal
from edgecache.router.demand import Demand, Feature, Prefix
from edgecache.router.offers import Offers
from edgecache.router.predict import forecast, order, predict, rank
from edgecache.types import Tier
from tests.router.market import NOW, Draws, choose, market, upstream

PLACES = ("EU", "US")
seeds = st.integers(0, 2**32)


def invented(draw: random.Random, count: int) -> tuple[Board, Offers]:
    """Upstreams of all kinds and states; half of the markets are told no load at all."""
    board, offers = market(
        *(
            upstream(
                f"u{row}",
                draw.choice([0.0, 1.0, 1.05, 3.0]),
                tier=draw.choice(list(Tier)),
                jurisdiction=draw.choice(PLACES),
                context=draw.choice([0, 1500, 8192]),
                features=draw.choice([None, (), ("tools",)]),
                max_concurrency=draw.choice([0, 0, 2, 16]),
                gpu=draw.choice(["", "H100"]),
                loras=draw.choice([(), ("ours",)]),
            )
            for row in range(count)
        )
    )
    tells = draw.random() < 0.5
    for row in range(count):
        board.inflight[row] = draw.choice([0, 0, 1, 2, 7, 40])
        board.unanswered[row] = min(board.inflight[row], draw.choice([0, 1]))
        board.oldest[row] = draw.choice([inf, inf, NOW - 0.2, NOW - 3])
        board.rtt[row] = draw.choice([nan, draw.uniform(0.001, 0.2)])
        board.room[row] = draw.choice([inf, inf, 500.0])
        board.out[row] = draw.choice([0, 0, 0, NOW + 5, NOW - 5])
        board.ramp[row] = draw.choice([1, 1, 0.3])
        board.busy[row] = draw.choice([0, 0, 0, NOW + 1])
        if tells and draw.random() < 0.7:
            board.told[row] = NOW - draw.uniform(0, 20)
            board.queued[row], board.running[row] = draw.choice([nan, 0, 3]), draw.choice([nan, 0, 30, 900])
            board.capacity[row], board.kv[row] = draw.choice([nan, 0.5, 8, 5000]), draw.choice([nan, 0.5, 0.95, 1])
        offers.overhead[row] = draw.choice([0.02, 0.02, draw.uniform(0, 2)]) + row / 1000  # of others no two are alike
        offers.prefill[row], offers.decode[row] = draw.uniform(0, 1e-3), draw.uniform(0, 0.05)
        offers.spread[row] = draw.uniform(0, 0.5)
    return board, offers


def asked(draw: random.Random) -> Demand:
    return Demand(
        "m",
        prompt_tokens=draw.choice([0, 10, 1200, 4000]),
        output_tokens=draw.uniform(0, 400),
        counted=draw.random() < 0.5,
        limit=draw.choice([0, 0, 300]),
        features=draw.choice([0, 0, int(Feature.TOOLS)]),
        residency=frozenset(draw.choice([(), (), ("EU",), ("EU", "US")])),
        due=draw.choice([inf, inf, NOW + 60, NOW + 2]),
        budget=draw.choice([inf, inf, 1e-3]),
        hops=draw.choice([0, 0, 1]),
        gpu=draw.choice(["", "", "", "H100"]),
        lora=draw.choice(["", "", "", "ours"]),
        function=draw.choice(["", "", "u0", "nobody"]),
        prefixes=draw.choice([(), (Prefix(draw.randbytes(16), 256),)]),
        session=draw.randbytes(16),
    )


def had(draw: random.Random, count: int) -> np.ndarray | None:
    return draw.choice([None, np.zeros(count), np.array([draw.choice([0.0, 0.0, 256.0, 900.0]) for _ in range(count)])])


@settings(max_examples=400)
@given(seeds, st.integers(1, few.MOST))
def test_the_choice_of_few_is_that_on_columns(seed: int, count: int) -> None:
    draw = random.Random(seed)
    (board, offers), demand = invented(draw, count), asked(draw)
    level = ServiceLevel(ttft=draw.choice([0.05, 0.5, 2]), probability=0.9, share=draw.choice([0, 0.5, 1]))
    draws = Draws(lambda: draw.choice([0.0, 0.3, 0.999, draw.random()]))
    given = {"near": 0.1, "most_out": draw.choice([0.0, 0.5]), "now": NOW, "known": had(draw, count)}
    given["tried"] = frozenset(draw.sample(offers.names, draw.choice([0, 0, 1])))
    columns = policy.on_columns(offers, board, demand, level, draw=draws, **given)
    assert few.choose(offers, board, demand, level, draw=draws.again(), **given) == columns


@given(seeds, st.integers(1, few.MOST))
def test_what_is_forecast_of_a_row_is_what_is_predicted_in_its_column(seed: int, count: int) -> None:
    draw = random.Random(seed)
    (board, offers), demand, known = invented(draw, count), asked(draw), had(draw, count)
    prediction = predict(offers, board, demand, known, 0.9, NOW)
    seen = [
        forecast(offers, board, row, demand, 0.0 if known is None else float(known[row]), 0.9, NOW)
        for row in range(count)
    ]
    for field, column in prediction._asdict().items():
        assert [getattr(each, field) for each in seen] == column.tolist(), field
    assert order(seen) == rank(prediction, np.arange(count)).tolist()


def test_markets_are_invented_in_which_some_are_chosen_for_every_reason_and_some_refused() -> None:
    """What the two properties above would not notice: that they never get to see most of the rules."""
    reasons = set()
    for seed in range(3000):
        draw = random.Random(seed)
        count = draw.randint(1, few.MOST)
        (board, offers), demand = invented(draw, count), asked(draw)
        choice = choose(board, offers, demand, known=had(draw, count), draw=draw.random)
        reasons |= {choice.why, *choice.counts}
    assert reasons >= {"", "cheapest", "fastest", "function", "only", "trial", *set(Refusal) - {"tried"}}


@pytest.mark.parametrize("count", [few.MOST, few.MOST + 1])
def test_many_are_chosen_from_on_columns(count: int) -> None:
    board, offers = market(*(upstream(f"u{row}", 1 + row) for row in range(count)))
    assert choose(board, offers).names == ("u0", "u1", "u2", "u3")
