"""The split that keeps evaluation honest: no question and no cluster on two sides."""

import gzip
import json
from pathlib import Path

from edgecache.quality.datasets import Clusters
from models.verifier.data import Pair, closures, questions, split


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def data(folder: Path) -> Path:
    """Forty chains of four questions each; the first ten touch a stream by one question."""
    pairs: list[dict[str, object]] = []
    for n in range(40):
        a, b, c, d = (f"question {n} {letter}" for letter in "abcd")
        pairs += [{"set": "qqp", "a": x, "b": y, "label": label} for x, y, label in ((a, b, 1), (b, c, 1), (c, d, 0))]
    pairs.append({"set": "checklist:names", "a": "Is Ann here?", "b": "Is Bob here?", "label": 0})
    pairs.append({"set": "mrpc", "a": "It rained.", "b": "Rain fell.", "label": 1})
    write(folder / "pairs.jsonl.gz", pairs)
    write(folder / "stream_repeat.jsonl.gz", [{"prompt": f"question {n} d", "set": n} for n in range(5)])
    write(folder / "stream_paraphrase.jsonl.gz", [{"prompt": f"question {n} a", "set": n} for n in range(5, 10)])
    return folder


def test_a_cluster_that_touches_a_stream_is_for_evaluation_alone(tmp_path: Path) -> None:
    parts = split(data(tmp_path), 0)
    assert {pair.a.split()[1] for pair in parts.test} == {str(n) for n in range(10)}
    assert len(parts.test) == 30


def test_no_question_is_on_two_sides(tmp_path: Path) -> None:
    parts = split(data(tmp_path), 0)
    sides = [set(questions(side)) for side in (parts.train, parts.calibration, parts.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 160
    assert len(parts.calibration) == 3 * 6


def test_templates_are_never_learned_from(tmp_path: Path) -> None:
    parts = split(data(tmp_path), 0)
    assert [pair.origin for pair in parts.checklist] == ["checklist:names"]
    assert [pair.origin for pair in parts.other] == ["mrpc"]


def test_the_split_depends_on_its_seed_alone(tmp_path: Path) -> None:
    folder = data(tmp_path)
    assert split(folder, 0) == split(folder, 0)
    assert split(folder, 0).calibration != split(folder, 1).calibration


def test_duplicates_of_duplicates_follow_unless_a_label_denies_them() -> None:
    chain = [Pair("a", "b", 1), Pair("b", "c", 1)]
    assert [{pair.a, pair.b} for pair in closures(chain, 0)] == [{"a", "c"}]
    assert closures([*chain, Pair("a", "c", 0)], 0) == []


def test_groups_join_over_any_chain() -> None:
    groups = Clusters()
    for a, b in (("a", "b"), ("c", "d"), ("b", "c"), ("x", "x")):
        groups.join(a, b)
    assert sorted(map(sorted, groups.members().values())) == [["a", "b", "c", "d"], ["x"]]
