import random

import msgspec
import pytest

from edgecache.router.lessons import Lessons
from edgecache.router.picking import Pick
from tests.router.conftest import asked
from tests.router.test_picking import errand_of


@pytest.fixture
async def scene(make_broker, dead_url):
    """A pool, a pick of its only upstream, and the offers that learn."""
    broker = make_broker({"a": dead_url})
    await broker.known_to_be(overhead=0.1, decode=0.01, spread=0.02)
    errand = errand_of(broker, asked())
    pick = broker.dispatcher._picker.pick(errand)
    assert isinstance(pick, Pick)
    errand.close()
    return broker.pool, pick, broker.pool.known("edge-test")


def work(offers, tokens: int) -> float:
    return float(offers.overhead[0] + offers.prefill[0] * tokens)


async def test_a_first_token_teaches_the_time_to_it(scene) -> None:
    pool, pick, offers = scene
    Lessons(pool).first(pick, 100, pick.choice.ttft[0] + 1.0)
    assert work(offers, 100) > 0.2
    assert offers.seen[0] == 101
    assert offers.decode[0] == 0.01


async def test_what_comes_after_teaches_the_rate(scene) -> None:
    pool, pick, offers = scene
    for _ in range(50):
        Lessons(pool).rest(pick, 100, 5.0)
    assert offers.decode[0] == pytest.approx(0.05, rel=0.05)
    assert work(offers, 100) == pytest.approx(0.1)


async def test_answers_that_come_whole_teach_both_so_that_the_sum_is_right(scene) -> None:
    pool, pick, offers = scene
    lessons = Lessons(pool)
    for number in range(400):
        generated = (20, 200, 80)[number % 3]
        lessons.whole(pick, 100, generated, 0.3 + 0.004 * generated)
    for generated in (20, 200):
        total = work(offers, 100) + offers.decode[0] * generated
        assert total == pytest.approx(0.3 + 0.004 * generated, rel=0.5)


async def test_however_many_answers_come_whole_chance_shifts_no_time_from_one_part_to_the_other(scene) -> None:
    pool, pick, offers = scene
    lessons, draw = Lessons(pool), random.Random(1)
    for _ in range(2000):
        rtt, alone = pick.choice.ttft[0] - pick.choice.work[0], work(offers, 100)
        now = msgspec.structs.replace(pick.choice, ttft=(rtt + alone,), work=(alone,))
        generated = draw.randrange(20, 200)
        lessons.whole(pick._replace(choice=now), 100, generated, (0.1 + 0.01 * generated) * draw.uniform(0.7, 1.6))
    assert 0.07 < work(offers, 100) < 0.2
    assert 0.008 < offers.decode[0] < 0.015


async def test_embeddings_have_only_a_first_time(scene) -> None:
    pool, pick, offers = scene
    for _ in range(30):
        Lessons(pool).whole(pick, 100, 0, 0.5)
    assert offers.decode[0] == 0.01
    assert work(offers, 100) > 0.2


async def test_who_is_given_up_teaches_only_that_it_takes_longer(scene) -> None:
    pool, pick, offers = scene
    expected = pick.choice.ttft[0]
    Lessons(pool).late(pick, 100, expected * 0.9, stream=True)
    Lessons(pool).late(pick, 100, pick.choice.total[0] * 0.99, stream=False)
    assert offers.seen[0] == 100
    Lessons(pool).late(pick, 100, expected + 1.0, stream=True)
    assert work(offers, 100) > 0.2


async def test_an_upstream_that_is_gone_learns_nothing(scene) -> None:
    pool, pick, offers = scene
    pool.replace([])
    lessons = Lessons(pool)
    lessons.first(pick, 100, 9.0)
    lessons.rest(pick, 100, 9.0)
    lessons.whole(pick, 100, 100, 9.0)
    lessons.late(pick, 100, 9.0, stream=True)
    assert (offers.seen[0], offers.decode[0]) == (100, 0.01)
