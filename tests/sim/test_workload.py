import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.errors import ConfigError
from edgecache.sim.workload import Question, load, oracle_hits

ROWS = [{"prompt": "Why?", "set": 0}, {"prompt": "Where?", "set": "b"}, {"prompt": "Why ever?", "set": 0}]


def write(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_questions_come_in_order_from_plain_and_compressed_files(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert load(path) == [Question("Why?", "0"), Question("Where?", "b"), Question("Why ever?", "0")]


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", json.dumps(ROWS[0]) + "\nnot json at all\n")
    assert load(path, 1) == [Question("Why?", "0")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ":2: not a JSON object"),
        ("[1]", ":2: not a JSON object"),
        ('{"prompt": "x"}', ":2: not a JSON object"),
        ('{"prompt": 3, "set": 0}', ':2: "prompt" must be text'),
        ('{"prompt": "", "set": 0}', ':2: "prompt" must be text'),
        ('{"prompt": "x", "set": []}', ':2: "prompt" must be text'),
    ],
)
def test_an_unusable_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path / "rows.jsonl", json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) + said in caught.value.message


def test_a_file_that_is_missing_cut_or_empty_is_named(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(json.dumps(ROWS[0]).encode() * 50)[:-9])
    for path in (tmp_path / "none.jsonl", cut, write(tmp_path / "text.gz", ""), write(tmp_path / "empty.jsonl", "\n")):
        with pytest.raises(ConfigError, match=path.name):
            load(path)


@given(st.lists(st.sampled_from("abcd")))
def test_the_oracle_hits_whenever_the_set_came_before(sets: list[str]) -> None:
    expected = sum(1 for at, name in enumerate(sets) if name in sets[:at])
    assert oracle_hits([Question("q", name) for name in sets]) == expected
