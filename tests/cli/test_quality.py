import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from edgecache.cli import main
from edgecache.errors import EdgeCacheError

ROWS = [("tea in Ulm", 1), ("Tea in Ulm!", 1), ("tea in Ulm", 1), ("fish in Cork", 2)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "stream_own.jsonl"
    file.write_text("".join(json.dumps({"prompt": text, "set": name}) + "\n" for text, name in ROWS))
    pair = {"set": "qqp", "a": "tea in Ulm", "b": "Tea in Ulm!", "label": 1}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    return tmp_path


def quality(*words: str) -> Result:
    return CliRunner().invoke(main.app, ["bench", "quality", *words])


def test_datasets_tells_what_is_there(data: Path) -> None:
    told = json.loads(quality("datasets", "--data", str(data), "--json").stdout)
    assert told["streams"][0]["exact repeats"]["count"] == 1
    assert "stream_own" in quality("datasets", "--data", str(data)).stdout


def test_a_stream_is_played_and_reported(data: Path) -> None:
    words = ["stream", "--data", str(data / "stream_own.jsonl"), "--model", "hashing", "--cache", str(data / "c")]
    told = json.loads(quality(*words, "--json").stdout)
    columns = {each["name"]: each for each in told["streams"]["stream_own"]["columns"]}
    assert columns["exact only"]["hits"]["count"] == 1
    assert "exact only" in quality(*words).stdout


def test_ci_fails_what_errs_too_much_or_hits_too_little(data: Path) -> None:
    words = ["ci", "--data", str(data / "stream_own.jsonl"), "--model", "hashing", "--cache", str(data / "c")]
    well = quality(*words, "--max-wrong", "0.01", "--min-hit", "0.5")
    assert well.exit_code == 0, well.output
    poor = quality(*words, "--max-wrong", "0.01", "--min-hit", "0.6")
    assert isinstance(poor.exception, EdgeCacheError)
    assert "hit rate" in poor.exception.message


def test_data_that_is_not_there_is_a_plain_error(tmp_path: Path) -> None:
    for words in (["datasets", "--data", str(tmp_path)], ["ci", "--data", str(tmp_path / "x"), "--max-wrong", "0",
                  "--min-hit", "0", "--model", "hashing"]):  # fmt: skip
        assert type(quality(*words).exception) is EdgeCacheError


def test_options_out_of_bounds_are_wrong_usage(data: Path) -> None:
    assert quality("ci", "--data", str(data), "--max-wrong", "2", "--min-hit", "0").exit_code == 2
    assert quality("stream").exit_code == 2
