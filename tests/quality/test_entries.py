from edgecache import config
from edgecache.quality import entries
from edgecache.quality.datasets import Stream
from edgecache.quality.kit import Kit
from edgecache.quality.stream import Rules

MORE = [f"what is thing {n} for" for n in range(50)]
FIXED = Rules("cosine", config.HitPolicy(policy="similarity", similarity=0.7, floor=0.3), sample=0.0, misses=False)


def test_fills_are_nested_and_name_what_is_known() -> None:
    fills = entries.fillings(MORE, {MORE[7]: "known"}, (10, 50, 80), 100, 3)
    assert [len(fill.ids) for fill in fills] == [10, 50, 50]
    assert set(fills[0].ids) < set(fills[1].ids)
    assert set(fills[1].ids) == set(range(100, 150))
    names = dict(zip(fills[1].ids, fills[1].sets, strict=True))
    assert names[107] == "known"
    assert len(set(names.values())) == 50


def test_errors_are_counted_at_each_size(kit: Kit, paraphrase: Stream) -> None:
    # Every question is there in the order of its words, for another answer: the fuller, the more errors.
    more = [" ".join([*text.split()[-1:], *text.split()[:-1]]) for text in paraphrase.texts]
    room = kit.room(paraphrase, more)
    fills = entries.fillings(more, {}, (0, 20, len(more)), len(paraphrase.texts), 0)
    (row,) = entries.run(room, paraphrase, fills, [FIXED], requests=100, seeds=(0, 1))
    wrong = [each["wrong"]["rate"] for each in row["sizes"]]
    assert [each["wrong"]["total"] for each in row["sizes"]] == [200, 200, 200]
    assert wrong[0] < wrong[-1]
    assert row["flat"] is False
    (same,) = entries.run(room, paraphrase, [fills[0]] * 2, [FIXED], requests=100, seeds=(0, 1))
    assert same["flat"] is True
    assert same["growth"]["value"] == 0
