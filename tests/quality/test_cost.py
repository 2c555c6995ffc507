from edgecache.clock import ManualClock
from edgecache.embed.base import Pair
from edgecache.quality import cost


def test_passes_are_timed_question_by_question(engine) -> None:
    asked = [[Pair("a b", "b a")] * 2, [Pair("a b", "c d")] * 4]
    found = cost.measure(engine, asked, ManualClock())
    assert found["questions"] == 2
    assert found["candidates, mean"] == 3
    assert found["median ms"] == 0


def test_nothing_to_time(engine) -> None:
    assert cost.measure(engine, [], ManualClock()) == {"questions": 0}
