import importlib.util
import sys
from pathlib import Path

import pytest

from edgecache.errors import ConfigError
from edgecache.quality import datasets
from edgecache.quality.datasets import Clusters, Stream

TRAINING = Path(__file__).parents[2] / "models" / "verifier" / "data.py"


def test_a_stream_numbers_its_questions_in_order_of_first_sight() -> None:
    found = datasets.stream("s", [("a", "1"), ("b", "1"), ("a", "1"), ("c", "2")])
    assert found.texts == ("a", "b", "c")
    assert found.asked == (0, 1, 0, 2)
    assert (found.repeats.count, found.oracle.count) == (1, 2)


def test_a_part_of_a_stream_is_what_reading_so_much_gives(folder: Path, repeat: Stream) -> None:
    assert repeat.part(50) == datasets.read_stream(folder / "stream_repeat.jsonl.gz", 50)
    assert repeat.part(None) is repeat
    assert repeat.part(50).digest != repeat.digest


def test_clusters_join_chains() -> None:
    clusters = Clusters([("a", "b"), ("c", "d"), ("b", "c"), ("x", "y")])
    assert len({clusters.root(text) for text in "abcd"}) == 1
    assert clusters.root("x") == clusters.root("y") != clusters.root("a")
    assert clusters.root("alone") == "alone"


def test_the_test_part_is_the_one_that_training_leaves_alone(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("verifier_data", TRAINING)
    assert spec is not None
    assert spec.loader is not None
    training = importlib.util.module_from_spec(spec)
    sys.modules["verifier_data"] = training  # dataclasses look their module up
    spec.loader.exec_module(training)
    parts = training.split(folder, 0)
    streams = [datasets.read_stream(folder / f"{name}.jsonl.gz") for name in datasets.STREAMS]
    ours = {(pair.a, pair.b) for pair in datasets.held_out(datasets.read_pairs(folder / datasets.PAIRS), streams)}
    assert ours == {(pair.a, pair.b) for pair in parts.test}
    assert ours
    seen = {text for pair in [*parts.train, *parts.calibration] for text in (pair.a, pair.b)}
    assert seen
    assert not seen & {text for pair in ours for text in pair}


def test_duplicates_share_an_answer_and_streams_name_it(folder: Path, paraphrase: Stream) -> None:
    found = datasets.answers(datasets.read_pairs(folder / datasets.PAIRS), [paraphrase])
    assert found["where can i buy bread in Ulm"] == found["in Ulm where can i buy bread"] == "0-bread-Ulm"
    elsewhere = found["how long does wool keep in Graz"]
    assert elsewhere == found["in Graz how long does wool keep"]
    assert elsewhere not in paraphrase.sets


def test_what_is_in_the_data_is_told(folder: Path, paraphrase: Stream, repeat: Stream) -> None:
    pairs = datasets.read_pairs(folder / datasets.PAIRS)
    told = datasets.describe_stream(paraphrase, pairs)
    assert told["exact repeats"]["count"] == 0
    assert told["oracle hits"]["count"] == 120
    assert told["look-alikes"]["count"] > 0
    assert told["questions that training may have seen"] == 0
    rows = {(row["set"], row["part"]): row for row in datasets.describe_pairs(pairs, [paraphrase, repeat])}
    assert rows["checklist:number", "test"]["pairs"] == 20
    assert rows["mrpc", "training"]["same"] == 10
    assert rows["qqp", "test"]["pairs"] + rows["qqp", "training"]["pairs"] == 96 + 94


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "pairs.jsonl"
    broken.write_text('{"a": "x"}\n')
    with pytest.raises(ConfigError, match=r"pairs\.jsonl"):
        datasets.read_pairs(broken)
    broken.write_text("no json\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        datasets.read_pairs(broken)


def test_further_questions_are_optional(tmp_path: Path, folder: Path) -> None:
    assert datasets.questions(tmp_path / "absent.jsonl.gz") == []
    assert len(datasets.questions(folder / datasets.MORE_QUESTIONS)) == 30
