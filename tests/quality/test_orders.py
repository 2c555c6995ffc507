from pathlib import Path

import pytest

from edgecache import config
from edgecache.quality import orders
from edgecache.quality.datasets import Stream
from edgecache.quality.intervals import Share
from edgecache.quality.kit import Kit
from edgecache.quality.orders import Job, Kept


def test_an_order_is_a_shuffle_that_its_seed_repeats() -> None:
    assert sorted(orders.shuffled(50, 1)) == list(range(50))
    assert orders.shuffled(50, 1) == orders.shuffled(50, 1) != orders.shuffled(50, 2)


def test_each_budget_is_played_in_the_same_order(kit: Kit, paraphrase: Stream) -> None:
    policy = config.HitPolicy(floor=0.3)
    found = list(orders.run(kit.room(paraphrase), paraphrase, policy, (0.01, 0.2), seed=4))
    assert [each.budget for each in found] == [0.01, 0.2]
    assert {each.seed for each in found} == {4}
    assert found[0].hits.rate <= found[1].hits.rate


def test_a_summary_counts_orders_within_the_budget() -> None:
    kept = [Kept(seed, 0.01, Share(30, 100), Share(wrong, 100)) for seed, wrong in enumerate((0, 1, 2))]
    kept.append(Kept(0, 0.05, Share(50, 100), Share(5, 100)))
    small, large = orders.summary(kept)
    assert small["kept"]["count"] == 2
    assert small["worst"] == 0.02
    assert small["wrong rate"] == 0.01
    assert large["kept"]["rate"] == 1.0


@pytest.mark.slow
def test_processes_find_what_one_alone_finds(folder: Path, tmp_path: Path) -> None:
    settings = config.Embed(model="hashing")
    job = Job(
        file=folder / "stream_repeat.jsonl.gz",
        limit=100,
        cache=tmp_path / "cache",
        embed=settings,
        policy=config.HitPolicy(),
        budgets=(0.01,),
        seeds=tuple(range(6)),
    )
    steps: list[tuple[int, int]] = []
    found = orders.shared_out(job, 2, lambda _what, done, total: steps.append((done, total)))
    assert found == sorted(orders.work(job), key=lambda each: each.seed)
    assert steps[-1] == (6, 6)
    assert [each.seed for each in found] == list(range(6))
